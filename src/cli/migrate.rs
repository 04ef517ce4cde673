//! `tollgate migrate`: brings the ledger's schema up to this version.

use anyhow::{Context, bail};

use super::{ledger_args::REACH_WAIT, print::outln};
use crate::{config::SettingsArgs, ledger::Ledger};

/// Bring the ledger's schema up to this version; safe to repeat, and on a live database
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs what is missing.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.settings.load()?.settings.ledger;
    if settings.url.is_empty() {
        bail!("there is no ledger to migrate; give --ledger-url or set TOLLGATE_LEDGER_URL");
    }
    let ledger = Ledger::new(&settings)?;
    ledger.reach_as_owner(REACH_WAIT).await?;
    ledger.migrate().await.context("cannot migrate the ledger")?;
    outln!("the ledger's schema is up to date");
    Ok(())
}
