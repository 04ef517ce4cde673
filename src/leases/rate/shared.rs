//! The shared state of a rate: what `store/scripts/rate.lua` does in Redis, step by step alike.

use std::collections::BTreeMap;

use super::message::{AskFor, Granted, RateCall, RateReply, RateTerms};
use crate::domain::{
    ids::RunId,
    rate::{CAPACITY_NS_MAX, RateWindow},
};

/// A rate of one tenant, or subject, in all sidecars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedRate {
    /// When the debts were reckoned, in microseconds of the one clock.
    at_us: u64,
    /// The tenant's version that the windows in force are of.
    version: u64,
    /// By the period in seconds.
    windows: BTreeMap<u64, Window>,
    entries: BTreeMap<RunId, Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    limit: RateWindow,
    debt_ns: u64,
    /// Others only count on until they are paid off, for a plan that has them again.
    is_in_force: bool,
}

/// What a run was lent and has not spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    sequence: u64,
    spent: u64,
    granted: u64,
    lapses_us: u64,
}

impl Entry {
    fn held(&self) -> u64 {
        self.granted - self.spent
    }
}

impl SharedRate {
    /// Decides a call.
    pub fn apply(&mut self, call: &RateCall, now_us: u64) -> RateReply {
        self.follow_clock(now_us);
        self.lapse(now_us);
        self.pay_off(now_us);
        self.adopt(&call.terms);
        self.windows.retain(|_, window| window.debt_ns > 0 || window.is_in_force);
        let before = self.entries.get(&call.run).copied();
        if before.is_some_and(|before| call.sequence <= before.sequence) {
            return RateReply::Overtaken;
        }
        let newly_spent = before.map_or(0, |before| call.spent.saturating_sub(before.spent));
        self.charge(newly_spent);
        // Without an entry, all that the run was lent has been charged or given back.
        let spent = if before.is_some() { call.spent } else { call.granted };
        let has_lapsed = spent > call.spent;
        let (sequence, granted) = (call.sequence, call.granted);
        let lapses_us = now_us + call.lapse_us;
        let entry = Entry { sequence, spent, granted, lapses_us };
        self.entries.insert(call.run, entry);
        let mut held: u64 = self.entries.values().map(Entry::held).sum();
        let mut met = 0;
        let mut lent = 0;
        for (number, ask) in call.asks.iter().enumerate() {
            let permits = u64::from(ask.permits);
            if self.room(held) < permits {
                continue;
            }
            met |= 1 << number;
            match ask.how {
                AskFor::Good => self.charge(permits),
                AskFor::Keeping => {
                    lent += permits;
                    held += permits;
                }
            }
        }
        if met + 1 == 1 << call.asks.len() {
            let ahead = call.ahead.min(self.room(held) / 4);
            lent += ahead;
            held += ahead;
        }
        let granted = granted + lent;
        if granted > spent {
            self.entries.insert(call.run, Entry { granted, ..entry });
        } else {
            self.entries.remove(&call.run);
        }
        let debt = |window: &Window| {
            let held_ns = held.saturating_mul(window.limit.interval_ns());
            window.debt_ns.saturating_add(held_ns)
        };
        let windows = self.in_force().map(|window| window.limit).collect();
        let terms = RateTerms { version: self.version, windows };
        RateReply::Granted(Granted {
            granted,
            met,
            debts_ns: self.in_force().map(debt).collect(),
            has_lapsed,
            instead: (terms != call.terms).then_some(terms),
        })
    }

    /// A clock that went back: what was to come stays as far away as it was.
    fn follow_clock(&mut self, now_us: u64) {
        if now_us < self.at_us {
            let back_us = self.at_us - now_us;
            for entry in self.entries.values_mut() {
                entry.lapses_us = entry.lapses_us.saturating_sub(back_us);
            }
            self.at_us = now_us;
        }
    }

    /// Puts newer terms in force. A window goes on from the one of the same period, with the
    /// permits that were used of it, cut to its burst. That happens once for each version: a debt
    /// that were cut to the smaller burst with every call of a sidecar that knows the older terms
    /// would be refunded with each.
    fn adopt(&mut self, terms: &RateTerms) {
        if self.in_force().next().is_some() && terms.version <= self.version {
            return;
        }
        self.version = terms.version;
        self.windows.values_mut().for_each(|window| window.is_in_force = false);
        for limit in terms.windows.iter() {
            let unused = Window { limit: *limit, debt_ns: 0, is_in_force: true };
            let window = self.windows.entry(limit.period.as_secs()).or_insert(unused);
            window.is_in_force = true;
            if window.limit != *limit {
                let (from_ns, to_ns) = (window.limit.interval_ns(), limit.interval_ns());
                if from_ns != to_ns {
                    window.debt_ns = converted_ns(window.debt_ns, from_ns, to_ns);
                }
                window.debt_ns = window.debt_ns.min(limit.capacity_ns());
                window.limit = *limit;
            }
        }
    }

    fn in_force(&self) -> impl Iterator<Item = &Window> {
        self.windows.values().filter(|window| window.is_in_force)
    }

    /// Counts what was lent and has lapsed as spent, each at its time.
    fn lapse(&mut self, now_us: u64) {
        loop {
            let next = self.entries.iter().min_by_key(|(run, entry)| (entry.lapses_us, **run));
            let Some((run, entry)) = next.filter(|(_, entry)| entry.lapses_us <= now_us) else {
                return;
            };
            let (run, entry) = (*run, *entry);
            self.entries.remove(&run);
            self.pay_off(entry.lapses_us);
            self.charge(entry.held());
        }
    }

    fn pay_off(&mut self, to_us: u64) {
        let paid_ns = to_us.saturating_sub(self.at_us).saturating_mul(1_000);
        self.at_us = self.at_us.max(to_us);
        for window in self.windows.values_mut() {
            window.debt_ns = window.debt_ns.saturating_sub(paid_ns);
        }
    }

    fn charge(&mut self, permits: u64) {
        for window in self.windows.values_mut() {
            let cost_ns = permits.saturating_mul(window.limit.interval_ns());
            window.debt_ns = window.debt_ns.saturating_add(cost_ns).min(2 * CAPACITY_NS_MAX);
        }
    }

    /// Permits that every window in force has left beside `held`.
    fn room(&self, held: u64) -> u64 {
        let room = |window: &Window| {
            let held_ns = held.saturating_mul(window.limit.interval_ns());
            let used_ns = window.debt_ns.saturating_add(held_ns);
            window.limit.capacity_ns().saturating_sub(used_ns) / window.limit.interval_ns()
        };
        self.in_force().map(room).min().unwrap_or(0)
    }
}

/// In doubles, as Lua reckons; rounded up.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn converted_ns(debt_ns: u64, from_ns: u64, to_ns: u64) -> u64 {
    let converted = (debt_ns as f64 / from_ns as f64 * to_ns as f64).ceil();
    converted.min(CAPACITY_NS_MAX as f64) as u64
}
