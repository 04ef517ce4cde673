//! Mends what can be mended without guessing: what disagrees is made anew from what it follows from.
//!
//! Windows' totals follow from rollups and runs' totals, where these agree. Shared counters follow
//! from the ledger, upwards only while somebody may hold something of them: what is too high keeps
//! limits, what is too low does not. Missing charges are made by the code of the job. All else stands,
//! and is told why.

use serde_json::{Map, Value, json};

use super::{
    compare::compare,
    difference::{Difference, Leg, Mending, Place, Standing},
    shared::LookError,
};
use crate::{
    domain::{
        cell_key::CellKey,
        ids::{RunId, TenantId},
    },
    jobs::{
        error::JobError,
        overages::recheck::{ChargeFinding, ChargeProblem, Recheck},
    },
    leases::message::Flushed,
    ledger::{
        Ledger, LedgerError,
        changes::Author,
        counter_books::{CounterBooks, RunBooks},
        mend::MendedWindow,
    },
    store::{
        RedisCounters,
        inspect::{InspectedRun, Inspection},
        mend::{FoldedUnits, Mend, MendAnswer},
    },
};

/// Most entries of runs that the audit log is told of one counter.
const RUNS_NOTED_MAX: usize = 100;

/// Mends, and notes in the audit log who had it done.
pub struct Mender<'a> {
    pub ledger: &'a Ledger,
    pub author: Author<'a>,
}

impl Mender<'_> {
    /// Makes the windows anew that differ from their parts.
    pub async fn windows(
        &self,
        owner: &TenantId,
        differences: &mut [Difference],
    ) -> Result<(), LedgerError> {
        let mut done: Vec<(CellKey, Mending)> = Vec::new();
        for difference in differences.iter_mut().filter(|it| it.standing == Standing::Differs) {
            let Some(key) = window_of(owner, &difference.place) else {
                let why = "several windows are added up, and which is wrong cannot be told";
                difference.mending = Some(Mending::NotMended(why.to_owned()));
                continue;
            };
            let known = done.iter().find(|(of, _)| *of == key).map(|(_, mending)| mending.clone());
            let mending = match known {
                Some(mending) => mending,
                None => self.window(&key).await?,
            };
            // A window whose other figures were mended may still disagree in these.
            let still = mending == Mending::Mended && difference.what == "forfeited"
                || difference.what.contains("pool");
            difference.mending = Some(match still {
                true => Mending::NotMended("which side is right cannot be told".to_owned()),
                false => mending.clone(),
            });
            done.push((key, mending));
        }
        Ok(())
    }

    async fn window(&self, key: &CellKey) -> Result<Mending, LedgerError> {
        Ok(match self.ledger.mend_window(key, self.author).await? {
            MendedWindow::Mended { was, is } => {
                tracing::info!(%key, %was, %is, "a window\'s totals were made anew");
                Mending::Mended
            }
            MendedWindow::Agrees => Mending::NotMended("which side is right cannot be told".into()),
            MendedWindow::Undecided(why) => Mending::NotMended(why.to_owned()),
        })
    }

    /// Brings a shared counter to what the ledger has.
    pub async fn counter(
        &self,
        redis: &RedisCounters,
        epoch: u64,
        key: &CellKey,
    ) -> Result<Mending, LookError> {
        let Some(seen) = redis.inspect(key).await?.filter(|seen| seen.epoch == epoch) else {
            let why = "what its runs hold is not known; DEL tg:life in Redis begins a new epoch, in \
                       which every counter is rebuilt and every run reports";
            return Ok(Mending::NotMended(why.to_owned()));
        };
        let Some(books) = self.ledger.counter_books(std::slice::from_ref(key)).await?.pop() else {
            return Ok(Mending::NotMended("the ledger said nothing of it".to_owned()));
        };
        let mend = match mend_of(&seen, &books) {
            Ok(mend) => mend,
            Err(why) => return Ok(Mending::NotMended(why.to_owned())),
        };
        let answer = redis.mend(key, epoch, &mend).await?;
        if answer != MendAnswer::Mended {
            return Ok(Mending::NotMended("it moved meanwhile; try again".to_owned()));
        }
        let now = redis.inspect(key).await?;
        let told = (
            figures(&seen, now.as_ref()),
            now.as_ref().map_or(Value::Null, |now| figures(now, Some(&seen))),
        );
        self.ledger.note_mended("reconcile.counter", key, told, self.author).await?;
        let open = self.ledger.open_runs().await?;
        let open = open.into_iter().map(|run| (run.run, run.mark_at)).collect();
        let books = self.ledger.counter_books(std::slice::from_ref(key)).await?.pop();
        let left = match (now, books) {
            (Some(now), Some(books)) => compare(&now, &books, &open),
            _ => Vec::new(),
        };
        Ok(match left.is_empty() {
            true => Mending::Mended,
            false => Mending::NotMended("it was raised to the ledger, and still says more".into()),
        })
    }

    /// Makes a charge that is missing.
    pub async fn charge(
        &self,
        recheck: &mut Recheck,
        finding: &ChargeFinding,
    ) -> Result<Option<Mending>, JobError> {
        Ok(match &finding.problem {
            ChargeProblem::Missing { due } | ChargeProblem::LeftOut { due } => {
                recheck.make(due).await?;
                let charge = json!({
                    "kind": due.kind, "amount_minor": due.amount.minor,
                    "currency": due.amount.currency, "quantity": due.quantity,
                    "period_start": due.period_start, "period_end": due.period_end,
                });
                let told = (Value::Null, charge);
                self.ledger.note_mended("reconcile.charge", &due.key, told, self.author).await?;
                Some(Mending::Mended)
            }
            problem if problem.is_difference() => Some(Mending::NotMended(
                "charges are append-only, and this version makes no reversals".to_owned(),
            )),
            _ => None,
        })
    }
}

/// What the audit log says of a counter: its sums, and the entries that are not the same in `other`.
fn figures(counter: &Inspection, other: Option<&Inspection>) -> Value {
    let is_same = |run: &InspectedRun| other.is_some_and(|other| other.runs.contains(run));
    let changed = counter.runs.iter().filter(|run| !is_same(run)).take(RUNS_NOTED_MAX);
    let runs: Map<String, Value> = changed
        .map(|run| {
            let totals = run.totals;
            let entry = json!({
                "consumed": totals.consumed, "recorded": totals.recorded, "undone": totals.undone,
                "flushed": run.flushed, "outstanding": run.outstanding(),
            });
            (run.run.to_string(), entry)
        })
        .collect();
    json!({
        "used": counter.used, "used_by_closed_runs": counter.base,
        "forfeited": counter.forfeited, "outstanding": counter.outstanding, "runs": runs,
    })
}

/// Why a difference stands that nothing mends.
pub fn not_mended(leg: Leg) -> Mending {
    Mending::NotMended(
        match leg {
            Leg::Events => {
                "bills are made of the hours, and a sum does not say which event is missing"
            }
            Leg::Journals => "what a run flushed is not flushed again",
            Leg::Counters | Leg::Totals | Leg::Charges => "which side is right cannot be told",
        }
        .to_owned(),
    )
}

fn window_of(owner: &TenantId, place: &Place) -> Option<CellKey> {
    Some(CellKey {
        tenant: owner.clone(),
        meter: place.meter.clone()?,
        subject: place.subject.clone(),
        label: place.window?,
    })
}

/// What brings a counter to the ledger\'s books, if that takes nothing from anybody.
fn mend_of(seen: &Inspection, books: &CounterBooks) -> Result<Mend, &'static str> {
    if books.apart.iter().any(|run| !run.is_open) {
        return Err("a run is being folded into it; try again");
    }
    let apart: i128 = books.apart.iter().map(RunBooks::used).sum();
    let used = i64::try_from(i128::from(books.used) - apart)
        .map_err(|_| "the ledger has more than can be counted")?;
    let folded = FoldedUnits { used, forfeited: books.forfeited };
    let seen_units = FoldedUnits { used: seen.base, forfeited: seen.forfeited };
    let is_lower = folded.used < seen_units.used || folded.forfeited < seen_units.forfeited;
    if is_lower && !seen.runs.is_empty() {
        return Err(
            "it says more than the ledger: lowering it while runs are open could let more be \
                    admitted than the limit",
        );
    }
    let is_apart = |run: &RunId| books.apart.iter().any(|of| of.run == *run);
    if seen.runs.iter().any(|entry| !is_apart(&entry.run) && entry.used() != 0) {
        return Err("it has usage of a run that the ledger knows nothing of here");
    }
    let flushed = |run: &RunBooks| Flushed { run: run.run, used: run.counted, undone: run.undone };
    Ok(Mend { seen: seen_units, folded, open_runs: books.apart.iter().map(flushed).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leases::message::Totals;
    use jiff::Timestamp;
    use uuid::Uuid;

    const OPEN: RunId = RunId(Uuid::from_u128(1));

    fn seen(base: i64, runs: Vec<InspectedRun>) -> Inspection {
        let (epoch, used, ceiling) = (1, base, None);
        Inspection { epoch, base, used, outstanding: 0, forfeited: 0, ceiling, runs }
    }

    fn books(used: i64, is_open: Option<bool>) -> CounterBooks {
        let run = |is_open| RunBooks {
            run: OPEN,
            counted: 4,
            undone: 1,
            forfeited: 0,
            is_open,
            mark_at: Timestamp::UNIX_EPOCH,
        };
        let apart = is_open.map(run).into_iter().collect();
        CounterBooks { at: Timestamp::UNIX_EPOCH, used, forfeited: 0, apart }
    }

    fn entry() -> InspectedRun {
        InspectedRun { run: OPEN, totals: Totals::default(), flushed: 4 }
    }

    #[test]
    fn a_counter_is_raised_to_the_ledger_and_its_runs_to_what_they_flushed() {
        let mend = mend_of(&seen(5, vec![entry()]), &books(13, Some(true))).unwrap();
        assert_eq!((mend.seen.used, mend.folded.used), (5, 10));
        assert_eq!(mend.open_runs, [Flushed { run: OPEN, used: 4, undone: 1 }]);
    }

    #[test]
    fn a_counter_is_lowered_only_when_no_run_can_hold_anything() {
        assert!(mend_of(&seen(11, vec![entry()]), &books(13, Some(true))).is_err());
        assert_eq!(mend_of(&seen(11, vec![]), &books(10, None)).unwrap().folded.used, 10);
        assert!(mend_of(&seen(5, vec![]), &books(13, Some(false))).is_err(), "it is being folded");
    }
}
