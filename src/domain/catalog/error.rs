//! What is wrong with a catalog file, where, and what to do about it.

use std::fmt;

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogError {
    pub file: String,
    /// From 1; 0 when the place is not known.
    pub line: u64,
    /// From 1; 0 when the place is not known.
    pub column: u64,
    /// Path of the field, list items by their name (`plans[pro].limits.queries`); empty when the
    /// file could not be read that far.
    pub field: String,
    pub problem: String,
    pub remedy: String,
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for CatalogError {}

/// The one of `candidates` that `text` is most likely meant to be, if any is near.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        // A third of the letters may differ; beyond that a suggestion misleads.
        .filter(|(distance, candidate)| *distance * 3 <= text.len().max(candidate.len()))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The remedy for a name that is none of `candidates`.
pub fn did_you_mean<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    /// More than these are not listed.
    const LISTED_MAX: usize = 40;
    if let Some(near) = nearest(text, candidates.clone()) {
        return format!("did you mean {near}?");
    }
    let all: Vec<_> = candidates.into_iter().take(LISTED_MAX).collect();
    if all.is_empty() {
        "there is none to choose from".to_owned()
    } else {
        format!("use one of {}", all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_suggested() {
        let names = ["limits", "features", "prices"];
        assert_eq!(nearest("limts", names), Some("limits"));
        assert_eq!(nearest("price", names), Some("prices"));
        assert_eq!(nearest("colour", names), None);
        assert_eq!(did_you_mean("colour", names), "use one of limits, features, prices");
    }
}
