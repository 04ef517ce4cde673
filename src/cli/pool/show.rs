//! `tollgate pool show`: what each member has used, as the ledger has it, and how the shares stand.

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;

use super::shown::{as_json, each_window, known_pool};
use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
    },
    clock::Clock,
    domain::{
        catalog::compiled_plan::CompiledPlan,
        cell_key::CellKey,
        ids::{PoolId, TenantId},
        pool::PoolCell,
    },
    ledger::alerts::ALERTS_PAGE_MAX,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The pool, as `tollgate pool list` shows it
    pool: PoolId,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// A share of the pool as it stands.
struct Share<'a> {
    name: &'a str,
    /// None for a class that keeps nothing back.
    cell: Option<PoolCell>,
    used: i64,
}

impl Share<'_> {
    fn units(&self) -> u64 {
        self.cell.as_ref().map_or(0, |cell| cell.units)
    }

    fn ceiling(&self) -> u64 {
        self.cell.as_ref().map_or(0, |cell| cell.ceiling)
    }
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let stored = known_pool(&ledger, args.pool).await?;
    let plan = CompiledPlan::from_json(&stored.definition)?;
    let meter = plan.meter(stored.pool.meter.as_str()).context("the pool lacks its meter")?;
    let now = stored.test_clock.unwrap_or_else(|| Clock::System.now());
    let window = stored.schedule.window(meter.limit.period, now);
    let members = ledger.pool_members(args.pool, &window.label.to_string()).await?;

    let common_cell = TenantId::of_pool(args.pool, None);
    let reserves = stored.pool.classes.iter();
    let reserve = |name: &str| TenantId::of_pool(args.pool, Some(name));
    let owners: Vec<(String, TenantId)> =
        std::iter::once(("common".to_owned(), common_cell.clone()))
            .chain(reserves.map(|class| (class.name.to_string(), reserve(class.name.as_str()))))
            .collect();
    let alerts = ledger.alerts_of(&common_cell, true, ALERTS_PAGE_MAX).await?;
    let alerts: Vec<_> =
        alerts.into_iter().filter(|alert| alert.key.label == window.label).collect();
    let key = |owner: &TenantId| CellKey {
        tenant: owner.clone(),
        meter: stored.pool.meter.clone(),
        subject: None,
        label: window.label,
    };
    let keys: Vec<_> = owners.iter().map(|(_, owner)| key(owner)).collect();
    let totals = ledger.window_totals(&keys).await?;
    let used = totals.iter().map(|totals| totals.as_ref().map_or(0, |totals| totals.used));
    let shares: Vec<_> = owners
        .iter()
        .zip(used)
        .map(|((name, owner), used)| Share { name, cell: stored.pool.cell(owner), used })
        .collect();

    if args.json {
        let mut shown = as_json(&stored);
        shown["window"] = json!({ "start": window.start, "end": window.end });
        shown["shares"] = shares
            .iter()
            .map(|share| {
                json!({
                    "share": share.name, "units": share.units(), "admits_up_to": share.ceiling(),
                    "used": share.used,
                })
            })
            .collect();
        shown["alerts"] = alerts
            .iter()
            .map(|alert| {
                json!({
                    "class": alert.key.subject, "threshold_percent": alert.percent,
                    "kind": alert.kind.as_str(), "raised_at": alert.raised_at,
                })
            })
            .collect();
        shown["members"] = members
            .iter()
            .map(|member| {
                json!({
                    "tenant": member.tenant, "class": member.class, "used": member.used,
                    "has_left": member.has_left,
                })
            })
            .collect();
        outln!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    let unit = &meter.meter.unit;
    let title = format!("{}/{}", stored.catalog, stored.name);
    outln!("pool {}: {title} of account {}", stored.pool.id, stored.account);
    let (size, each) = (stored.pool.size, each_window(&stored)?);
    outln!("{size} {unit} of {}{each}", stored.pool.meter);
    for class in &stored.pool.classes {
        outln!("class {} keeps back {} {unit} from lower ones", class.name, class.keeps_back);
    }
    if let Some(end) = window.end {
        let local = |at: Timestamp| at.to_zoned(stored.schedule.zone.clone());
        let local = |at| local(at).strftime("%FT%T%:z").to_string();
        outln!("window from {} until {}", local(window.start), local(end));
    }
    let most = stored.max_members.map_or(String::new(), |most| format!(" of {most} at most"));
    let present = members.iter().filter(|member| !member.has_left).count();
    outln!("{present} members{most}\n");
    let rows: Vec<_> = shares
        .iter()
        .map(|share| {
            let figures = [share.units().to_string(), share.ceiling().to_string()];
            let [units, ceiling] = figures;
            vec![share.name.to_owned(), units, ceiling, share.used.to_string()]
        })
        .collect();
    out!("{}", table(&["share", "units", "admits up to", "used"], &rows));
    if stored.pool.is_settling() {
        outln!("settling at its size: each share opens up as what is used of the others fits");
    }
    outln!("");
    let rows: Vec<_> = members
        .iter()
        .map(|member| {
            let class = member.class.clone().unwrap_or_default();
            let class = if member.has_left { "(has left)".to_owned() } else { class };
            vec![member.tenant.to_string(), class, member.used.to_string()]
        })
        .collect();
    out!("{}", table(&["member", "class", "used"], &rows));
    for alert in &alerts {
        let class = alert.key.subject.as_ref().map(|class| format!(" of what {class} may use"));
        let share = class.unwrap_or_default();
        outln!("{} % reached{share} since {}", alert.percent, alert.raised_at);
    }
    Ok(())
}
