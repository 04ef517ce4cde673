//! What a document is of: the commit, the command and the machine.

use std::{env, fs, path::Path, process::Command, thread};

/// What was measured, with what and on what, in a sentence each. Changes of `document` itself are none
/// of the tree.
pub fn describe(document: &Path) -> String {
    format!("{} Command: `{}`. {}.", commit(document), command(), machine())
}

/// The commit of the working tree; that of the programs, where they were built just before.
fn commit(document: &Path) -> String {
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "Commit unknown.".to_owned();
    };
    let besides = format!(":(exclude){}", document.display());
    let status = ["status", "--porcelain", "--untracked-files=no", "--", "."];
    // A document outside of the tree is none that git could leave out.
    let changes = git(&status.into_iter().chain([&*besides]).collect::<Vec<_>>());
    match changes.or_else(|| git(&status)).as_deref() {
        Some("") => format!("Commit {commit}."),
        Some(_) => format!("Commit {commit}, with changes that are not committed."),
        None => format!("Commit {commit}; whether the tree had changes is unknown."),
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    answer(Command::new("git").args(arguments))
}

/// What a program says of its version.
pub fn version(program: &Path) -> Option<String> {
    answer(Command::new(program).arg("--version"))
}

/// What a command prints; `None` when there is no such program, or it fails.
fn answer(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// This process' own, the program without the directories that it is in.
fn command() -> String {
    let mut words: Vec<_> =
        env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(program) = words.first_mut()
        && let Some(name) = Path::new(&*program).file_name()
    {
        *program = name.to_string_lossy().into_owned();
    }
    words.join(" ")
}

/// Cores, processor, memory and kernel in one line, as Linux tells them.
fn machine() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("a processor without a name", |(_, model)| model);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    let gib = kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / f64::from(1 << 20);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, {gib:.0} GiB, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_says_nothing() {
        assert_eq!(version(Path::new("/no/such/program")), None);
    }

    #[test]
    fn the_command_is_told_without_the_directories_of_the_program() {
        let told = command();
        let program = told.split(' ').next().unwrap();
        assert!(program.starts_with("tollgate_loadtest-") && !program.contains('/'), "{told}");
    }
}
