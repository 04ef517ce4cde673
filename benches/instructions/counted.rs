//! Counting by callgrind.

use std::{fs, hint::black_box, process::Command};

use super::CALLS_OF;

/// Calls that are counted. What a call does once in a while, such as an allocator's rounds, is part
/// of its figure.
pub const CALLS: u64 = 2_000;

/// What callgrind counts within; not inlined, since it is known to callgrind by its name.
#[inline(never)]
pub fn counted_call(call: &mut dyn FnMut()) {
    call();
    // Keeps this from being a jump into the call, which would not come back here.
    black_box(());
}

/// Whether there is a callgrind, on a machine whose figures can be compared.
pub fn is_possible() -> bool {
    let asked = Command::new("valgrind").arg("--version").output();
    cfg!(target_arch = "x86_64") && asked.is_ok_and(|output| output.status.success())
}

/// Instructions of one call of a path.
pub fn instructions_of(name: &str) -> u64 {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let counts = dir.path().join("counts");
    let program = std::env::current_exe().expect("the place of this program");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg("--toggle-collect=*counted_call*")
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(program)
        .args([CALLS_OF, name]);
    let output = valgrind.output().expect("valgrind, which scripts/setup installs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{valgrind:?}: {told}");
    let counts = fs::read_to_string(&counts).expect("what callgrind counted");
    let total = total(&counts).unwrap_or_else(|| panic!("{valgrind:?} counted nothing: {told}"));
    total / CALLS
}

/// All that was counted, in callgrind's format.
fn total(counts: &str) -> Option<u64> {
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: "))?;
    total.trim().parse().ok().filter(|total| *total > 0)
}
