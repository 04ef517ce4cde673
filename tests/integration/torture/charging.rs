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
    let mut differences = vec![];
    for (meter, included, price) in PRICED {
        for (tenant, label, used) in books.by_window(meter) {
            let key = (tenant.to_string(), meter.to_owned(), label.to_string());
            // Hundredths of a cent to cents, half up: nothing is below 0.
            let owed = ((used - included).max(0) * price + 50) / 100;
            match charges.remove(&key).as_deref() {
                Some([charge]) if *charge == (used, owed) => {}
                other => differences
                    .push(format!("{key:?}: {used} used and {owed} owed, charged {other:?}")),
            }
        }
    }
    differences.extend(charges.iter().map(|charge| format!("charged for nothing: {charge:?}")));
    differences
}
