//! The inputs that a target begins with.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where inputs are kept, a folder for each target.
fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The inputs of a target, in the order of their names. Few, and a part of the repository.
///
/// # Panics
///
/// When the folder is there and cannot be read: a target that begins with nothing proves nothing.
pub fn read(target: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder(target)) else { return vec![] };
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("a corpus is readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a corpus is readable")).collect()
}

/// Keeps an input where a person finds it, and says where; copied into the corpus, it is replayed
/// by every run.
pub fn keep(target: &str, kind: &str, number: usize, input: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz").join(target);
    let path = folder.join(format!("{kind}-{number}"));
    // Beside the failure itself this is a convenience: what cannot be written is still printed.
    let _ = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input));
    path
}
