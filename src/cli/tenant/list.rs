//! `tollgate tenant list`.

use super::shown::{as_json, word};
use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
    },
    domain::ids::TenantId,
    ledger::tenants::PAGE_MAX,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Only tenants whose id, name or account contains this
    #[arg(long, default_value = "", hide_default_value = true)]
    search: String,
    /// Only tenants behind this one, in the order of ids
    #[arg(long, value_name = "TENANT")]
    after: Option<TenantId>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAGE_MAX as i64))]
    limit: u32,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let listed = ledger.list_tenants(&args.search, args.after.as_ref(), args.limit).await?;
    if args.json {
        let rows: Vec<_> = listed.iter().map(as_json).collect();
        outln!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let rows: Vec<_> = listed
        .iter()
        .map(|listed| {
            let tenant = &listed.tenant;
            let plan = &tenant.subscription.plan;
            vec![
                tenant.id.to_string(),
                tenant.account.to_string(),
                format!("{}/{}", plan.catalog, plan.plan),
                plan.version.to_string(),
                word(tenant.subscription.status),
                listed.name.clone(),
            ]
        })
        .collect();
    out!("{}", table(&["tenant", "account", "plan", "version", "status", "name"], &rows));
    if let (Some(last), true) = (listed.last(), rows.len() == args.limit as usize) {
        outln!("there may be more: --after {}", last.tenant.id);
    }
    Ok(())
}
