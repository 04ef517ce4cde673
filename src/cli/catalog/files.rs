//! Catalog files as the commands read them, and what is told when one cannot be used.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::{
    api::catalogs::ApplyError,
    domain::catalog::{Catalog, error::CatalogError},
};

/// Reads and checks a file; what is wrong with it goes to standard error, a line each.
pub(super) fn read(path: &Path) -> anyhow::Result<Catalog> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the catalog file {}", path.display()))?;
    Catalog::parse(&path.display().to_string(), &text).map_err(|errors| refusal(path, &errors))
}

/// Tells what is wrong with a file, and sums it up.
pub(super) fn refusal(path: &Path, errors: &[CatalogError]) -> anyhow::Error {
    for error in errors {
        eprintln!("{error}");
    }
    let mistakes = if errors.len() == 1 { "mistake" } else { "mistakes" };
    anyhow::anyhow!("{} has {} {mistakes}", path.display(), errors.len())
}

/// Tells why a file cannot be applied.
pub(super) fn not_applied(path: &Path, error: ApplyError) -> anyhow::Error {
    match error {
        ApplyError::Refused(errors) => refusal(path, &errors),
        other => anyhow::Error::from(other).context(format!("cannot apply {}", path.display())),
    }
}

/// A catalog's file, as several commands take it.
#[derive(clap::Args, Debug)]
pub(super) struct File {
    /// A catalog file (YAML)
    pub(super) file: PathBuf,
}
