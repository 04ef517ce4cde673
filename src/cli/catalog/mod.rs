//! `tollgate catalog`: checks, compares, stores and shows catalogs.

mod diff;
mod validate;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::domain::catalog::{Catalog, error::CatalogError};

/// Checks, compares, stores and shows catalogs.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Says everything that is wrong with catalog files
    Validate(validate::Args),
    /// Says what a catalog file would change
    Diff(diff::Args),
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Validate(args) => validate::run(&args),
        Command::Diff(args) => diff::run(&args),
    }
}

/// Reads and checks a file; what is wrong with it goes to standard error, a line each.
fn read(path: &Path) -> anyhow::Result<Catalog> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the catalog file {}", path.display()))?;
    Catalog::parse(&path.display().to_string(), &text).or_else(|errors| refuse(path, &errors))
}

fn refuse<T>(path: &Path, errors: &[CatalogError]) -> anyhow::Result<T> {
    for error in errors {
        eprintln!("{error}");
    }
    let mistakes = if errors.len() == 1 { "mistake" } else { "mistakes" };
    bail!("{} has {} {mistakes}", path.display(), errors.len())
}

/// A catalog's file, as several commands take it.
#[derive(clap::Args, Debug)]
struct File {
    /// A catalog file (YAML)
    file: PathBuf,
}
