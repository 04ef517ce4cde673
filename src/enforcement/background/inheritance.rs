//! Tells the shared counters what a dead run used, and gives back what it did not, before its journal
//! is flushed: that may take minutes, and answers should not be wrong for so long. The run's closing,
//! which comes when all is flushed, says the same again, less what turned out to be repeats.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ahash::RandomState;
use futures::{StreamExt, stream};

use crate::{
    domain::{cell_key::CellKey, ids::RunId, share::Share},
    enforcement::leasing::Leasing,
    journal::{
        error::JournalError,
        position::Position,
        reader::{ReadLimit, Reader},
        record::Record,
    },
    leases::{
        heir,
        message::{Answer, Call, Epoch, Totals},
    },
    ledger::floors::FlushedTotals,
};

/// How much of the journal is in memory at once.
const READ: ReadLimit = ReadLimit { records_max: 1_000, bytes_max: 1 << 20 };
/// Counters whose totals are in memory, at some 300 bytes each. The closing tells the others.
const COUNTERS_MAX: usize = 250_000;
/// Counters that are told at a time.
const TOLD_AT_ONCE: usize = 32;
/// Before counters that did not answer are told again.
const RETRY: Duration = Duration::from_secs(1);

/// Why it is not known what a run used.
#[derive(Debug, thiserror::Error)]
pub enum UnknownUse {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the journal ends at {0}, and not where its run ended")]
    EndsEarly(Position),
}

/// What one run has used, by counter: of each counter that is here, all of it.
#[derive(Debug)]
pub struct Used {
    counters: HashMap<CellKey, Totals, RandomState>,
    counters_max: usize,
}

impl Used {
    fn new(counters_max: usize) -> Self {
        Self { counters: HashMap::default(), counters_max }
    }

    /// What the ledger had of a run at the mark where `unflushed` begins, or later, and what its
    /// journal has from there to its end. All of it or an error: who gives back has to know everything
    /// that was used. Nothing of the journal may be deleted meanwhile. Blocks on the disk.
    pub fn read(
        flushed: Vec<(CellKey, FlushedTotals)>,
        mut unflushed: Reader,
        end: Position,
    ) -> Result<Self, UnknownUse> {
        let mut used = Self::new(COUNTERS_MAX);
        for (key, FlushedTotals { consumed, recorded, undone, .. }) in flushed {
            if let Some(totals) = used.of(&key) {
                *totals = Totals { consumed, recorded, undone, ..Totals::default() };
            }
        }
        loop {
            let entries = unflushed.read(READ)?;
            if entries.is_empty() {
                let position = unflushed.position();
                return if position < end {
                    Err(UnknownUse::EndsEarly(position))
                } else {
                    Ok(used)
                };
            }
            entries.iter().for_each(|entry| used.add(&entry.record));
        }
    }

    fn add(&mut self, record: &Record) {
        match record {
            // It may have been granted something there and used nothing.
            Record::CellOpened { key } => {
                self.of(key);
            }
            Record::Usage(events) => {
                for event in events {
                    self.add_share(&event.key, Share::of(event));
                    for part in &event.parts {
                        self.add_share(&part.key, Share::of_part(event, part));
                    }
                }
            }
        }
    }

    /// What a level goes down by comes free when the ledger has said that it counts.
    fn add_share(&mut self, key: &CellKey, Share { consumed, recorded, .. }: Share) {
        if (consumed, recorded) == (0, 0) {
            return;
        }
        let units = |share: i128| u64::try_from(share).unwrap_or(u64::MAX);
        if let Some(totals) = self.of(key) {
            totals.consumed = totals.consumed.saturating_add(units(consumed));
            totals.recorded = totals.recorded.saturating_add(units(recorded));
        }
    }

    /// `None` for one too many, from the first time on: nothing that is here is ever taken out.
    fn of(&mut self, key: &CellKey) -> Option<&mut Totals> {
        if !self.counters.contains_key(key) {
            if self.counters.len() >= self.counters_max {
                return None;
            }
            self.counters.insert(key.clone(), Totals::default());
        }
        self.counters.get_mut(key)
    }
}

/// Tells what `run` used, until all counters have answered.
pub async fn tell(leasing: Arc<Leasing>, run: RunId, used: Used) {
    let leasing = &*leasing;
    let mut epochs = leasing.epoch.clone();
    let mut left: Vec<(CellKey, Totals)> = used.counters.into_iter().collect();
    let mut told = 0;
    while !left.is_empty() {
        let is_recovered = |epoch: &Option<Epoch>| epoch.is_some_and(|epoch| epoch.recovered);
        let Ok(Some(epoch)) = epochs.wait_for(is_recovered).await.map(|epoch| *epoch) else {
            return;
        };
        let tellings = left.into_iter().map(|(key, totals)| async move {
            let call = heir::tell(run, epoch, totals);
            (tell_counter(leasing, &key, &call).await, key, totals)
        });
        let mut answered = stream::iter(tellings).buffer_unordered(TOLD_AT_ONCE);
        let mut silent = vec![];
        while let Some((outcome, key, totals)) = answered.next().await {
            match outcome {
                Told::All => told += 1,
                Told::Unknown => {}
                Told::Nothing => silent.push((key, totals)),
            }
        }
        left = silent;
        if !left.is_empty() {
            tokio::time::sleep(RETRY).await;
        }
    }
    tracing::info!(%run, counters = told, "told what a leftover run used");
}

/// What a telling came to.
enum Told {
    All,
    /// The counter does not count this run: only the closing tells it.
    Unknown,
    /// It may be told again.
    Nothing,
}

async fn tell_counter(leasing: &Leasing, key: &CellKey, call: &Call) -> Told {
    let counted = match leasing.counters.call(key, call).await {
        Ok(Answer::Counted(counted)) => counted,
        Ok(Answer::NeedFloor { .. } | Answer::Fenced) => return Told::Unknown,
        Ok(Answer::StaleEpoch { .. } | Answer::EpochLost) => {
            leasing.epoch_doubt.notify_one();
            return Told::Nothing;
        }
        Err(_) => return Told::Nothing,
    };
    let Some(back) = heir::give_back(call, &counted) else { return Told::All };
    match leasing.counters.call(key, &back).await {
        Ok(Answer::Counted(_)) => Told::All,
        _ => Told::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::{MeterName, TenantId},
        meter::Aggregation,
        properties::Properties,
        usage::{Part, UsageEvent},
    };

    fn key(meter: &str) -> CellKey {
        CellKey {
            tenant: TenantId::new("acme").unwrap(),
            meter: MeterName::new(meter).unwrap(),
            subject: None,
            label: "month:0:1".parse().unwrap(),
        }
    }

    fn event(key: &CellKey, aggregation: Aggregation, amount: i64, from_lease: u64) -> UsageEvent {
        UsageEvent {
            key: key.clone(),
            aggregation,
            amount,
            distinct_value: None,
            time: "2026-03-01T00:00:00Z".parse().unwrap(),
            idempotency_key: None,
            properties: Properties::default(),
            group_by: vec![],
            event_retention_days: 0,
            from_lease,
            reservation: None,
            parts: vec![],
            operation: None,
        }
    }

    fn totals(consumed: u64, recorded: u64) -> Totals {
        Totals { consumed, recorded, ..Totals::default() }
    }

    #[test]
    fn usage_adds_up_by_counter_and_what_a_level_goes_down_by_waits_for_the_ledger() {
        let (calls, peak, grant, opened) = (key("calls"), key("peak"), key("grant"), key("opened"));
        let mut covered = event(&calls, Aggregation::Sum, 9, 4);
        covered.parts = vec![Part { key: grant.clone(), units: 3, recorded: 1 }];
        let mut used = Used::new(10);
        used.add(&Record::CellOpened { key: opened.clone() });
        used.add(&Record::Usage(vec![
            event(&calls, Aggregation::Sum, 5, 5),
            covered,
            event(&calls, Aggregation::Sum, -7, 0),
            event(&peak, Aggregation::Max, 50, 0),
        ]));
        let expected = [(calls, totals(9, 2)), (grant, totals(2, 1)), (opened, totals(0, 0))];
        assert_eq!(used.counters, expected.into_iter().collect());
    }

    #[test]
    fn of_too_many_counters_each_is_known_wholly_or_not_at_all() {
        let (first, second, third) = (key("first"), key("second"), key("third"));
        let one = |key: &CellKey| event(key, Aggregation::Sum, 1, 1);
        let mut used = Used::new(2);
        let events = [&first, &second, &third, &second, &third, &first].map(one);
        used.add(&Record::Usage(events.into()));
        let expected = [(first, totals(2, 0)), (second, totals(2, 0))];
        assert_eq!(used.counters, expected.into_iter().collect());
    }
}
