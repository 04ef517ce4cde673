//! Random messages for the scripts and their state machine.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tollgate::{
    domain::{amount::AMOUNT_MAX, ids::RunId},
    leases::message::{Ask, Call, Ceiling, CloseCall, CloseStep, Epoch, Floor, Flushed, Totals},
};
use uuid::Uuid;

/// Runs of every tenth history: enough to fill the queue and the list of the fenced.
const CROWD: usize = 400;
/// What counts as one unit in every third history: sums of it pass 10^15, the first number that Lua
/// would write with an exponent.
const LARGE_UNIT: u64 = 1_000_000_000_007;
/// And in every fifth: soon past all that can be counted.
const OVERFLOWING_UNIT: u64 = AMOUNT_MAX / 151;

/// Draws messages that a protocol gone mad could send: every field at random, most of them small.
pub struct Draw {
    pub rng: StdRng,
    pub runs: Vec<RunId>,
    pub totals: Vec<Totals>,
    pub sequence: u64,
    pub epoch: u64,
    pub ceiling: Ceiling,
    pub past: Vec<Call>,
    pub unit: u64,
    pub crowded: bool,
}

impl Draw {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let crowded = seed.is_multiple_of(10);
        let unit = match seed {
            seed if seed.is_multiple_of(5) => OVERFLOWING_UNIT,
            seed if seed.is_multiple_of(3) => LARGE_UNIT,
            _ => 1,
        };
        let runs = if crowded { CROWD } else { 4 };
        let runs: Vec<_> = (0..runs).map(|_| RunId(Uuid::from_u128(rng.random()))).collect();
        let totals = vec![Totals::default(); runs.len()];
        let ceiling = Ceiling { units: Some(50 * unit), version: 1 };
        let past = Vec::new();
        Self { rng, runs, totals, sequence: 1, epoch: 1, ceiling, past, unit, crowded }
    }

    pub fn up_to(&mut self, most: u64) -> u64 {
        self.rng.random_range(0..=most)
    }

    pub fn units(&mut self, most: u64) -> u64 {
        self.up_to(most) * self.unit
    }

    pub fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    pub fn call(&mut self) -> Call {
        if self.one_in(10) && !self.past.is_empty() {
            return self.past.choose(&mut self.rng).unwrap().clone();
        }
        let run = self.rng.random_range(0..self.runs.len());
        self.sequence += 1;
        let totals = self.totals[run];
        // An ask that no longer fits into a double is refused whatever it is exactly.
        let fit = |amount: u64| amount.min(AMOUNT_MAX);
        let grown = Totals {
            granted: totals.granted + self.units(6),
            returned: totals.returned + self.units(4),
            consumed: totals.consumed + self.units(4),
            recorded: totals.recorded + self.units(2),
            undone: totals.undone + self.units(1),
        };
        self.totals[run] = grown;
        let need_to = fit(grown.granted + self.units(20).saturating_sub(10 * self.unit));
        let wanted_to = fit(need_to + self.units(10));
        if self.one_in(6) {
            // Around what is taken, so that wants come and go.
            let taken: u64 =
                self.totals.iter().map(|t| t.granted - t.returned.min(t.granted)).sum();
            let units = (!self.one_in(20)).then(|| taken + self.units(60));
            self.ceiling = Ceiling { units, version: self.ceiling.version + 1 };
        }
        let stale = Ceiling { units: Some(self.units(99)), version: self.ceiling.version - 1 };
        let call = Call {
            run: self.runs[run],
            sequence: match () {
                () if self.one_in(12) => self.up_to(self.sequence),
                // Of an heir, after which the run itself is not heard.
                () if self.one_in(60) => AMOUNT_MAX - self.up_to(1),
                () => self.sequence,
            },
            epoch: Epoch { number: self.epoch, recovered: !self.one_in(10) },
            totals: grown,
            ceiling: if self.one_in(8) { stale } else { self.ceiling },
            ask: Ask {
                want: 1 + self.up_to(2),
                need_to,
                wanted_to,
                target: fit(wanted_to + self.units(200)),
                last: self.one_in(8),
            },
            closed: self.one_in(3),
            depose: self.one_in(6).then(|| self.up_to(12)),
            retention: self.one_in(20).then_some(Duration::from_secs(1_000)),
            floor: self.one_in(4).then(|| Box::new(self.floor())),
        };
        self.past.push(call.clone());
        call
    }

    pub fn floor(&mut self) -> Floor {
        Floor {
            closed_seq: self.up_to(6),
            base_used: self.units(12).cast_signed() - 2,
            base_forfeited: self.units(3),
            ceiling_version: match self.one_in(4) {
                true => self.ceiling.version + self.up_to(1),
                false => 0,
            },
            open_runs: (0..self.up_to(3) as usize)
                .map(|run| Flushed {
                    run: self.runs[run],
                    used: self.units(9),
                    undone: self.units(3),
                })
                .collect(),
        }
    }

    pub fn close(&mut self) -> CloseCall {
        let step = if self.one_in(2) {
            CloseStep::Fence
        } else {
            CloseStep::Fold {
                closed_seq: self.up_to(5),
                used: self.units(20),
                undone: self.units(3),
                forfeit: self.units(5),
            }
        };
        let retention = self.one_in(5).then_some(Duration::from_secs(1_000));
        let run = self.rng.random_range(0..self.runs.len());
        let closed = self.runs[run];
        if self.one_in(2) {
            self.runs[run] = RunId(Uuid::from_u128(self.rng.random()));
            self.totals[run] = Totals::default();
        }
        CloseCall {
            epoch: self.epoch,
            run: closed,
            step,
            folded_through: self.up_to(3),
            fenced_max: 1 + self.up_to(2),
            retention,
        }
    }
}
