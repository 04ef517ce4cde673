//! What was charged, against what was used.

use std::collections::BTreeMap;

use super::{comparison::Books, stage::Stage};

/// Base units included and price per unit, in hundredths of a cent, of each meter with overage: as
/// `catalog.yaml` says.
const PRICED: [(&str, i64, i64); 2] = [("traffic", 500, 500), ("pulses", 10, 300)];
/// A present in which every window of the round has ended, for good.
const LONG_AFTER_DAYS: i64 = 40;

/// Has all windows charged, beside what the worker charged while everything broke, and compares. All
/// usage is in the ledger.
pub async fn charges_differ(stage: &Stage, books: &Books) -> Vec<String> {
    #[allow(clippy::disallowed_methods)] // The windows are by the real clock.
    let now = jiff::Timestamp::now();
    let present = now + jiff::SignedDuration::from_hours(24 * LONG_AFTER_DAYS);
    if let Err(told) =
        stage.operate(&["job", "run", "overages", "--now", &present.to_string(), "--json"])
    {
        return vec![format!("the windows cannot be charged: {told}")];
    }
    let mut charges: BTreeMap<(String, String, String), Vec<(i64, i64)>> = BTreeMap::new();
    for charge in stage.world.charges().await.iter().filter(|charge| charge.kind == "overage") {
        let used = charge.explanation["facts"]["used"].as_i64().unwrap();
        let key = &charge.key;
        let key = (key.tenant.to_string(), key.meter.to_string(), key.label.to_string());
        charges.entry(key).or_default().push((used, charge.amount.minor));
    }
    let late = late(stage).await;
    let mut differences = vec![];
    for (meter, included, price) in PRICED {
        for (tenant, label, used) in books.by_window(meter) {
            let key = (tenant.to_string(), meter.to_owned(), label.to_string());
            // Hundredths of a cent to cents, half up: nothing is below 0.
            let owed = |used: i64| ((used - included).max(0) * price + 50) / 100;
            let late = late.get(&key).copied().unwrap_or(0);
            match charges.remove(&key).as_deref() {
                Some([(charged, minor)])
                    if (used - late..=used).contains(charged) && *minor == owed(*charged) => {}
                other => differences.push(format!(
                    "{key:?}: {used} used, {late} of it perhaps late, {} owed, charged {other:?}",
                    owed(used)
                )),
            }
        }
    }
    differences.extend(charges.iter().map(|charge| format!("charged for nothing: {charge:?}")));
    differences
}

/// Units by tenant, meter and window that may have come after the charge: what turned up of runs that
/// the operator had given up, for which nobody waits. Their successors' ids are made from theirs,
/// which is version 5 of ids.
async fn late(stage: &Stage) -> BTreeMap<(String, String, String), i64> {
    let late = "SELECT tenant, meter, label, sum(consumed + recorded - undone)::bigint
                FROM run_totals WHERE substr(run::text, 15, 1) = '5' GROUP BY 1, 2, 3";
    let rows: Vec<(String, String, String, i64)> =
        sqlx::query_as(late).fetch_all(&stage.world.pool).await.unwrap();
    rows.into_iter().map(|(tenant, meter, label, units)| ((tenant, meter, label), units)).collect()
}
