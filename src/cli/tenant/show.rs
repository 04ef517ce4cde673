//! `tollgate tenant show`.

use anyhow::bail;
use serde_json::json;

use super::shown::{as_json, word};
use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
    },
    domain::ids::TenantId,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The tenant's id
    tenant: TenantId,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let Some(listed) = ledger.tenant(&args.tenant).await? else {
        bail!("there is no tenant {}; `tollgate tenant list` lists all", args.tenant);
    };
    let history = ledger.subscription_history(&args.tenant).await?;
    if args.json {
        let mut shown = as_json(&listed);
        shown["history"] = history
            .iter()
            .map(|revision| {
                let subscription = &revision.subscription;
                json!({
                    "revision": revision.revision,
                    "effective_at": revision.effective_at,
                    "plan": subscription.plan,
                    "status": subscription.status,
                    "actor": revision.actor,
                    "reason": revision.reason,
                })
            })
            .collect();
        outln!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    let tenant = &listed.tenant;
    let subscription = &tenant.subscription;
    let schedule = &subscription.schedule;
    let fields = [
        ("tenant", tenant.id.to_string()),
        ("name", listed.name.clone()),
        ("account", tenant.account.to_string()),
        ("plan", format!("{}/{}", subscription.plan.catalog, subscription.plan.plan)),
        ("plan version", subscription.plan.version.to_string()),
        ("status", word(subscription.status)),
        ("zone", schedule.zone.iana_name().unwrap_or("?").to_owned()),
        ("billed", format!("{}, from {}", word(schedule.interval), schedule.anchor)),
        ("clock", tenant.test_clock.map_or("real".to_owned(), |at| format!("test, at {at}"))),
    ];
    for (field, value) in fields {
        outln!("{field:13} {value}");
    }
    let rows: Vec<_> = history
        .iter()
        .map(|revision| {
            let plan = &revision.subscription.plan;
            vec![
                revision.effective_at.to_string(),
                format!("{}/{} version {}", plan.catalog, plan.plan, plan.version),
                word(revision.subscription.status),
                revision.actor.clone(),
                revision.reason.clone(),
            ]
        })
        .collect();
    out!("\n{}", table(&["since", "plan", "status", "by", "reason"], &rows));
    Ok(())
}
