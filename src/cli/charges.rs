//! `tollgate charges`: lists what is to be billed.

use serde_json::json;

use super::{
    ledger_args::LedgerArgs,
    print::{out, outln},
    table::table,
    values::{count, no_tenant},
};
use crate::{
    domain::ids::TenantId,
    ledger::charges::{Charge, ChargesQuery},
};

/// List charges: what is to be billed for usage
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Only charges of this tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Also charges of 0, which say that a window is closed and nothing is owed for it
    #[arg(long)]
    zero: bool,
    /// Most charges to show
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = count)]
    limit: u32,
    /// Answer in JSON, with the explanation of each amount
    #[arg(long)]
    json: bool,
}

/// Prints the charges.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let asked =
        ChargesQuery { tenant: args.tenant.as_ref(), with_zero: args.zero, limit: args.limit };
    let charges = ledger.charges(asked).await?;
    if let (Some(tenant), true) = (&args.tenant, charges.is_empty())
        && ledger.tenant(tenant).await?.is_none()
    {
        return Err(no_tenant(tenant).into());
    }
    if args.json {
        let objects: Vec<_> = charges.iter().map(object).collect();
        outln!("{}", serde_json::to_string_pretty(&objects)?);
    } else {
        let head = [
            "tenant", "kind", "meter", "subject", "from", "until", "quantity", "rate", "amount",
            "plan",
        ];
        out!("{}", table(&head, &charges.iter().map(row).collect::<Vec<_>>()));
    }
    Ok(())
}

fn object(charge: &Charge) -> serde_json::Value {
    json!({
        "charge": charge.id,
        "tenant": charge.key.tenant,
        "account": charge.account,
        "subscription": charge.subscription,
        "meter": charge.key.meter,
        "subject": charge.key.subject,
        "window": charge.key.label.to_string(),
        "kind": charge.kind,
        "period_start": charge.period_start,
        "period_end": charge.period_end,
        "quantity": charge.quantity,
        "rate": charge.rate,
        "amount": charge.amount.to_major().to_string(),
        "amount_minor": charge.amount.minor,
        "currency": charge.amount.currency,
        "plan": charge.plan,
        "explanation": charge.explanation,
    })
}

fn row(charge: &Charge) -> Vec<String> {
    let unit = charge.explanation["pricing_unit"]["name"].as_str().unwrap_or_default();
    vec![
        charge.key.tenant.to_string(),
        charge.kind.clone(),
        charge.key.meter.to_string(),
        charge.key.subject.as_ref().map(ToString::to_string).unwrap_or_default(),
        charge.period_start.to_string(),
        charge.period_end.to_string(),
        format!("{} {unit}", charge.quantity.normalize()),
        charge.rate.map(|rate| rate.normalize().to_string()).unwrap_or_default(),
        charge.amount.to_string(),
        format!("{} v{}", charge.plan.plan, charge.plan.version),
    ]
}
