//! What may happen in a world, and how large it is.

use rand::{Rng, SeedableRng, rngs::StdRng};

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub sidecars: usize,
    pub steps: usize,
    /// What does not happen.
    pub off: Vec<Trouble>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Calls and answers get lost.
    Lost,
    /// Calls arrive once more, however late.
    Doubled,
    /// A sidecar stands still.
    Paused,
    /// A sidecar ends and another run takes its place.
    Killed,
    /// A sidecar drops the rate and takes it up again.
    Dropped,
    /// Sidecars' clocks run at different speeds.
    Drift,
    /// The shared clock goes back.
    ClockBack,
    /// The shared clock jumps ahead.
    ClockAhead,
    /// The shared state is lost.
    Forgotten,
    /// The tenant gets other limits.
    Changed,
}

impl Trouble {
    pub const ALL: [Self; 10] = [
        Self::Lost,
        Self::Doubled,
        Self::Paused,
        Self::Killed,
        Self::Dropped,
        Self::Drift,
        Self::ClockBack,
        Self::ClockAhead,
        Self::Forgotten,
        Self::Changed,
    ];
}

impl Plan {
    /// Each trouble in half of the worlds.
    pub fn drawn(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x9_1a4);
        Self {
            sidecars: random.random_range(1..6),
            steps: 600,
            off: Trouble::ALL.into_iter().filter(|_| random.random_bool(0.5)).collect(),
        }
    }

    /// Smaller ones, the smallest first.
    pub fn smaller(&self) -> Vec<Self> {
        let fewer = [self.steps / 2, self.steps - self.steps / 8, self.steps.saturating_sub(1)];
        let steps = fewer.into_iter().filter(|steps| *steps < self.steps);
        let mut smaller: Vec<_> = steps.map(|steps| Self { steps, ..self.clone() }).collect();
        if self.sidecars > 1 {
            smaller.push(Self { sidecars: self.sidecars - 1, ..self.clone() });
        }
        for trouble in Trouble::ALL.into_iter().filter(|trouble| !self.off.contains(trouble)) {
            let mut fewer = self.clone();
            fewer.off.push(trouble);
            smaller.push(fewer);
        }
        smaller
    }
}
