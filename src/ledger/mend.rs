//! Windows' totals made anew from what they are the sum of.

use serde_json::{Value, json};

use super::{
    cell_rows::subject_column,
    changes::{AuditEntry, Author},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::cell_key::CellKey;

/// What became of a window.
#[derive(Clone, Debug, PartialEq)]
pub enum MendedWindow {
    /// It says now what its parts say.
    Mended { was: Value, is: Value },
    /// It said so already.
    Agrees,
    /// What is right cannot be told, because.
    Undecided(&'static str),
}

/// The figures of a window's row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Totals {
    used: i64,
    amount_sum: i64,
    events: i64,
    amount_max: Option<i64>,
    last_amount: Option<i64>,
}

/// What rollups of one kind add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sums {
    amounts: i64,
    events: i64,
    covered: i64,
    amount_max: Option<i64>,
    last_amount: Option<i64>,
}

/// What a window has to say, where two of its three kinds of parts say the same of each figure.
fn totals_of(
    aggregation: &str,
    hours: &Sums,
    days: &Sums,
    run_units: i64,
) -> Result<Totals, &'static str> {
    if hours != days {
        return Err("its hours and its days disagree, so that neither is known to be right");
    }
    let units = match aggregation {
        "sum" => hours.amounts - hours.covered,
        "count" => hours.events - hours.covered,
        _ => 0,
    };
    if units != run_units {
        return Err(
            "its rollups and its runs' totals disagree, so that neither is known to be right",
        );
    }
    Ok(Totals {
        used: units,
        amount_sum: hours.amounts,
        events: hours.events,
        amount_max: hours.amount_max,
        last_amount: hours.last_amount,
    })
}

impl Ledger {
    /// Makes a window say what its rollups and its runs' totals say, where these agree.
    pub async fn mend_window(
        &self,
        key: &CellKey,
        author: Author<'_>,
    ) -> Result<MendedWindow, LedgerError> {
        self.run_tx("mend_window", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                let (label, subject) = (key.label.to_string(), subject_column(key.subject.as_ref()));
                // A flush that adds to the window waits for the lock, and has added to the parts
                // when it is seen.
                let row = sqlx::query!(
                    "SELECT aggregation, used, amount_sum, events, amount_max, last_amount
                     FROM window_totals
                     WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4
                     FOR UPDATE",
                    key.tenant.as_str(),
                    key.meter.as_str(),
                    label,
                    subject
                )
                .fetch_optional(&mut *tx)
                .await?;
                let Some(row) = row else {
                    return Ok(MendedWindow::Undecided("the window has no row"));
                };
                let parts = sqlx::query!(
                    r#"SELECT
                           coalesce(h.amounts, 0)::bigint AS "h_amounts!",
                           coalesce(h.events, 0)::bigint AS "h_events!",
                           coalesce(h.covered, 0)::bigint AS "h_covered!",
                           h.amount_max AS "h_max?", h.last_amount AS "h_last?",
                           h.last_at AS "h_last_at?: jiff_sqlx::Timestamp",
                           coalesce(d.amounts, 0)::bigint AS "d_amounts!",
                           coalesce(d.events, 0)::bigint AS "d_events!",
                           coalesce(d.covered, 0)::bigint AS "d_covered!",
                           d.amount_max AS "d_max?", d.last_amount AS "d_last?",
                           coalesce(r.units, 0)::bigint AS "run_units!"
                       FROM (SELECT sum(amount_sum) AS amounts, sum(events) AS events,
                                 sum(covered) AS covered, max(amount_max) AS amount_max,
                                 max(last_at) AS last_at,
                                 (array_agg(last_amount ORDER BY last_at DESC, last_amount DESC))[1]
                                     AS last_amount
                             FROM usage_hourly
                             WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4) AS h,
                            (SELECT sum(amount_sum) AS amounts, sum(events) AS events,
                                 sum(covered) AS covered, max(amount_max) AS amount_max,
                                 (array_agg(last_amount ORDER BY last_at DESC, last_amount DESC))[1]
                                     AS last_amount
                             FROM usage_daily
                             WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4) AS d,
                            (SELECT sum(consumed + recorded - undone) AS units
                             FROM run_totals
                             WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4) AS r"#,
                    key.tenant.as_str(),
                    key.meter.as_str(),
                    label,
                    subject
                )
                .fetch_one(&mut *tx)
                .await?;
                let was = Totals {
                    used: row.used,
                    amount_sum: row.amount_sum,
                    events: row.events,
                    amount_max: row.amount_max,
                    last_amount: row.last_amount,
                };
                let hours = Sums {
                    amounts: parts.h_amounts,
                    events: parts.h_events,
                    covered: parts.h_covered,
                    amount_max: parts.h_max,
                    last_amount: parts.h_last,
                };
                let days = Sums {
                    amounts: parts.d_amounts,
                    events: parts.d_events,
                    covered: parts.d_covered,
                    amount_max: parts.d_max,
                    last_amount: parts.d_last,
                };
                let is = match key.is_covering() {
                    // It has no events of its own, so that its runs are the only witness. Lowered, it
                    // would be admitted once more should they be wrong.
                    true if parts.run_units < was.used => {
                        return Ok(MendedWindow::Undecided(
                            "it says more than its runs' totals, and nothing else tells which is right",
                        ));
                    }
                    true => Totals { used: parts.run_units, ..was.clone() },
                    false => match totals_of(&row.aggregation, &hours, &days, parts.run_units) {
                        Ok(totals) => totals,
                        Err(why) => return Ok(MendedWindow::Undecided(why)),
                    },
                };
                if is == was {
                    return Ok(MendedWindow::Agrees);
                }
                // Not as usage does it: when it last came stays known.
                sqlx::query!(
                    "UPDATE window_totals
                     SET used = $5, amount_sum = $6, events = $7, amount_max = $8,
                         last_amount = $9, last_at = coalesce($10, last_at)
                     WHERE tenant = $1 AND meter = $2 AND label = $3 AND subject = $4",
                    key.tenant.as_str(),
                    key.meter.as_str(),
                    label,
                    subject,
                    is.used,
                    is.amount_sum,
                    is.events,
                    is.amount_max,
                    is.last_amount,
                    parts.h_last_at as _
                )
                .execute(&mut *tx)
                .await?;
                let (was, is) = (was.to_json(), is.to_json());
                let detail = json!({ "counter": key.to_string(), "was": was, "is": is });
                let (action, tenant) = ("reconcile.window", Some(&key.tenant));
                AuditEntry { author, action, account: None, tenant, detail }.write(tx).await?;
                Ok(MendedWindow::Mended { was, is })
            })
        })
        .await
    }

    /// Notes in the audit log that something of `key` outside this transaction's reach was mended:
    /// what it was, and what it is.
    pub async fn note_mended(
        &self,
        action: &'static str,
        key: &CellKey,
        (was, is): (Value, Value),
        author: Author<'_>,
    ) -> Result<(), LedgerError> {
        let detail = json!({ "counter": key.to_string(), "was": was, "is": is });
        self.run_tx("note_mended", |tx| {
            let detail = detail.clone();
            Box::pin(async move {
                let tenant = Some(&key.tenant);
                AuditEntry { author, action, account: None, tenant, detail }
                    .write(tx.connection())
                    .await
            })
        })
        .await
    }
}

impl Totals {
    fn to_json(&self) -> Value {
        json!({
            "used": self.used, "amount_sum": self.amount_sum, "events": self.events,
            "amount_max": self.amount_max, "last_amount": self.last_amount,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(amounts: i64) -> Sums {
        Sums { amounts, events: 3, covered: 2, amount_max: Some(4), last_amount: Some(1) }
    }

    #[test]
    fn a_window_is_made_anew_only_where_its_parts_agree() {
        let totals = totals_of("sum", &sums(10), &sums(10), 8).unwrap();
        assert_eq!((totals.used, totals.amount_sum, totals.events), (8, 10, 3));
        assert_eq!(totals_of("count", &sums(10), &sums(10), 1).unwrap().used, 1);
        assert_eq!(totals_of("max", &sums(10), &sums(10), 0).unwrap().used, 0);
        assert!(totals_of("sum", &sums(10), &sums(11), 8).is_err());
        assert!(totals_of("sum", &sums(10), &sums(10), 9).is_err());
    }
}
