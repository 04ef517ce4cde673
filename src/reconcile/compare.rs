//! One shared counter beside the ledger's books of it. Pure.
//!
//! ```text
//! used in Redis = usage of folded runs + Σ over the others (counted − undone)
//! ```
//!
//! A run that is open may have counted more in Redis than it has flushed: that is unflushed usage.
//! It has told Redis less than it has flushed only until its next settlement.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::{
    domain::{
        amount::{AMOUNT_MAX, saturated},
        ids::RunId,
    },
    ledger::counter_books::{CounterBooks, RunBooks},
    store::inspect::{InspectedRun, Inspection},
};

/// How far clocks of sidecars and of the ledger may be apart.
pub const CLOCK_SPREAD: SignedDuration = SignedDuration::from_secs(2);

/// What of a counter differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The counter is not in Redis, though open runs have counted on it in a window that goes on.
    Absent,
    /// Usage of runs that are closed and folded.
    FoldedUsage,
    /// Units forfeited by runs that are closed and folded.
    Forfeited,
    /// A run that is closed and not folded yet.
    NotFolded(RunId),
    /// An entry of a run that is not open.
    NotOpen(RunId),
    /// An open run's usage, of which Redis has less than the ledger.
    Unsettled(RunId),
    /// An open run's usage, of which Redis has more than the ledger.
    Unflushed(RunId),
    /// An open run's usage that does not count after all.
    Undone(RunId),
    /// The counter's own sum of what its entries have used.
    SumOfUsed,
    /// The counter's own sum of the escrow that its entries hold.
    SumOfOutstanding,
}

/// A figure on both sides, base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub what: What,
    pub ledger: i64,
    pub redis: i64,
}

/// How long a mismatch has been looked at.
#[derive(Clone, Copy, Debug)]
pub struct Stood {
    /// Neither side has moved for longer than usage needs by either way.
    pub is_long: bool,
    /// When it was first seen so, by the ledger's clock.
    pub since: Timestamp,
}

/// What to make of a mismatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Differs,
    InFlight,
    /// An open run has not flushed it yet.
    Unflushed,
}

impl Mismatch {
    /// What to make of it. `marks` are those of the open runs: everything that a run acknowledged
    /// before its mark is in the ledger.
    pub fn verdict(&self, stood: Stood, marks: &BTreeMap<RunId, Timestamp>) -> Verdict {
        match self.what {
            What::Unflushed(run) => {
                let surely = stood.since.checked_add(CLOCK_SPREAD).unwrap_or(Timestamp::MAX);
                match marks.get(&run) {
                    Some(mark) if *mark > surely => Verdict::Differs,
                    _ => Verdict::Unflushed,
                }
            }
            What::NotFolded(_) => Verdict::InFlight,
            _ if stood.is_long => Verdict::Differs,
            _ => Verdict::InFlight,
        }
    }
}

/// Where the two do not say the same. `open` are the runs that are.
pub fn compare(
    redis: &Inspection,
    books: &CounterBooks,
    open: &BTreeMap<RunId, Timestamp>,
) -> Vec<Mismatch> {
    let mut found = Vec::new();
    let unfolded = books.apart.iter().filter(|run| !run.is_open);
    found.extend(unfolded.map(|run| Mismatch {
        what: What::NotFolded(run.run),
        ledger: fitted(run.used()),
        redis: entry_of(redis, run.run).map_or(0, InspectedRun::used),
    }));
    // While a run is being folded it may be in the base or beside it.
    if found.is_empty() {
        found.extend(compare_folded(redis, books));
    }
    for run in books.apart.iter().filter(|run| run.is_open) {
        found.extend(compare_run(run, entry_of(redis, run.run)));
    }
    let is_apart = |entry: &InspectedRun| books.apart.iter().any(|run| run.run == entry.run);
    for entry in redis.runs.iter().filter(|entry| !is_apart(entry)) {
        let what = match open.contains_key(&entry.run) {
            true => What::Unflushed(entry.run),
            false => What::NotOpen(entry.run),
        };
        let redis = entry.used();
        if redis != 0 || entry.outstanding() > 0 && !open.contains_key(&entry.run) {
            found.push(Mismatch { what, ledger: 0, redis });
        }
    }
    found.extend(compare_sums(redis));
    found
}

fn compare_folded(redis: &Inspection, books: &CounterBooks) -> Vec<Mismatch> {
    let apart: i128 = books.apart.iter().map(RunBooks::used).sum();
    let folded = fitted(i128::from(books.used) - apart);
    let forfeited = fitted(books.forfeited.into());
    let figures = [
        Mismatch { what: What::FoldedUsage, ledger: folded, redis: redis.base },
        Mismatch { what: What::Forfeited, ledger: forfeited, redis: redis.forfeited.cast_signed() },
    ];
    figures.into_iter().filter(Mismatch::is_one).collect()
}

fn compare_run(run: &RunBooks, entry: Option<&InspectedRun>) -> Vec<Mismatch> {
    let ledger = run.counted.min(AMOUNT_MAX).cast_signed();
    let redis = entry.map_or(0, InspectedRun::counted).cast_signed();
    let what = match redis > ledger {
        true => What::Unflushed(run.run),
        false => What::Unsettled(run.run),
    };
    let undone = Mismatch {
        what: What::Undone(run.run),
        ledger: run.undone.min(AMOUNT_MAX).cast_signed(),
        redis: entry.map_or(0, |entry| entry.totals.undone).cast_signed(),
    };
    [Mismatch { what, ledger, redis }, undone].into_iter().filter(Mismatch::is_one).collect()
}

/// The sums that a counter keeps running. Past what can be counted they say no more than that.
fn compare_sums(redis: &Inspection) -> Vec<Mismatch> {
    let full = AMOUNT_MAX.cast_signed();
    if redis.outstanding == 0 && redis.used == saturated(redis.base + full) {
        return Vec::new();
    }
    let used: i128 = redis.runs.iter().map(|run| i128::from(run.used())).sum();
    let outstanding: i128 = redis.runs.iter().map(|run| i128::from(run.outstanding())).sum();
    let figures = [
        Mismatch {
            what: What::SumOfUsed,
            ledger: fitted(i128::from(redis.base) + used),
            redis: redis.used,
        },
        Mismatch {
            what: What::SumOfOutstanding,
            ledger: fitted(outstanding),
            redis: redis.outstanding,
        },
    ];
    figures.into_iter().filter(Mismatch::is_one).collect()
}

impl Mismatch {
    fn is_one(&self) -> bool {
        self.ledger != self.redis
    }
}

fn entry_of(redis: &Inspection, run: RunId) -> Option<&InspectedRun> {
    redis.runs.iter().find(|entry| entry.run == run)
}

/// As a counter can have it.
fn fitted(units: i128) -> i64 {
    let most = i128::from(AMOUNT_MAX);
    // Within ±2^53, so it fits.
    units.clamp(-most, most) as i64
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::leases::message::Totals;

    const OPEN: RunId = RunId(Uuid::from_u128(1));
    const CLOSED: RunId = RunId(Uuid::from_u128(2));

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn open() -> BTreeMap<RunId, Timestamp> {
        [(OPEN, at(100))].into()
    }

    /// 10 units of closed runs, and an open run that has used 5 and holds 3.
    fn redis() -> Inspection {
        let totals = Totals { granted: 6, returned: 0, consumed: 3, recorded: 4, undone: 2 };
        Inspection {
            epoch: 1,
            base: 10,
            used: 15,
            outstanding: 3,
            forfeited: 1,
            ceiling: None,
            runs: vec![InspectedRun { run: OPEN, totals, flushed: 0 }],
        }
    }

    fn books() -> CounterBooks {
        let run = RunBooks {
            run: OPEN,
            counted: 7,
            undone: 2,
            forfeited: 0,
            is_open: true,
            mark_at: at(100),
        };
        CounterBooks { at: at(100), used: 15, forfeited: 1, apart: vec![run] }
    }

    fn found(redis: &Inspection, books: &CounterBooks) -> Vec<What> {
        compare(redis, books, &open()).into_iter().map(|mismatch| mismatch.what).collect()
    }

    #[test]
    fn a_counter_at_rest_says_what_the_ledger_says() {
        assert_eq!(compare(&redis(), &books(), &open()), []);
    }

    #[test]
    fn each_figure_that_is_changed_is_named() {
        let of = |change: fn(&mut Inspection)| {
            let mut changed = redis();
            change(&mut changed);
            found(&changed, &books())
        };
        assert_eq!(of(|it| (it.base, it.used) = (9, 14)), [What::FoldedUsage]);
        assert_eq!(of(|it| it.used = 14), [What::SumOfUsed]);
        assert_eq!(of(|it| it.outstanding = 0), [What::SumOfOutstanding]);
        assert_eq!(of(|it| it.forfeited = 0), [What::Forfeited]);
        let settled_less = of(|it| {
            it.runs[0].totals.recorded = 3;
            it.used = 14;
        });
        assert_eq!(settled_less, [What::Unsettled(OPEN)]);
        let undone_more = of(|it| {
            it.runs[0].totals.undone = 3;
            it.used = 14;
        });
        assert_eq!(undone_more, [What::Undone(OPEN)]);
    }

    #[test]
    fn an_entry_of_a_run_that_is_closed_counts_twice() {
        let mut doubled = redis();
        let totals = Totals { recorded: 2, ..Totals::default() };
        doubled.runs.push(InspectedRun { run: CLOSED, totals, flushed: 0 });
        doubled.used += 2;
        assert_eq!(found(&doubled, &books()), [What::NotOpen(CLOSED)]);
    }

    #[test]
    fn what_a_rebuilt_counter_has_of_a_run_stands_in_until_the_run_reports() {
        let mut rebuilt = redis();
        let totals = Totals { undone: 2, ..Totals::default() };
        rebuilt.runs[0] = InspectedRun { run: OPEN, totals, flushed: 7 };
        rebuilt.outstanding = 0;
        assert_eq!(compare(&rebuilt, &books(), &open()), []);
    }

    #[test]
    fn while_a_run_is_folded_only_that_is_told() {
        let mut folding = books();
        folding.apart[0].is_open = false;
        let found = compare(&redis(), &folding, &BTreeMap::new());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].what, What::NotFolded(OPEN));
    }

    #[test]
    fn usage_is_unflushed_until_the_runs_mark_is_past_the_look() {
        let mismatch = Mismatch { what: What::Unflushed(OPEN), ledger: 5, redis: 6 };
        let verdict = |since| mismatch.verdict(Stood { is_long: true, since: at(since) }, &open());
        assert_eq!(verdict(99), Verdict::Unflushed);
        assert_eq!(verdict(97), Verdict::Differs);
        let gone = mismatch.verdict(Stood { is_long: true, since: at(0) }, &BTreeMap::new());
        assert_eq!(gone, Verdict::Unflushed);
    }

    #[test]
    fn what_moves_is_in_flight_and_what_stands_still_differs() {
        let mismatch = Mismatch { what: What::Unsettled(OPEN), ledger: 5, redis: 4 };
        let verdict = |is_long| mismatch.verdict(Stood { is_long, since: at(0) }, &open());
        assert_eq!((verdict(false), verdict(true)), (Verdict::InFlight, Verdict::Differs));
    }

    #[test]
    fn usage_past_what_can_be_counted_is_compared_as_far_as_it_can_be() {
        let full = AMOUNT_MAX;
        let mut redis = redis();
        redis.runs[0].totals = Totals { recorded: full, ..Totals::default() };
        (redis.base, redis.outstanding) = (0, 0);
        redis.used = full.cast_signed();
        let mut books = books();
        (books.used, books.apart[0].undone) = (i64::MAX, 0);
        books.apart[0].counted = i64::MAX.cast_unsigned();
        assert_eq!(compare(&redis, &books, &open()), []);
    }
}
