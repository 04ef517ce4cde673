//! What a holder remembers of the call under way, of its want, and of the last answer.

use std::time::Duration;

use super::{
    message::Totals,
    step::{Denial, Waiting},
};

/// What a holder has only while something goes on. Most are at rest, and of these nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Passing(Option<Box<Passed>>);

#[derive(Debug, Default)]
struct Passed {
    flight: Option<Flight>,
    want: Option<Want>,
    verdict: Option<Verdict>,
    answered: u64,
    paused_until_us: u64,
}

impl Passing {
    /// The call under way.
    pub fn flight(&self) -> Option<&Flight> {
        self.0.as_ref()?.flight.as_ref()
    }

    /// What waiting requests want.
    pub fn want(&self) -> Option<&Want> {
        self.0.as_ref()?.want.as_ref()
    }

    /// As [`Passing::want`], to be changed.
    pub fn want_mut(&mut self) -> Option<&mut Want> {
        self.0.as_mut()?.want.as_mut()
    }

    /// What the last answer means.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.0.as_ref()?.verdict.as_ref()
    }

    /// Recalls answered so far, as the key sees it.
    pub fn answered(&self) -> u64 {
        self.0.as_ref().map_or(0, |passed| passed.answered)
    }

    /// No calls in the background before this, microseconds since the start of the run.
    pub fn paused_until_us(&self) -> u64 {
        self.0.as_ref().map_or(0, |passed| passed.paused_until_us)
    }

    /// A call is under way.
    pub fn begin(&mut self, flight: Flight) {
        self.0.get_or_insert_default().flight = Some(flight);
    }

    /// The call under way is so no longer, if it is one that `is_it` says.
    pub fn end(&mut self, is_it: impl FnOnce(&Flight) -> bool) -> Option<Flight> {
        let ended = self.0.as_mut()?.flight.take_if(|flight| is_it(flight));
        self.forget_if_nothing();
        ended
    }

    /// The want, `new` if there is none.
    pub fn want_or(&mut self, new: Want) -> &mut Want {
        self.0.get_or_insert_default().want.get_or_insert(new)
    }

    /// Nothing is wanted any more.
    pub fn forget_want(&mut self) {
        self.change(|passed| passed.want = None);
    }

    /// Puts a verdict, or none, in the place of the one before.
    pub fn set_verdict(&mut self, verdict: Option<Verdict>) {
        match verdict {
            Some(verdict) => self.0.get_or_insert_default().verdict = Some(verdict),
            None => self.change(|passed| passed.verdict = None),
        }
    }

    /// Takes the verdict out, if it is one that `applies`.
    pub fn take_verdict(&mut self, applies: impl FnOnce(&Verdict) -> bool) -> Option<Verdict> {
        let taken = self.0.as_mut()?.verdict.take_if(|verdict| applies(verdict));
        self.forget_if_nothing();
        taken
    }

    /// See [`Passing::answered`].
    pub fn set_answered(&mut self, answered: u64) {
        match answered {
            0 => self.change(|passed| passed.answered = 0),
            _ => self.0.get_or_insert_default().answered = answered,
        }
    }

    /// See [`Passing::paused_until_us`].
    pub fn pause(&mut self, until_us: u64) {
        match until_us {
            0 => self.change(|passed| passed.paused_until_us = 0),
            _ => self.0.get_or_insert_default().paused_until_us = until_us,
        }
    }

    /// Forgets the pause if it is over at `now_us`.
    pub fn end_pause(&mut self, now_us: u64) {
        if self.paused_until_us() <= now_us {
            self.pause(0);
        }
    }

    /// Whether nothing goes on, and nothing is kept.
    pub fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    fn change(&mut self, change: impl FnOnce(&mut Passed)) {
        if let Some(passed) = &mut self.0 {
            change(passed);
        }
        self.forget_if_nothing();
    }

    fn forget_if_nothing(&mut self) {
        self.0.take_if(|passed| {
            let Passed { flight, want, verdict, answered, paused_until_us } = &**passed;
            flight.is_none()
                && want.is_none()
                && verdict.is_none()
                && (*answered, *paused_until_us) == (0, 0)
        });
    }
}

/// The call under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub sequence: u64,
    pub epoch: u64,
    pub totals: Totals,
    pub closed: bool,
    pub last: bool,
    /// It was built after the cell was told to part.
    pub parted: bool,
    /// The waiting requests that it asks for.
    pub waiting: Option<Waiting>,
    pub in_hand: u64,
}

/// A want as it goes from call to call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub id: u64,
    pub raised_at: Duration,
    /// Amount of the head that the last call asked for.
    pub head: u64,
    /// Since when it has stood first.
    pub first_since: Option<Duration>,
    /// Ticket of the want that stands first, and since when it has been seen there.
    pub behind: Option<(u64, Duration)>,
}

impl Want {
    /// One that nobody has heard of yet.
    pub fn new(id: u64, head: u64, now: Duration) -> Self {
        Self { id, raised_at: now, head, first_since: None, behind: None }
    }
}

/// What the last answer means for a head of at least this amount.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub head: u64,
    pub ruling: Ruling,
}

impl Verdict {
    pub fn is_unavailable(&self) -> bool {
        matches!(self.ruling, Ruling::Unavailable)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ruling {
    Deny { why: Denial, remaining: u64, at_hand: u64 },
    Unavailable,
}
