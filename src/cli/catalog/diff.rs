//! `tollgate catalog diff`.

use std::path::PathBuf;

use super::{File, read};
use crate::domain::catalog::diff::CatalogDiff;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    file: File,
    /// Compare with this file
    #[arg(long)]
    against: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let after = read(&args.file.file)?;
    let before = read(&args.against)?;
    let diff = CatalogDiff::between(Some(&before), &after);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&diff)?);
    } else {
        print!("{diff}");
    }
    Ok(())
}
