//! `tollgate catalog`, through the binary.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use crate::fixture::Processes;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/catalogs/{name}.yaml"))
}

fn tollgate(arguments: &[&str]) -> Output {
    Processes::tollgate(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A copy of a shipped catalog with pieces of its text replaced.
fn edited(dir: &Path, name: &str, edits: &[(&str, &str)]) -> PathBuf {
    let mut catalog = std::fs::read_to_string(shipped(name)).unwrap();
    for (piece, replacement) in edits {
        assert!(catalog.contains(piece), "{piece:?} is not in {name}");
        catalog = catalog.replacen(piece, replacement, 1);
    }
    let path = dir.join(format!("{name}.yaml"));
    std::fs::write(&path, catalog).unwrap();
    path
}

#[test]
fn all_shipped_catalogs_are_sound() {
    let names = ["assistant", "factory", "hosting", "listings", "mailer"];
    let paths = names.map(|name| shipped(name).display().to_string());
    let mut arguments = vec!["catalog", "validate"];
    arguments.extend(paths.iter().map(String::as_str));
    let output = tollgate(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), names.len());
}

#[test]
fn a_broken_catalog_ends_with_1_and_names_each_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let edits = [("limit: 10 GB", "limit: 10 TB"), ("grace: 5 GB", "grase: 5 GB")];
    let path = edited(dir.path(), "hosting", &edits).display().to_string();
    let output = tollgate(&["catalog", "validate", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let told = text(&output.stderr);
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    let catalog = std::fs::read_to_string(&path).unwrap();
    let line = catalog.lines().position(|line| line.ends_with("limit: 10 TB")).unwrap() + 1;
    let place = format!("{path}:{line}:16: plans[starter].limits.disk.limit: ");
    assert!(lines[0].starts_with(&place), "{told}");
    assert!(lines[1].ends_with("grase: is not a field here; did you mean grace?"), "{told}");
    assert_eq!(lines[2], format!("tollgate: {path} has 2 mistakes"));
}

#[test]
fn two_files_are_compared_without_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = edited(dir.path(), "hosting", &[("overage: 0.15", "overage: 0.18")]);
    let (new, old) = (path.display().to_string(), shipped("hosting").display().to_string());
    let output = tollgate(&["catalog", "diff", &new, "--against", &old]);
    assert_eq!(
        text(&output.stdout),
        "catalog hosting\nplan starter: new version; subscribers keep theirs\n  \
         ~ limits.disk.overage.rate: \"0.15\" -> \"0.18\"\n"
    );
    let output = tollgate(&["catalog", "diff", &new, "--against", &old, "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["plans"][0]["changes"][0]["after"], "0.18");
}
