//! `tollgate catalog diff`.

use std::path::PathBuf;

use super::files::{File, not_applied, read, refusal};
use crate::{
    api::catalogs,
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
    },
    domain::catalog::diff::CatalogDiff,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    file: File,
    /// Compare with this file instead of what is in force
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let path = &args.file.file;
    let after = read(path)?;
    let before = if let Some(against) = &args.against {
        let before = read(against)?;
        let kept = after.check_meters_keep_their_meaning(&before.definition().meters);
        kept.map_err(|errors| refusal(path, &errors))?;
        Some(before)
    } else {
        let ledger = args.ledger.open().await?;
        let checked = catalogs::check_against_stored(&ledger, &after).await;
        checked.map_err(|error| not_applied(path, error))?;
        let stored = catalogs::in_force(&ledger, after.name()).await;
        stored.map_err(|error| not_applied(path, error))?.map(|(catalog, _)| catalog)
    };
    let diff = CatalogDiff::between(before.as_ref(), &after);
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&diff)?);
    } else {
        out!("{diff}");
    }
    Ok(())
}
