//! All that the embedded store knows; changed by records alone, and always the same by the same.

use std::{collections::BTreeMap, sync::Arc};

use ahash::AHashMap;
use jiff::{SignedDuration, Timestamp};

use super::{
    config::EmbeddedConfig,
    total::{Addend, longest_window},
    totals::Totals,
    used_keys::{Fate, UsedKeys},
};
use crate::{
    domain::{cell_key::CellKey, ids::RunId, share::Share, usage::UsageEvent, window::WindowLabel},
    journal::{
        position::Position,
        reader::Entry,
        record::Record,
        tally::{Tally, Units},
    },
};

/// What taking in some records came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// Events that count.
    pub counted: u64,
    /// Events whose key had been used for the same content.
    pub duplicates: u64,
    /// Events whose key had been used for another content; left out.
    pub conflicts: u64,
    /// Units that the run has undone, since the store was opened, of each counter where these
    /// records undid something.
    pub undone: Vec<(CellKey, u64)>,
}

/// Marks, totals and keys.
#[derive(Debug)]
pub struct State {
    pub marks: BTreeMap<RunId, Position>,
    pub totals: Totals,
    pub used_keys: UsedKeys,
    /// Events that were left out because of their key, ever.
    pub conflicts: u64,
    /// What each run has undone of its counters, since the store was opened. Few have anything.
    undone: AHashMap<(RunId, CellKey), Undone>,
    window_retention: SignedDuration,
}

/// What a run has undone of a counter.
#[derive(Clone, Copy, Debug)]
struct Undone {
    units: u64,
    /// When it last grew, by the real clock.
    changed_at: Timestamp,
}

impl State {
    /// Nothing known yet.
    pub fn new(config: &EmbeddedConfig) -> Self {
        Self {
            marks: BTreeMap::new(),
            totals: Totals::default(),
            used_keys: UsedKeys::new(config.keys_max, config.key_retention),
            conflicts: 0,
            undone: AHashMap::new(),
            window_retention: config.window_retention,
        }
    }

    /// Takes in the entries of `run` that lie behind its mark, and moves the mark.
    pub fn absorb(&mut self, run: RunId, entries: &[Entry<Tally>], now: Timestamp) -> Absorbed {
        let mut absorbed = Absorbed::default();
        let mut undone = vec![];
        let mut mark = self.marks.get(&run).copied().unwrap_or(Position::START);
        let mut counts = vec![];
        for entry in entries.iter().filter(|entry| entry.position > mark) {
            match &entry.record {
                Tally::Plain(units) => {
                    absorbed.counted += units.len() as u64;
                    self.add_units(units, now);
                }
                Tally::Whole(Record::Usage(events)) => {
                    counts.clear();
                    for used in events.chunk_by(UsageEvent::is_of_same_operation) {
                        let fate = self.used_keys.claim(used, now);
                        for event in used {
                            self.absorb_event(run, event, (&fate, now), &mut absorbed, &mut undone);
                            counts.push(fate == Fate::First);
                        }
                    }
                    self.add(events, &counts, now);
                }
                Tally::Whole(Record::CellOpened { .. }) => {}
            }
        }
        if let Some(last) = entries.last() {
            mark = mark.max(last.position);
        }
        self.marks.insert(run, mark);
        undone.sort_unstable();
        undone.dedup();
        absorbed.undone = undone
            .into_iter()
            .filter_map(|key| {
                let units = self.undone.get(&(run, key.clone()))?.units;
                Some((key, units))
            })
            .collect();
        absorbed
    }

    fn absorb_event(
        &mut self,
        run: RunId,
        event: &UsageEvent,
        (fate, now): (&Fate, Timestamp),
        absorbed: &mut Absorbed,
        undone: &mut Vec<CellKey>,
    ) {
        // Grants are Postgres' matter: no event has parts here.
        let mut share = Share::of(event);
        match fate {
            Fate::First => absorbed.counted += 1,
            Fate::Duplicate => {
                absorbed.duplicates += 1;
                share = share.taken_back();
            }
            Fate::Conflict(content) => {
                absorbed.conflicts += 1;
                self.conflicts += 1;
                share = share.taken_back();
                tracing::warn!(
                    key = %event.key,
                    idempotency_key = event.idempotency_key.as_ref().map(|key| key.as_str()),
                    amount = event.amount,
                    used_for = content,
                    "an idempotency key was used for another content before; the event is left out"
                );
            }
        }
        if share.undone > 0 {
            let none = Undone { units: 0, changed_at: now };
            let kept = self.undone.entry((run, event.key.clone())).or_insert(none);
            let units = u64::try_from(share.undone).unwrap_or(u64::MAX);
            *kept = Undone { units: kept.units.saturating_add(units), changed_at: now };
            undone.push(event.key.clone());
        }
    }

    /// Adds events that count as they are. Neighbours are often of one counter.
    fn add_units(&mut self, units: &[Units], now: Timestamp) {
        for of_one in units.chunk_by(|one, next| Arc::ptr_eq(&one.counter, &next.counter)) {
            if let Some(Units { counter, .. }) = of_one.first() {
                let added = of_one.iter().map(Addend::of_units);
                self.totals.add(&counter.key, added, now);
            }
        }
    }

    /// Adds those of the events that count. Neighbours are often of one counter.
    fn add(&mut self, events: &[UsageEvent], counts: &[bool], now: Timestamp) {
        let mut place = 0;
        for of_one in events.chunk_by(|one, next| one.key == next.key) {
            let counts = &counts[place..];
            place += of_one.len();
            let counting = of_one.iter().zip(counts).filter(|(_, counts)| **counts);
            if let Some(first) = of_one.first() {
                let added = counting.map(|(event, _)| Addend::of_event(event));
                self.totals.add(&first.key, added, now);
            }
        }
    }

    /// Forgets a run that is gone: nothing of it will be taken in again.
    pub fn forget_run(&mut self, run: RunId) {
        self.marks.remove(&run);
        self.undone.retain(|(of, _), _| *of != run);
    }

    /// Forgets keys and windows whose time is over.
    pub fn purge(&mut self, now: Timestamp) {
        self.used_keys.purge(now);
        let retention = self.window_retention;
        let is_over = |label: WindowLabel, changed_at_second: i64| {
            let unchanged_s = now.as_second().saturating_sub(changed_at_second);
            longest_window(label.period)
                .is_some_and(|longest| SignedDuration::from_secs(unchanged_s) > longest + retention)
        };
        self.totals.retain(|key, total| !is_over(key.label, total.changed_at_second));
        let totals = &self.totals;
        // All of a counter's events may be undone; then it has no total.
        self.undone.retain(|(_, key), undone| {
            totals.contains(key) || !is_over(key.label, undone.changed_at.as_second())
        });
    }
}
