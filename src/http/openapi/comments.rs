//! What the protos say in words.

use std::collections::HashMap;

use prost_types::FileDescriptorProto;

/// The comments of one file, by the path that descriptors give to what they stand above.
pub struct Comments(HashMap<Vec<i32>, String>);

/// Numbers of fields in descriptors, which paths are made of.
pub const MESSAGE: i32 = 4;
pub const ENUM: i32 = 5;
pub const SERVICE: i32 = 6;
pub const FIELD: i32 = 2;
pub const VALUE: i32 = 2;
pub const METHOD: i32 = 2;

impl Comments {
    /// The comments of `file`.
    pub fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = locations.filter_map(|location| {
            let text = location.leading_comments.as_deref()?;
            Some((location.path.clone(), paragraphs(text)))
        });
        Self(comments.collect())
    }

    /// What is said of the thing at `path`; nothing, as empty text.
    pub fn at(&self, path: &[usize]) -> &str {
        let path: Vec<i32> = path.iter().filter_map(|part| i32::try_from(*part).ok()).collect();
        self.0.get(&path).map_or("", String::as_str)
    }
}

/// A comment with its paragraphs on one line each.
fn paragraphs(text: &str) -> String {
    let paragraphs = text.split("\n\n").flat_map(|block| block.split("\n \n"));
    let lines = paragraphs.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// The first sentence, without its full stop.
pub fn first_sentence(text: &str) -> &str {
    let end = text.find(". ").or_else(|| text.find("? ").map(|at| at + 1));
    let first = end.map_or(text, |end| &text[..end]);
    first.lines().next().unwrap_or_default().trim_end_matches('.')
}

#[test]
fn a_summary_is_the_first_sentence() {
    assert_eq!(first_sentence("May it? Looks, by `mode`."), "May it?");
    assert_eq!(first_sentence("Gives back. Safe to repeat."), "Gives back");
    assert_eq!(first_sentence("All features."), "All features");
}
