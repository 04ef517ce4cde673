//! `tollgate catalog validate`.

use std::path::PathBuf;

use anyhow::bail;

use super::files::read;
use crate::cli::print::outln;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Catalog files (YAML)
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Checks every file, also after one that is wrong.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut refused = Vec::new();
    for path in &args.files {
        match read(path) {
            Ok(catalog) => {
                let definition = catalog.definition();
                outln!(
                    "{}: catalog {} is sound: {} plans, {} meters, {} features",
                    path.display(),
                    catalog.name(),
                    definition.plans.len(),
                    definition.meters.len(),
                    definition.features.len(),
                );
            }
            Err(error) => refused.push(error),
        }
    }
    match refused.as_slice() {
        [] => Ok(()),
        _ => bail!(refused.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("; ")),
    }
}
