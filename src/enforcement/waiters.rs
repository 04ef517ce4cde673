//! The requests that wait for units of one counter.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::leases::{
    cell::Basis,
    holder::{Denial, Waiting},
};

/// How a request that found too little in hand was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The units are taken from the cell: whoever receives this owns them.
    Granted,
    /// No more than `remaining` can be had, and that only if others return what they hold; without
    /// them, `at_hand`.
    Denied { why: Denial, remaining: u64, at_hand: u64 },
    /// The shared counters are out of reach: the limit's policy decides.
    Unavailable,
}

/// A request that waits for units.
#[derive(Debug)]
pub struct Waiter {
    pub amount: u64,
    /// In order of arrival.
    number: u64,
    pub verdict: oneshot::Sender<Verdict>,
}

/// The requests that wait, in the order of their arrival. Takes no room while there are none: whoever
/// comes then is later than every call that was built, which is all that has to be known of those
/// before.
#[derive(Debug, Default)]
pub struct Waiters(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// Never empty between two calls of [`Waiters`]' methods.
    waiters: VecDeque<Waiter>,
    next_number: u64,
    /// Waiters below this number were waiting when the last call was built.
    call_saw_below: u64,
    /// What the last call was built on, since somebody waits.
    call_basis: Option<Basis>,
}

impl Waiters {
    /// Queues a request.
    pub fn push(&mut self, amount: u64) -> oneshot::Receiver<Verdict> {
        let queue = self.0.get_or_insert_default();
        let (verdict, receiver) = oneshot::channel();
        let number = queue.next_number;
        queue.next_number += 1;
        queue.waiters.push_back(Waiter { amount, number, verdict });
        receiver
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The first.
    pub fn head(&self) -> Option<&Waiter> {
        self.0.as_ref()?.waiters.front()
    }

    /// Takes the first out.
    pub fn pop(&mut self) -> Option<Waiter> {
        let head = self.0.as_mut()?.waiters.pop_front();
        self.forget_if_none();
        head
    }

    /// Takes all out.
    pub fn take_all(&mut self) -> impl Iterator<Item = Waiter> {
        self.0.take().into_iter().flat_map(|queue| queue.waiters)
    }

    /// Those who wait, for the holder; whoever has gone away is forgotten.
    pub fn waiting(&mut self) -> Option<Waiting> {
        self.0.as_mut()?.waiters.retain(|waiter| !waiter.verdict.is_closed());
        self.forget_if_none();
        let queue = self.0.as_ref()?;
        let head = queue.waiters.front()?.amount;
        // At most so many units that no limit has; whoever adds up more is denied all the same.
        let total = queue.waiters.iter().fold(0, |sum: u64, one| sum.saturating_add(one.amount));
        Some(Waiting { head, total })
    }

    /// Notes that the call that is being sent knows of all who wait now, and of nothing that changed
    /// after `basis`, which was read before anything that it says.
    pub fn call_built(&mut self, basis: Basis) {
        if let Some(queue) = &mut self.0 {
            queue.call_saw_below = queue.next_number;
            queue.call_basis = Some(basis);
        }
    }

    /// What the last call was built on, if somebody has waited ever since: a denial is of nobody else.
    pub fn call_basis(&self) -> Option<Basis> {
        self.0.as_ref()?.call_basis
    }

    /// Whether nobody who waits was waiting when the last call was built.
    pub fn are_latecomers(&self) -> bool {
        let is_late = |queue: &Queue| {
            queue.waiters.front().is_some_and(|head| head.number >= queue.call_saw_below)
        };
        self.0.as_deref().is_some_and(is_late)
    }

    /// Takes out whom a denial applies to: of those who were waiting when the last call was built
    /// the head, and who asks for more than `remaining`. Whoever came later asks anew: since the
    /// call was built, more may be allowed.
    pub fn take_denied(&mut self, remaining: u64) -> Vec<Waiter> {
        let Some(queue) = &mut self.0 else { return vec![] };
        let saw_below = queue.call_saw_below;
        let mut is_head = true;
        let (denied, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut queue.waiters).into_iter().partition(|waiter| {
                let applies = std::mem::take(&mut is_head) || waiter.amount > remaining;
                applies && waiter.number < saw_below
            });
        queue.waiters = rest.into();
        self.forget_if_none();
        denied
    }

    fn forget_if_none(&mut self) {
        self.0.take_if(|queue| queue.waiters.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_to_an_emptied_queue_is_late_for_the_call_that_was_built() {
        let mut waiters = Waiters::default();
        let _first = waiters.push(5);
        waiters.call_built(Basis::default());
        assert!(!waiters.are_latecomers());
        assert_eq!(waiters.pop().map(|waiter| waiter.amount), Some(5));
        assert!(waiters.is_empty());
        let _second = waiters.push(7);
        assert!(waiters.are_latecomers());
        assert!(waiters.take_denied(0).is_empty(), "the call did not know of it");
        assert_eq!(waiters.head().map(|waiter| waiter.amount), Some(7));
    }

    #[test]
    fn a_queue_of_those_who_have_gone_is_empty() {
        let mut waiters = Waiters::default();
        drop(waiters.push(5));
        assert!(!waiters.is_empty());
        assert!(waiters.waiting().is_none());
        assert!(waiters.is_empty(), "its driver would find news in it for ever");
    }
}
