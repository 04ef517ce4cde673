//! `tollgate grant list`.

use super::shown::{as_json, known_tenant, until};
use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
    },
    clock::Clock,
    domain::ids::TenantId,
    ledger::grants::StoredGrant,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The tenant's id
    tenant: TenantId,
    /// Also grants that have ended or were revoked, with their end
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let tenant = known_tenant(&ledger, &args.tenant).await?;
    let now = tenant.now(Clock::System.now());
    let mut grants = ledger.grants(&args.tenant, now, true).await?;
    let is_over = |stored: &StoredGrant| stored.grant.expires_at.is_some_and(|at| at <= now);
    let ended = grants.iter().filter(|stored| is_over(stored)).count();
    if !args.all {
        grants.retain(|stored| !is_over(stored));
    }
    grants.sort_by_key(|stored| stored.grant.burn_order());
    if args.json {
        let rows: Vec<_> = grants.iter().map(as_json).collect();
        outln!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let rows: Vec<_> = grants
        .iter()
        .map(|stored| {
            let grant = &stored.grant;
            let subject = grant.subject.as_ref().map_or(String::new(), |s| format!("[{s}]"));
            vec![
                grant.id.to_string(),
                format!("{}{subject}", grant.meter),
                grant.kind.as_str().to_owned(),
                grant.every.map_or(grant.amount.to_string(), |every| {
                    format!("{} each {every}", grant.amount)
                }),
                stored.used.to_string(),
                grant.priority.to_string(),
                grant.starts_at.to_string(),
                until(stored),
                stored.source.clone(),
            ]
        })
        .collect();
    let heads =
        ["grant", "meter", "kind", "amount", "used", "priority", "starts", "ends", "source"];
    out!("{}", table(&heads, &rows));
    if ended > 0 && !args.all {
        outln!("{ended} more have ended or were revoked; --all shows them");
    }
    Ok(())
}
