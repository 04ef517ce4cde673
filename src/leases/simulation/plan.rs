//! What a simulated world is like.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::planted::Planted;

/// The rates of one world. Shares are per thousand.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub runs: usize,
    pub keys: usize,
    /// Stretch in which requests arrive and faults happen, in simulated milliseconds.
    pub length_ms: u64,
    /// Requests, after which no more arrive.
    pub requests_max: u64,
    pub ceiling_max: u64,
    pub amount_max: u64,
    /// Longest pause between two requests to one run, in microseconds.
    pub pause_us_max: u64,
    pub lost: u32,
    pub repeated: u32,
    /// Share of messages that take up to `slow_us` instead of `usual_us`.
    pub slow: u32,
    pub slow_us: u64,
    pub usual_us: u64,
    pub kills_per_s: u64,
    pub stops_per_s: u64,
    pub wipes_per_s: u64,
    pub moves_per_s: u64,
    /// Share of kills that take the unsynced tail of the journal with them.
    pub torn: u32,
    /// Share of kills that take the whole machine: an operator closes the run at the end.
    pub gone: u32,
    pub reserves: u32,
    pub late_records: u32,
    pub decreases: u32,
    pub duplicates: u32,
    pub refused_by_journal: u32,
    /// Share of ledger reads that fail.
    pub ledger_away: u32,
    /// Share of ticks in which a cell is dropped if nobody needs it.
    pub retires: u32,
    /// Requests that meet an outage are admitted and counted.
    pub allow_on_outage: bool,
    /// Whoever holds something can be reached: no request may wait in vain.
    pub in_reach: bool,
    /// A mistake to be found.
    pub planted: Option<Planted>,
}

impl Plan {
    pub(super) fn drawn(seed: u64) -> Self {
        // Another stream than the world's own, so that a world's chances do not follow its plan.
        let mut rng = StdRng::seed_from_u64(seed ^ 0x9e37_79b9_7f4a_7c15);
        let mut some =
            |most: u32| if rng.random_ratio(1, 3) { 0 } else { rng.random_range(0..=most) };
        let (lost, repeated, slow) = (some(150), some(150), some(100));
        let (torn, gone, reserves, late) = (some(500), some(400), some(400), some(100));
        let (decreases, duplicates, refused) = (some(150), some(150), some(30));
        let (ledger_away, retires) = (some(200), some(100));
        Self {
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
            late_records: late,
            decreases,
            duplicates,
            refused_by_journal: refused,
            ledger_away,
            retires,
            allow_on_outage: rng.random(),
            in_reach: false,
            planted: None,
        }
    }

    /// Whether each message arrives once and before its sender gives up on it. Otherwise a run's
    /// word that all is returned may be heard when it is no longer true.
    pub(super) fn is_timely(&self) -> bool {
        (self.lost, self.repeated, self.slow) == (0, 0, 0)
    }

    /// All runs live on and Redis forgets nothing.
    pub(super) fn without_deaths_and_losses(&mut self) {
        self.kills_per_s = 0;
        self.stops_per_s = 0;
        self.wipes_per_s = 0;
    }

    /// Nothing goes wrong, and nothing is changed by hand.
    pub(super) fn calm(&mut self) {
        self.without_deaths_and_losses();
        self.moves_per_s = 0;
        self.lost = 0;
        self.repeated = 0;
        self.slow = 0;
        self.usual_us = self.usual_us.min(500);
        self.ledger_away = 0;
        self.in_reach = true;
    }
}

fn one_of(rng: &mut StdRng, choices: [u64; 4]) -> u64 {
    choices[rng.random_range(0..choices.len())]
}
