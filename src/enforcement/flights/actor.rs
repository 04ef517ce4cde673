//! Who takes part in a world. Each is drawn by itself, so that leaving one out changes no other.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

/// When, and what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    pub at: Duration,
    pub act: Act,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Asks for units, and hangs up when `patience` is over; then spends `spent` of them after a
    /// while, and gives the others back.
    Request { amount: u64, patience: Option<Duration>, held_for: Duration, spent: u64 },
    /// Asks how the counter stands.
    Refresh,
    /// The plan has another limit.
    Ceiling { units: u64 },
    /// Usage turns out to be none, up to so much.
    Undo { units: u64 },
    /// Usage is recorded without asking.
    Record { units: u64 },
    /// The counters must not be used for a while.
    Away { lasts: Duration },
}

/// When the last one comes, in milliseconds.
const SPAN_MS: u64 = 40;

impl Actor {
    /// The actors of a seed.
    pub(super) fn drawn(seed: u64) -> Vec<Self> {
        let mut random = StdRng::seed_from_u64(seed ^ 0xf11);
        let count = random.random_range(4..24);
        (0..count).map(|number| Self::one(seed, number)).collect()
    }

    fn one(seed: u64, number: u64) -> Self {
        let random = &mut StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number));
        let at = up_to(random, SPAN_MS);
        let act = match random.random_range(0..100) {
            0..70 => {
                let amount = random.random_range(1..=4);
                Act::Request {
                    amount,
                    patience: random.random_bool(0.3).then(|| up_to(random, 15)),
                    held_for: up_to(random, 10),
                    spent: random.random_range(0..=amount),
                }
            }
            70..76 => Act::Refresh,
            76..86 => Act::Ceiling { units: random.random_range(0..12) },
            86..94 => Act::Undo { units: random.random_range(1..4) },
            94..97 => Act::Record { units: random.random_range(1..3) },
            _ => Act::Away { lasts: up_to(random, 10) },
        };
        Self { at, act }
    }
}

/// In whole milliseconds: finer the runtime's timers do not go.
fn up_to(random: &mut StdRng, most_ms: u64) -> Duration {
    Duration::from_millis(random.random_range(0..=most_ms))
}
