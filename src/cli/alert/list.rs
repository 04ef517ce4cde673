//! `tollgate alert list`.

use serde_json::{Value, json};

use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
    },
    domain::ids::TenantId,
    ledger::alerts::{ALERTS_PAGE_MAX, NotedAlert},
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Whose
    tenant: TenantId,
    /// Only those that are not resolved
    #[arg(long)]
    unresolved: bool,
    /// At most this many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(ALERTS_PAGE_MAX)))]
    limit: u32,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    if ledger.tenant(&args.tenant).await?.is_none() {
        anyhow::bail!("there is no tenant {}; `tollgate tenant list` shows them", args.tenant);
    }
    let alerts = ledger.alerts_of(&args.tenant, args.unresolved, args.limit).await?;
    if args.json {
        let objects: Vec<Value> = alerts.iter().map(object).collect();
        outln!("{}", serde_json::to_string_pretty(&objects)?);
        return Ok(());
    }
    let head = ["meter", "window", "threshold", "limit", "used then", "raised", "resolved"];
    out!("{}", table(&head, &alerts.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

fn row(alert: &NotedAlert) -> Vec<String> {
    let subject = alert.key.subject.as_ref().map_or(String::new(), |it| format!("[{it}]"));
    vec![
        format!("{}{subject}", alert.key.meter),
        alert.key.label.to_string(),
        format!("{} %", alert.percent),
        alert.limit.to_string(),
        alert.used.to_string(),
        alert.raised_at.to_string(),
        alert.resolved_at.map_or("no".to_owned(), |at| at.to_string()),
    ]
}

fn object(alert: &NotedAlert) -> Value {
    json!({
        "meter": alert.key.meter,
        "subject": alert.key.subject,
        "window": alert.key.label.to_string(),
        "kind": alert.kind.as_str(),
        "threshold_percent": alert.percent,
        "limit": alert.limit,
        "used_when_raised": alert.used,
        "recommended_action": alert.recommended_action,
        "raised_at": alert.raised_at,
        "resolved_at": alert.resolved_at,
    })
}
