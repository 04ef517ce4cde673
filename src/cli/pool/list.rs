//! `tollgate pool list`.

use super::shown::as_json;
use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
    },
    domain::ids::AccountId,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Only pools of this account
    #[arg(long)]
    account: Option<AccountId>,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let pools = ledger.pools(args.account.as_ref()).await?;
    if args.json {
        let rows: Vec<_> = pools.iter().map(as_json).collect();
        outln!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let rows: Vec<_> = pools
        .iter()
        .map(|stored| {
            vec![
                stored.pool.id.to_string(),
                stored.account.to_string(),
                format!("{}/{}", stored.catalog, stored.name),
                stored.pool.meter.to_string(),
                stored.pool.size.to_string(),
            ]
        })
        .collect();
    out!("{}", table(&["pool", "account", "name", "meter", "size"], &rows));
    Ok(())
}
