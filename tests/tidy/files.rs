//! What a file may be called, how long it may be, and what may not be left in it.

use std::{fs, path::Path};

use proc_macro2::{TokenStream, TokenTree};

use super::source::rust_files;

const LINES_MAX: usize = 500;
const FOLDERS: [&str; 6] = ["src", "tests", "benches", "loadtest/src", "fuzz/src", "fuzz/tests"];
/// Names that say nothing about what a file is for.
const EMPTY_NAMES: [&str; 10] = [
    "common",
    "helper",
    "helpers",
    "manager",
    "misc",
    "shared_utils",
    "stuff",
    "tools",
    "util",
    "utils",
];
/// Macros that stand for work that was not done.
const STUBS: [&str; 2] = ["todo", "unimplemented"];

/// The problems of all Rust files below `root`, one line each.
pub fn check(root: &Path) -> Vec<String> {
    let files = FOLDERS.iter().flat_map(|folder| rust_files(&root.join(folder)));
    let problems = files.flat_map(|file| {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        check_file(&name, &text)
    });
    problems.collect()
}

fn check_file(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        problems.push(format!("{name}: has {lines} lines, more than {LINES_MAX}"));
    }
    for part in Path::new(name).with_extension("").iter().map(|part| part.to_str().unwrap()) {
        if EMPTY_NAMES.contains(&part) {
            problems.push(format!("{name}: {part:?} says nothing; name the piece"));
        }
    }
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    problems.extend(
        stubs(tokens).into_iter().map(|(stub, line)| {
            format!("{name}:{line}: {stub}! stands for work that was not done")
        }),
    );
    problems
}

fn stubs(tokens: TokenStream) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut before: Option<(String, usize)> = None;
    for token in tokens {
        match &token {
            TokenTree::Group(group) => found.extend(stubs(group.stream())),
            TokenTree::Punct(mark) if mark.as_char() == '!' => {
                found.extend(before.take().filter(|(name, _)| STUBS.contains(&name.as_str())));
            }
            _ => {}
        }
        before = match token {
            TokenTree::Ident(name) => Some((name.to_string(), name.span().start().line)),
            _ => None,
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_the_limit_is_found_and_one_at_the_limit_is_not() {
        assert_eq!(check_file("src/a.rs", &"\n".repeat(LINES_MAX)), [] as [String; 0]);
        let found = check_file("src/a.rs", &"\n".repeat(LINES_MAX + 1));
        assert_eq!(found, ["src/a.rs: has 501 lines, more than 500"]);
    }

    #[test]
    fn a_name_that_says_nothing_is_found_for_files_and_folders() {
        for name in ["src/leases/utils.rs", "src/common/mod.rs"] {
            assert_eq!(check_file(name, "").len(), 1, "{name}");
        }
        assert_eq!(check_file("src/utilities_of_a_plan.rs", ""), [] as [String; 0]);
    }

    #[test]
    fn a_stub_is_found_in_code_and_not_in_words() {
        let found = check_file("src/a.rs", "fn f() {\n    todo!()\n}\n// todo!()\n");
        assert_eq!(found, ["src/a.rs:2: todo! stands for work that was not done"]);
        assert_eq!(check_file("src/a.rs", "const WORDS: &str = \"todo!()\";"), [] as [String; 0]);
    }
}
