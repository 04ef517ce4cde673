//! What the audit log says of a run's closing: one entry of the closing, and one for each tenant and
//! meter of which something was forfeited, the largest first and at most so many.
//! `run_totals` has all of them, counter by counter.

use std::{cmp::Reverse, collections::BTreeMap};

use serde_json::json;
use sqlx::PgConnection;

use super::{
    changes::{AuditEntry, Author},
    error::LedgerError,
};
use crate::domain::{
    cell_key::CellKey,
    ids::{MeterName, RunId, TenantId},
};

/// Most tenants' meters that one closing has entries of.
const FORFEITS_NOTED_MAX: usize = 100;

/// What of one tenant's meter a closing forfeits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Forfeit {
    units: u64,
    /// Windows and subjects that they are of.
    counters: usize,
}

/// Writes the entries. `how` is how the run was closed, as the ledger names it.
pub(super) async fn audit_closing(
    tx: &mut PgConnection,
    author: Author<'_>,
    run: RunId,
    how: &str,
    forfeited: &[(CellKey, u64)],
) -> Result<(), LedgerError> {
    let by_meter = by_meter(forfeited);
    let (noted, left_out) = by_meter.split_at(by_meter.len().min(FORFEITS_NOTED_MAX));
    let units = |forfeits: &[(&TenantId, &MeterName, Forfeit)]| {
        forfeits.iter().fold(0u64, |sum, (.., forfeit)| sum.saturating_add(forfeit.units))
    };
    let run = run.to_string();
    let closing = AuditEntry {
        author,
        action: "run.close",
        account: None,
        tenant: None,
        detail: json!({
            "run": run,
            "how": how,
            "forfeited_units": units(&by_meter),
            "forfeits": by_meter.len(),
            "forfeits_left_out": left_out.len(),
        }),
    };
    closing.write(tx).await?;
    for (tenant, meter, forfeit) in noted {
        let entry = AuditEntry {
            author,
            action: "run.forfeit",
            account: None,
            tenant: Some(tenant),
            detail: json!({
                "run": run,
                "how": how,
                "meter": meter,
                "units": forfeit.units,
                "counters": forfeit.counters,
            }),
        };
        entry.write(tx).await?;
    }
    Ok(())
}

/// By tenant and meter, the largest first.
fn by_meter(forfeited: &[(CellKey, u64)]) -> Vec<(&TenantId, &MeterName, Forfeit)> {
    let mut sums: BTreeMap<_, Forfeit> = BTreeMap::new();
    for (key, units) in forfeited.iter().filter(|(_, units)| *units > 0) {
        let sum = sums.entry((&key.tenant, &key.meter)).or_default();
        sum.units = sum.units.saturating_add(*units);
        sum.counters += 1;
    }
    let mut sums: Vec<_> =
        sums.into_iter().map(|((tenant, meter), forfeit)| (tenant, meter, forfeit)).collect();
    sums.sort_by_key(|(.., forfeit)| Reverse(forfeit.units));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str, meter: &str, start: i64) -> CellKey {
        CellKey {
            tenant: TenantId::new(tenant).unwrap(),
            meter: MeterName::new(meter).unwrap(),
            subject: None,
            label: format!("month:{start}:1").parse().unwrap(),
        }
    }

    #[test]
    fn forfeits_are_told_by_tenant_and_meter_the_largest_first() {
        let forfeited = [
            (key("acme", "calls", 0), 3),
            (key("beta", "calls", 0), 9),
            (key("acme", "calls", 60), 4),
            (key("acme", "tokens", 0), 0),
        ];
        let told: Vec<_> = by_meter(&forfeited)
            .into_iter()
            .map(|(tenant, meter, it)| (tenant.as_str(), meter.as_str(), it.units, it.counters))
            .collect();
        assert_eq!(told, [("beta", "calls", 9, 1), ("acme", "calls", 7, 2)]);
    }
}
