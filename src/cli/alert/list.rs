//! `tollgate alert list`.

use jiff::{Timestamp, civil::Time};
use serde_json::{Value, json};

use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
    },
    domain::{
        ids::TenantId,
        period::Period,
        window::{WindowLabel, WindowSchedule},
    },
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
    let Some(listed) = ledger.tenant(&args.tenant).await? else {
        anyhow::bail!("there is no tenant {}; `tollgate tenant list` shows them", args.tenant);
    };
    let schedule = &listed.tenant.subscription.schedule;
    let alerts = ledger.alerts_of(&args.tenant, args.unresolved, args.limit).await?;
    if args.json {
        let objects: Vec<Value> = alerts.iter().map(object).collect();
        outln!("{}", serde_json::to_string_pretty(&objects)?);
        return Ok(());
    }
    let head = ["meter", "from", "until", "threshold", "limit", "used then", "raised", "resolved"];
    out!("{}", table(&head, &alerts.iter().map(|alert| row(alert, schedule)).collect::<Vec<_>>()));
    Ok(())
}

fn row(alert: &NotedAlert, schedule: &WindowSchedule) -> Vec<String> {
    let subject = alert.key.subject.as_ref().map_or(String::new(), |it| format!("[{it}]"));
    let [from, until] = bounds(alert.key.label, schedule);
    vec![
        format!("{}{subject}", alert.key.meter),
        from,
        until,
        format!("{} %", alert.percent),
        alert.limit.to_string(),
        alert.used.to_string(),
        alert.raised_at.to_string(),
        alert.resolved_at.map_or("no".to_owned(), |at| at.to_string()),
    ]
}

/// A window's bounds in the tenant's zone. Where the schedule has changed since, its end is not known.
fn bounds(label: WindowLabel, schedule: &WindowSchedule) -> [String; 2] {
    if label.period == Period::Lifetime {
        return ["-".to_owned(), "-".to_owned()];
    }
    let local = |at: Timestamp| {
        let local = at.to_zoned(schedule.zone.clone());
        // Whole days are told without their hours.
        let format = if local.time() == Time::midnight() { "%F" } else { "%FT%T%:z" };
        local.strftime(format).to_string()
    };
    let start = Timestamp::from_second(label.start).map_or_else(|_| "-".to_owned(), local);
    let end = schedule.window_of_label(label).and_then(|window| window.end);
    [start, end.map_or_else(|| "-".to_owned(), local)]
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

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::domain::window::BillingInterval;

    #[test]
    fn a_window_is_told_by_its_bounds_in_the_tenants_zone() {
        let schedule = WindowSchedule {
            zone: TimeZone::get("America/New_York").unwrap(),
            anchor: Timestamp::UNIX_EPOCH,
            interval: BillingInterval::Monthly,
            version: 1,
        };
        let at: Timestamp = "2026-11-21T18:30:00Z".parse().unwrap();
        let told = |period| bounds(schedule.window(period, at).label, &schedule);
        assert_eq!(told(Period::Month), ["2026-11-01", "2026-12-01"]);
        assert_eq!(told(Period::Hour), ["2026-11-21T13:00:00-05:00", "2026-11-21T14:00:00-05:00"]);
        assert_eq!(told(Period::Lifetime), ["-", "-"]);
        let before = WindowSchedule { version: 2, ..schedule.clone() };
        let label = schedule.window(Period::Month, at).label;
        assert_eq!(bounds(label, &before), ["2026-11-01", "-"]);
    }
}
