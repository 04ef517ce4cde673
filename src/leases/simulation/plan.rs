//! What a simulated world is like: numbers alone, so that a plan can be written down, replayed and
//! made smaller field by field.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::planted::Planted;

/// What a key's retention is longer than all that may be late, in milliseconds.
const RETENTION_MARGIN_MS: u64 = 60_000;

/// Runs of a world in which each event is looked at for what it leaves to each waiting request: of
/// hundreds with full queues that would take minutes.
const WATCHED_RUNS_MAX: u64 = 20;

/// One number of a plan.
pub(super) struct Field {
    pub name: &'static str,
    /// The simplest it can be.
    pub least: u64,
    pub get: fn(&Plan) -> u64,
    pub set: fn(&mut Plan, u64),
}

macro_rules! plan {
    ($($(#[$doc:meta])* $name:ident from $least:literal,)*) => {
        /// The rates of one world. Shares are per thousand; what is either so or not is 1 or 0.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(super) struct Plan {
            $($(#[$doc])* pub $name: u64,)*
            /// A mistake to be found.
            pub planted: Option<Planted>,
        }

        impl Plan {
            /// In the order in which they are made smaller.
            pub const FIELDS: &[Field] = &[$(Field {
                name: stringify!($name),
                least: $least,
                get: |plan| plan.$name,
                set: |plan, number| plan.$name = number,
            },)*];
        }
    };
}

plan! {
    runs from 1,
    keys from 1,
    /// Requests, after which no more arrive.
    requests_max from 0,
    /// Stretch in which requests arrive and faults happen, in simulated milliseconds.
    length_ms from 1,
    wipes_per_s from 0,
    kills_per_s from 0,
    stops_per_s from 0,
    moves_per_s from 0,
    pauses_per_s from 0,
    /// Longest time that a run stands still, in simulated milliseconds.
    pause_ms from 1,
    copies_per_s from 0,
    /// Runs that an operator closes though they live.
    operated_per_s from 0,
    jumps_per_s from 0,
    /// How far a clock is off at most, in seconds.
    skew_s from 0,
    /// Length of a window in seconds, which are simulated milliseconds; 0 = without an end.
    window_s from 0,
    /// Whether each meter has a grant beside its limit.
    grants from 0,
    /// Share of changes of the plan that begin its windows anew.
    resets from 0,
    /// Share of kills that take the host along, and the unsynced tail of the journal with it.
    torn from 0,
    /// Share of acknowledgements that do not wait for the disk.
    weak from 0,
    /// Share of kills that take the whole machine: an operator closes the run at the end.
    gone from 0,
    /// Share of those that come back after the operator has closed them.
    back from 0,
    /// Share of those where the operator releases what the run held.
    released from 0,
    /// Share of kills after which two sidecars find the directory.
    copied from 0,
    /// Share of closings before which an heir tells what the run used.
    inherits from 0,
    /// Closed runs that a key remembers by name.
    fenced_max from 1,
    /// Share of their steps after which those who close runs stand still for up to `pause_ms`.
    stalled_closers from 0,
    lost from 0,
    repeated from 0,
    /// Share of messages that take up to `slow_us` instead of `usual_us`.
    slow from 0,
    reserves from 0,
    late_records from 0,
    decreases from 0,
    duplicates from 0,
    /// Share of events without an idempotency key.
    unkeyed from 0,
    refused_by_journal from 0,
    /// Share of ledger reads that fail.
    ledger_away from 0,
    /// Share of ticks in which a cell is dropped if nobody needs it.
    retires from 0,
    /// Requests that meet an outage are admitted and counted.
    allow_on_outage from 0,
    ceiling_max from 1,
    amount_max from 1,
    slow_us from 1,
    usual_us from 1,
    /// Longest pause between two requests to one run, in microseconds.
    pause_us_max from 1,
    /// Whoever holds something can be reached: no request may wait in vain.
    in_reach from 0,
}

impl Plan {
    pub(super) fn drawn(seed: u64) -> Self {
        // Another stream than the world's own, so that a world's chances do not follow its plan.
        let mut rng = StdRng::seed_from_u64(seed ^ 0x9e37_79b9_7f4a_7c15);
        let mut some =
            |most: u64| if rng.random_ratio(1, 3) { 0 } else { rng.random_range(0..=most) };
        let (lost, repeated, slow) = (some(150), some(150), some(100));
        let (torn, gone, reserves, late_records) = (some(500), some(400), some(400), some(100));
        let (decreases, duplicates, refused_by_journal) = (some(150), some(150), some(30));
        let (ledger_away, retires) = (some(200), some(100));
        let (weak, back, released, copied) = (some(1_000), some(1_000), some(500), some(500));
        let (unkeyed, resets) = (some(1_000), some(300));
        let (pauses, copies, operated, jumps) = (some(8), some(3), some(3), some(8));
        let (skew_s, window_s) = (some(400), some(300));
        let inherits = some(1_000);
        Self {
            pauses_per_s: pauses,
            pause_ms: rng.random_range(5..=150),
            copies_per_s: copies,
            operated_per_s: operated,
            jumps_per_s: jumps,
            skew_s,
            window_s: if window_s == 0 { 0 } else { window_s.max(10) },
            grants: rng.random_range(0..=1),
            resets,
            weak,
            back,
            released,
            copied,
            inherits,
            unkeyed,
            runs: rng.random_range(1..=4),
            keys: rng.random_range(1..=2),
            length_ms: rng.random_range(50..=600),
            requests_max: rng.random_range(10..=1_000),
            ceiling_max: one_of(&mut rng, [20, 100, 1_000, 5_000]),
            amount_max: one_of(&mut rng, [1, 5, 20, 50]),
            pause_us_max: one_of(&mut rng, [300, 1_000, 5_000, 20_000]),
            lost,
            repeated,
            slow,
            slow_us: rng.random_range(5_000..=200_000),
            usual_us: rng.random_range(100..=2_000),
            kills_per_s: rng.random_range(0..=6),
            stops_per_s: rng.random_range(0..=6),
            wipes_per_s: rng.random_range(0..=6),
            moves_per_s: rng.random_range(0..=6),
            torn,
            gone,
            reserves,
            late_records,
            decreases,
            duplicates,
            refused_by_journal,
            ledger_away,
            retires,
            allow_on_outage: rng.random_range(0..=1),
            fenced_max: rng.random_range(1..=20),
            stalled_closers: one_of(&mut rng, [0, 0, 20, 200]),
            ..Self::default()
        }
    }

    /// Hundreds of runs, for a shorter while.
    pub(super) fn crowded(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x51a5_c3f1_0b7e_99d3);
        Self {
            runs: rng.random_range(100..=500),
            keys: 1,
            length_ms: rng.random_range(60..=160),
            requests_max: rng.random_range(500..=4_000),
            ceiling_max: one_of(&mut rng, [100, 1_000, 5_000, 20_000]),
            pause_us_max: rng.random_range(20_000..=100_000),
            kills_per_s: rng.random_range(0..=100),
            stops_per_s: rng.random_range(0..=100),
            moves_per_s: rng.random_range(0..=50),
            wipes_per_s: one_of(&mut rng, [0, 0, 0, 10]),
            ..Self::drawn(seed)
        }
    }

    /// Whether each message arrives once and before its sender gives up on it. Otherwise a run's
    /// word that all is returned may be heard when it is no longer true.
    pub(super) fn is_timely(&self) -> bool {
        (self.lost, self.repeated, self.slow) == (0, 0, 0)
            && (self.pauses_per_s, self.copies_per_s, self.operated_per_s) == (0, 0, 0)
            && self.runs <= WATCHED_RUNS_MAX
    }

    /// All runs live on and Redis forgets nothing.
    pub(super) fn without_deaths_and_losses(&mut self) {
        self.kills_per_s = 0;
        self.stops_per_s = 0;
        self.copies_per_s = 0;
        self.operated_per_s = 0;
        self.wipes_per_s = 0;
    }

    /// Nothing goes wrong, and nothing is changed by hand.
    pub(super) fn calm(&mut self) {
        self.without_deaths_and_losses();
        self.pauses_per_s = 0;
        self.moves_per_s = 0;
        self.lost = 0;
        self.repeated = 0;
        self.slow = 0;
        self.usual_us = self.usual_us.min(500);
        self.ledger_away = 0;
        self.in_reach = 1;
    }

    /// How long a key is kept after its window by whoever uses it last, in milliseconds: longer than
    /// clocks are apart, than a run stands still and than a message takes.
    pub(super) fn retention_ms(&self) -> u64 {
        if self.planted == Some(Planted::ForgottenTooEarly) {
            return 0;
        }
        2 * 1_000 * self.skew_s + 1_000 * self.pause_ms + self.slow_us + RETENTION_MARGIN_MS
    }

    /// What makes it another plan than `other`: `name=number` with commas between.
    pub(super) fn apart_from(&self, other: &Self) -> String {
        let changed = Self::FIELDS.iter().filter(|field| (field.get)(self) != (field.get)(other));
        let written = changed.map(|field| format!("{}={}", field.name, (field.get)(self)));
        written.collect::<Vec<_>>().join(",")
    }

    /// The plan with what [`Plan::apart_from`] wrote.
    pub(super) fn with(mut self, written: &str) -> Self {
        for one in written.split(',').filter(|one| !one.is_empty()) {
            let (name, number) = one.split_once('=').expect("name=number");
            let field = Self::FIELDS.iter().find(|field| field.name == name);
            let field = field.unwrap_or_else(|| panic!("a plan has no {name}"));
            (field.set)(&mut self, number.parse().expect("a number"));
        }
        self
    }
}

fn one_of(rng: &mut StdRng, choices: [u64; 4]) -> u64 {
    choices[rng.random_range(0..choices.len())]
}

#[test]
fn a_plan_that_is_written_down_is_the_same_when_it_is_read() {
    let (drawn, other) = (Plan::drawn(7), Plan::crowded(8));
    assert_eq!(drawn.clone().with(&other.apart_from(&drawn)), other);
    assert_eq!(drawn.apart_from(&drawn), "");
}
