//! Something wrong with a file, before its place is looked up.

use super::{
    error::CatalogError,
    field_path::FieldPath,
    node::{Node, Place},
};

/// Something wrong with one field.
#[derive(Debug)]
pub(super) struct Finding {
    pub path: FieldPath,
    /// Where the key stands, when the key itself is what is wrong.
    pub key_place: Option<Place>,
    pub problem: String,
    pub remedy: String,
}

/// Most findings of one file that are told one by one.
const TOLD_MAX: usize = 500;

/// `findings` with their places in `file`, in the order of the lines.
pub(super) fn located(file: &str, root: &Node, mut findings: Vec<Finding>) -> Vec<CatalogError> {
    let beyond = findings.len().saturating_sub(TOLD_MAX);
    findings.truncate(TOLD_MAX);
    let mut errors: Vec<_> = findings
        .into_iter()
        .map(|finding| {
            let (place, field) = finding.path.locate(root);
            let place = finding.key_place.unwrap_or(place);
            CatalogError {
                file: file.to_owned(),
                line: place.line,
                column: place.column,
                field,
                problem: finding.problem,
                remedy: finding.remedy,
            }
        })
        .collect();
    errors.sort_by_key(|error| (error.line, error.column));
    if beyond > 0 {
        errors.push(CatalogError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            field: String::new(),
            problem: format!("has {beyond} more mistakes"),
            remedy: "mend those above first".to_owned(),
        });
    }
    errors
}
