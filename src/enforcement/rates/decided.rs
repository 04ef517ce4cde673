//! What a request wants of a rate, and what became of it. `H` is what holds its permits.

use crate::{domain::quota::DecidedBy, leases::rate::cell::Short};

/// What a request does with permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Look,
    Take,
    /// Take them, perhaps to let them go again.
    Hold,
}

/// What became of a request, and where that was decided.
#[derive(Debug)]
pub struct Decided<H> {
    pub outcome: Outcome<H>,
    pub decided_by: DecidedBy,
}

/// See [`Decided`].
#[derive(Debug)]
pub enum Outcome<H> {
    /// With what it holds, if it wanted to hold.
    Met(Option<H>),
    Short(Short),
    /// The shared state is out of reach: the rate's policy decides.
    Away,
    /// Too many calls are under way to ask; nothing was decided.
    Overloaded,
}

impl<H> Decided<H> {
    /// The same, with what it holds made into something else.
    pub fn map<T>(self, change: impl FnOnce(H) -> T) -> Decided<T> {
        let outcome = match self.outcome {
            Outcome::Met(held) => Outcome::Met(held.map(change)),
            Outcome::Short(short) => Outcome::Short(short),
            Outcome::Away => Outcome::Away,
            Outcome::Overloaded => Outcome::Overloaded,
        };
        Decided { outcome, decided_by: self.decided_by }
    }
}
