//! The modules of `src`, by path.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A module's path below the crate: `["leases", "cell"]`.
pub type ModulePath = Vec<String>;

/// One file of `src`.
pub struct Module {
    pub path: ModulePath,
    /// As shown in problems.
    pub file: String,
    pub text: String,
}

/// All Rust files below `folder`.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The modules below `src`, except the two roots, which only list them.
pub fn modules(root: &Path) -> Vec<Module> {
    let src = root.join("src");
    let files = rust_files(&src).into_iter().filter_map(|file| {
        let below = file.strip_prefix(&src).unwrap();
        let path = module_path(below)?;
        Some(Module {
            path,
            file: format!("src/{}", below.display()),
            text: fs::read_to_string(&file).unwrap(),
        })
    });
    files.collect()
}

/// `leases/cell.rs` and `leases/cell/mod.rs` are both the module `leases::cell`.
fn module_path(below: &Path) -> Option<ModulePath> {
    let mut path: ModulePath =
        below.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    let is_root = path.len() == 1 && (path[0] == "lib" || path[0] == "main");
    (!is_root).then_some(path)
}

#[test]
fn a_folder_with_mod_rs_is_the_module_of_its_name() {
    assert_eq!(module_path(Path::new("leases/mod.rs")).unwrap(), ["leases"]);
    assert_eq!(module_path(Path::new("leases/cell.rs")).unwrap(), ["leases", "cell"]);
    assert_eq!(module_path(Path::new("lib.rs")), None);
}
