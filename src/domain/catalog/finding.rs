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

/// `findings` with their places in `file`, in the order of the lines.
pub(super) fn located(file: &str, root: &Node, findings: Vec<Finding>) -> Vec<CatalogError> {
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
    errors
}
