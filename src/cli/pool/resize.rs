//! `tollgate pool resize`.

use anyhow::bail;

use super::shown::{as_json, each_window};
use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
        values::units,
    },
    domain::{amount::check_amount, ids::PoolId},
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The pool, as `tollgate pool list` shows it
    pool: PoolId,
    /// Base units from now on, in each window (of a level: at any time); classes keep back the same part of it
    #[arg(value_parser = units)]
    size: i64,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let size = check_amount("SIZE", args.size)?;
    if size == 0 {
        bail!("SIZE: is 0; give 1 or more, or remove the members");
    }
    let ledger = args.ledger.open().await?;
    let actor = args.author.actor();
    let stored = ledger.resize_pool(args.pool, size, args.author.author(&actor)).await?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&as_json(&stored))?);
        return Ok(());
    }
    let each = each_window(&stored)?;
    outln!("{} has {size} of {}{each} from now on", args.pool, stored.pool.meter);
    if stored.pool.is_settling() {
        outln!(
            "until what is used fits, its shares admit no more than that in all; `tollgate pool \
             show {}` tells how far that is",
            args.pool
        );
    }
    Ok(())
}
