//! From events to sums: what a batch adds to which row. Pure.
//!
//! A *share* is what a run told the shared counters an event was (escrow consumed, or recorded
//! without) and how much of that does not count after all. The ledger adds to a window exactly
//! what its shares add up to, so that `window_totals.used` = Σ over runs of (consumed + recorded −
//! undone) whatever happens to an event: counted, duplicate or quarantined.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::{
    cell_key::CellKey, distinct::DistinctCount, meter::Aggregation, share::Share, usage::UsageEvent,
};

use super::{
    movement::{Movement, PoolUsageKey},
    slot::{Slot, floor_to_microsecond},
};

/// What a number of events amount to. Sums are wide, so that adding them up cannot overflow; what
/// a column cannot hold is found out when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    pub amount_sum: i128,
    /// Of `amount_sum`, units of a summed meter that other counters cover.
    pub covered: i128,
    pub events: u64,
    pub amount_max: i64,
    /// Time and amount of the latest event; of several at the same time, the largest amount.
    pub last: (Timestamp, i64),
    /// The distinct values, on distinct-count meters.
    pub distinct: Option<DistinctCount>,
}

impl Tally {
    fn of(event: &UsageEvent) -> Self {
        Self {
            amount_sum: event.amount.into(),
            covered: event.covered().into(),
            events: 1,
            amount_max: event.amount,
            last: (floor_to_microsecond(event.time), event.amount),
            distinct: distinct_of(event),
        }
    }

    fn add(&mut self, other: &Self) {
        self.amount_sum += other.amount_sum;
        self.covered += other.covered;
        self.events += other.events;
        self.amount_max = self.amount_max.max(other.amount_max);
        self.last = self.last.max(other.last);
        match (&mut self.distinct, &other.distinct) {
            (Some(distinct), Some(other)) => distinct.merge(other),
            (None, Some(other)) => self.distinct = Some(other.clone()),
            (_, None) => {}
        }
    }
}

fn distinct_of(event: &UsageEvent) -> Option<DistinctCount> {
    if event.aggregation != Aggregation::DistinctCount {
        return None;
    }
    let mut distinct = DistinctCount::new();
    if let Some(value) = &event.distinct_value {
        distinct.insert(value);
    }
    Some(distinct)
}

/// Some events of one slot, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    pub aggregation: Aggregation,
    pub tally: Tally,
    /// Of the events' own counter.
    pub share: Share,
    /// Of the counters that covered parts of them.
    pub parts: BTreeMap<CellKey, Share>,
    /// Units that levels went down by, by where these may come free.
    pub lowered: BTreeMap<Vec<CellKey>, i128>,
}

impl Sum {
    /// The sum of one event.
    pub fn of(event: &UsageEvent) -> Self {
        let (tally, share) = (Tally::of(event), Share::of(event));
        let mut sum = Self {
            aggregation: event.aggregation,
            tally,
            share,
            parts: BTreeMap::new(),
            lowered: BTreeMap::new(),
        };
        if event.lowers() > 0 {
            let may_free: Vec<_> = event.parts.iter().map(|part| part.key.clone()).collect();
            if !may_free.is_empty() {
                sum.lowered.insert(may_free, event.lowers().into());
            }
            return sum;
        }
        for part in &event.parts {
            add_to(&mut sum.parts, &part.key, Share::of_part(event, part));
        }
        sum
    }

    /// Adds `other`, which comes later.
    pub fn add(&mut self, other: &Self) {
        self.aggregation = other.aggregation;
        self.tally.add(&other.tally);
        self.share.add(other.share);
        for (key, share) in &other.parts {
            add_to(&mut self.parts, key, *share);
        }
        for (may_free, units) in &other.lowered {
            *self.lowered.entry(may_free.clone()).or_default() += units;
        }
    }
}

/// All that a batch adds, by row and in the order in which rows are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub hours: BTreeMap<Slot, Tally>,
    pub days: BTreeMap<Slot, Tally>,
    pub windows: BTreeMap<CellKey, Sum>,
    /// What events of other counters add to these.
    pub covering: BTreeMap<CellKey, Share>,
    /// What members' use of pools moves by.
    pub pool_usage: BTreeMap<PoolUsageKey, Movement>,
    pub shares: BTreeMap<CellKey, Share>,
    /// What levels went down by, by the slot of the events and where it may come free; not among the
    /// rest before [`super::lowering::share_out`] has decided.
    pub lowered: BTreeMap<(Slot, Vec<CellKey>), i128>,
}

impl Sums {
    /// Adds events that count.
    pub fn count(&mut self, slot: &Slot, sum: &Sum) {
        add_tally(&mut self.hours, slot.clone(), &sum.tally);
        add_tally(&mut self.days, slot.day(), &sum.tally);
        match self.windows.get_mut(&slot.key) {
            Some(window) => window.add(sum),
            None => {
                self.windows.insert(slot.key.clone(), sum.clone());
            }
        }
        self.add_share(&slot.key, sum.share);
        for (key, share) in &sum.parts {
            add_to(&mut self.covering, key, *share);
            self.add_share(key, *share);
            if let Some(row) = PoolUsageKey::of(&slot.key.tenant, key) {
                self.pool_usage.entry(row).or_default().draw(key, share.used());
            }
        }
        for (may_free, units) in &sum.lowered {
            *self.lowered.entry((slot.clone(), may_free.clone())).or_default() += units;
        }
    }

    /// Lowers `key`, which is no pool's, by `units` of the level of `slot`.
    pub(super) fn lower(&mut self, slot: &Slot, key: &CellKey, units: i128) {
        if *key == slot.key {
            return self.undo_own(key, units);
        }
        self.free(key, units);
        self.uncover(slot, units);
    }

    fn undo_own(&mut self, key: &CellKey, units: i128) {
        let share = Share { undone: units, ..Share::default() };
        self.add_share(key, share);
        if let Some(window) = self.windows.get_mut(key) {
            window.share.add(share);
        }
    }

    /// Lowers what the tenant of `slot` uses of the pool of `cells` by `units`. What comes free there
    /// goes by what it has drawn: [`Movement::freed`].
    pub(super) fn lower_pool(&mut self, slot: &Slot, cells: &[CellKey], units: i128) {
        let row = cells.first().and_then(|key| PoolUsageKey::of(&slot.key.tenant, key));
        let Some(row) = row else { return };
        self.pool_usage.entry(row).or_default().lower(cells, units);
        self.uncover(slot, units);
    }

    /// Units of a counter that covers others' events come free.
    pub(super) fn free(&mut self, key: &CellKey, units: i128) {
        let share = Share { undone: units, ..Share::default() };
        self.add_share(key, share);
        add_to(&mut self.covering, key, share);
    }

    /// Has other counters cover `units` of what the own counter `key` goes up by.
    pub(super) fn cover(&mut self, key: &CellKey, units: i128) {
        self.undo_own(key, units);
        let mut left = units;
        let slots: Vec<Slot> = self.hours.keys().filter(|slot| slot.key == *key).cloned().collect();
        for slot in slots {
            let uncovered = self.hours.get(&slot).map_or(0, |hour| hour.amount_sum - hour.covered);
            let covered = left.min(uncovered.max(0));
            self.uncover(&slot, -covered);
            left -= covered;
        }
    }

    /// Of the amounts of `slot`, `units` less are covered by other counters.
    fn uncover(&mut self, slot: &Slot, units: i128) {
        let tallies = [self.hours.get_mut(slot), self.days.get_mut(&slot.day())];
        for tally in tallies.into_iter().flatten() {
            tally.covered -= units;
        }
    }

    /// Adds events of `key` that the run counted and the ledger does not.
    pub fn take_back(&mut self, key: &CellKey, sum: &Sum) {
        self.add_share(key, sum.share.taken_back());
        for (key, share) in &sum.parts {
            self.add_share(key, share.taken_back());
        }
    }

    fn add_share(&mut self, key: &CellKey, share: Share) {
        if share != Share::default() {
            add_to(&mut self.shares, key, share);
        }
    }
}

fn add_to(shares: &mut BTreeMap<CellKey, Share>, key: &CellKey, share: Share) {
    match shares.get_mut(key) {
        Some(sum) => sum.add(share),
        None => {
            shares.insert(key.clone(), share);
        }
    }
}

fn add_tally(rows: &mut BTreeMap<Slot, Tally>, slot: Slot, tally: &Tally) {
    rows.entry(slot).and_modify(|row| row.add(tally)).or_insert_with(|| tally.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::{MeterName, TenantId},
        properties::Properties,
        usage::Part,
    };

    fn event(amount: i64, from_lease: u64, at: &str) -> UsageEvent {
        UsageEvent {
            key: CellKey {
                tenant: TenantId::new("t").unwrap(),
                meter: MeterName::new("tokens").unwrap(),
                subject: None,
                label: "month:0:1".parse().unwrap(),
            },
            aggregation: Aggregation::Sum,
            amount,
            distinct_value: None,
            time: at.parse().unwrap(),
            idempotency_key: None,
            properties: Properties::default(),
            group_by: Vec::new(),
            event_retention_days: 0,
            from_lease,
            reservation: None,
            parts: vec![],
            operation: None,
        }
    }

    fn sums(events: &[UsageEvent]) -> Sums {
        let mut sums = Sums::default();
        for event in events {
            sums.count(&Slot::of(event), &Sum::of(event));
        }
        sums
    }

    #[test]
    fn an_event_counts_in_its_hour_its_day_and_its_window() {
        let sums = sums(&[
            event(5, 5, "2026-03-01T10:59:59.9Z"),
            event(7, 3, "2026-03-01T11:00:00Z"),
            event(1, 0, "2026-03-02T00:00:00Z"),
        ]);
        let starts: Vec<_> = sums.hours.keys().map(|slot| slot.start.to_string()).collect();
        assert_eq!(
            starts,
            ["2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z", "2026-03-02T00:00:00Z"]
        );
        let days: Vec<_> = sums.days.values().map(|tally| tally.amount_sum).collect();
        assert_eq!(days, [12, 1]);
        let window = sums.windows.values().next().unwrap();
        assert_eq!(window.share, Share { consumed: 8, recorded: 5, undone: 0 });
        assert_eq!(window.tally.events, 3);
    }

    #[test]
    fn a_level_that_goes_down_is_undone_and_its_duplicate_changes_nothing() {
        let down = event(-4, 0, "2026-03-01T00:00:00Z");
        let mut sums = sums(std::slice::from_ref(&down));
        assert_eq!(sums.windows.values().next().unwrap().share.used(), -4);
        let before = sums.clone();
        sums.take_back(&down.key, &Sum::of(&down));
        assert_eq!(sums, before);
    }

    #[test]
    fn an_event_that_does_not_count_is_undone_to_the_last_unit() {
        let twice = event(9, 6, "2026-03-01T00:00:00Z");
        let mut sums = Sums::default();
        sums.take_back(&twice.key, &Sum::of(&twice));
        assert!(sums.windows.is_empty() && sums.hours.is_empty() && sums.days.is_empty());
        let share = sums.shares[&twice.key];
        assert_eq!(share, Share { consumed: 6, recorded: 3, undone: 9 });
        assert_eq!(share.used(), 0);
    }

    #[test]
    fn what_a_grant_covers_counts_there_and_the_rest_at_home() {
        let mut split = event(9, 4, "2026-03-01T00:00:00Z");
        let grant = CellKey { label: "grant_7:0:0".parse().unwrap(), ..split.key.clone() };
        split.parts = vec![Part { key: grant.clone(), units: 3, recorded: 0 }];
        let sums = sums(std::slice::from_ref(&split));
        assert_eq!(sums.windows[&split.key].share, Share { consumed: 4, recorded: 2, undone: 0 });
        assert_eq!(sums.windows[&split.key].tally.amount_sum, 9);
        assert_eq!(sums.covering[&grant].used(), 3);
        let mut taken_back = Sums::default();
        taken_back.take_back(&split.key, &Sum::of(&split));
        assert_eq!(taken_back.shares[&grant], Share { consumed: 3, recorded: 0, undone: 3 });
        assert_eq!(taken_back.shares[&split.key].used(), 0);
        assert!(taken_back.covering.is_empty());
    }

    #[test]
    fn a_level_that_goes_down_comes_free_where_it_was_covered() {
        let mut down = event(-9, 0, "2026-03-01T00:00:00Z");
        let grant = CellKey { label: "grant_7:0:0".parse().unwrap(), ..down.key.clone() };
        let part = |key: &CellKey| Part { key: key.clone(), units: 0, recorded: 0 };
        down.parts = vec![part(&grant), part(&down.key)];
        let slot = Slot::of(&down);
        let mut sums = sums(std::slice::from_ref(&down));
        assert!(sums.shares.is_empty(), "nothing is said before the ledger has looked");
        assert_eq!(sums.lowered.values().copied().collect::<Vec<_>>(), [9]);
        sums.lower(&slot, &grant, 3);
        sums.lower(&slot, &down.key, 6);
        assert_eq!(sums.shares[&grant], Share { consumed: 0, recorded: 0, undone: 3 });
        assert_eq!(sums.windows[&down.key].share.used(), -6);
        let hour = &sums.hours[&slot];
        assert_eq!((hour.amount_sum, hour.covered), (-9, -3));
    }

    #[test]
    fn a_count_is_the_number_of_events_whatever_their_amounts() {
        let mut call = event(500, 1, "2026-03-01T00:00:00Z");
        call.aggregation = Aggregation::Count;
        let sums = sums(&[call.clone(), call]);
        let window = sums.windows.values().next().unwrap();
        assert_eq!(window.share, Share { consumed: 2, recorded: 0, undone: 0 });
        assert_eq!(window.tally.amount_sum, 1000);
    }

    #[test]
    fn a_maximum_takes_no_part_in_the_counters() {
        let mut peak = event(500, 0, "2026-03-01T00:00:00Z");
        peak.aggregation = Aggregation::Max;
        let sums = sums(&[peak]);
        assert!(sums.shares.is_empty());
        assert_eq!(sums.windows.values().next().unwrap().tally.amount_max, 500);
    }

    #[test]
    fn a_distinct_count_counts_each_value_once_per_hour_day_and_window() {
        let seen = |value: &str, at: &str| {
            let mut event = event(1, 0, at);
            event.aggregation = Aggregation::DistinctCount;
            event.distinct_value = Some(value.to_owned());
            event
        };
        let sums = sums(&[
            seen("a", "2026-03-01T00:00:00Z"),
            seen("a", "2026-03-01T00:30:00Z"),
            seen("a", "2026-03-01T01:00:00Z"),
            seen("b", "2026-03-02T01:00:00Z"),
        ]);
        let count = |tally: &Tally| tally.distinct.as_ref().unwrap().count();
        assert_eq!(sums.hours.values().map(count).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(sums.days.values().map(count).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(count(&sums.windows.values().next().unwrap().tally), 2);
        assert!(sums.shares.is_empty());
    }

    #[test]
    fn sums_before_the_epoch_fall_into_the_hour_before_it() {
        let sums = sums(&[event(1, 0, "1969-12-31T23:59:59Z")]);
        assert_eq!(sums.hours.keys().next().unwrap().start.to_string(), "1969-12-31T23:00:00Z");
    }

    proptest::proptest! {
        /// Sidecars flush at different times: the order must not show.
        #[test]
        fn the_order_of_events_does_not_matter(
            events in proptest::collection::vec((-5i64..50, 0u64..20, 0i64..200_000), 1..20),
        ) {
            let events: Vec<_> = events
                .into_iter()
                .map(|(amount, lease, second)| {
                    let at = Timestamp::from_second(second).unwrap().to_string();
                    event(amount, lease, &at)
                })
                .collect();
            let mut backwards = events.clone();
            backwards.reverse();
            proptest::prop_assert_eq!(sums(&events), sums(&backwards));
        }

        #[test]
        fn shares_add_up_to_what_is_counted(
            events in proptest::collection::vec((-5i64..50, 0u64..80, proptest::bool::ANY), 1..20),
        ) {
            let mut sums = Sums::default();
            let mut counted = 0;
            for (amount, lease, counts) in events {
                let event = event(amount, lease, "2026-03-01T00:00:00Z");
                if counts {
                    counted += i128::from(amount);
                    sums.count(&Slot::of(&event), &Sum::of(&event));
                } else {
                    sums.take_back(&event.key, &Sum::of(&event));
                }
            }
            let used = |sum: Share| sum.used();
            proptest::prop_assert_eq!(
                sums.shares.values().copied().map(used).sum::<i128>(), counted);
            proptest::prop_assert_eq!(
                sums.windows.values().map(|sum| used(sum.share)).sum::<i128>(), counted);
        }
    }
}
