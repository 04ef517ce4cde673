//! Rates as pure machines: no IO, no clock, no async.
//!
//! - [`cell::RateCell`], one window of a rate in one process, on one atomic.
//! - [`stack::RateStack`], several of them: all must have room. A rate of scope `sidecar` is one of
//!   these.
//! - [`message`]: what a sidecar and the shared state of a rate of scope `global` say to each
//!   other.
//! - [`shared::SharedRate`], the shared state: what the script does in Redis.
//! - [`purse::Purse`], a sidecar's side of it.
//!
//! # A rate across sidecars
//!
//! The shared state keeps a *debt* per window, in nanoseconds: each permit costs the window's
//! interval, time pays the debt off, and `debt ≤ capacity = burst × interval`. A sidecar asks for
//! permits of requests that wait for them, and may be lent some in advance, so that the next
//! requests are answered from memory. Permits that are lent are *held*: they count, but time does
//! not pay for them before they are spent. They **lapse** a short while ([`lapse_ns`]) after the
//! sidecar last asked: it spends none of them later, and the shared state counts what it has not
//! heard of as spent at that moment. Permits for a waiting request are charged at once.
//!
//! **Bound.** *Within any interval, from `a` to `b`, all sidecars together admit at most `rate × (b
//! − a) + burst`.* Say a permit is *charged* when it becomes debt: at the latest when it lapses.
//! (1) At each moment, and for each window, `debt + held × interval ≤ capacity`: both ways of
//! granting check it, charging moves a permit from one side to the other, and nothing else raises
//! the left side. (2) A permit is spent no later than it is charged: one of a waiting request is
//! charged while that request is under way; a lent one is charged when the sidecar reports it as
//! spent, or when it lapses, and the sidecar's own count of the lapse begins when it *sends*, which
//! is before the shared state's does. (3) A permit is granted no later than it is spent. So one
//! that is spent between `a` and `b` was granted before `b` and is charged after `a`: at `b` it is
//! either held, or it has been charged between `a` and `b`. What was charged between them costs at
//! most `debt(b) + (b − a)`, because debt is paid off by time alone; what is held at `b` costs at
//! most `capacity − debt(b)`. The sum is at most `capacity + (b − a)`. ∎
//!
//! **Messages that are lost, repeated or late** only ever charge more, or earlier granted permits
//! later. One call is under way per sidecar and key, and an answer that is given up is never used:
//! what it granted is not in the next call's `granted` and goes back, or lapses. The `sequence`
//! refuses calls that were overtaken; where the entry that would refuse them is gone, what they are
//! granted lapses. An answer that tells of a lapse and is lost leaves what was held to be charged
//! once more. An entry is gone only when all that it held was charged or given back, so that a
//! call without one has nothing to be charged.
//!
//! **Clocks.** The time is Redis' own and no sidecar's; sidecars measure only the lapse, by a clock
//! that runs on while the machine is suspended, and end it a little early, so that one that is slow
//! spends nothing late. Where Redis' clock goes back, debts stay and go on being paid off from
//! there; where it jumps ahead by `j`, they are paid off by `j` too early, and what was lent counts
//! as lapsed, by a lapse at most before it has. A Redis that lost its data begins each rate anew: at
//! most another burst.
//!
//! **When a request counts.** At the instant at which its permits are granted or taken from what is
//! in hand, which is between its arrival and its answer. Permits of a request that also asks other
//! limits are held until it is sure of those. Where they lapse before, they are charged then: they
//! were granted before. The shared state tells the sidecar with its next answer that what it held
//! has lapsed (an entry that is gone has charged all that it held), so that they are not charged
//! again when the request keeps them; one that lets them go has lost them.
//!
//! **Other limits.** The tenant's version travels with its windows ([`message::RateTerms`]). The
//! shared state keeps the newest that it was told of: debts are converted and cut to the new burst
//! once, when it first hears of them, and a sidecar that still knows older ones is judged by the
//! newer and told what they are. From a lapse after that moment on the bound holds with the new
//! limits, however long sidecars disagree.
//!
//! **What it costs.** While permits are held their part of the debt is not paid off, so lending
//! costs capacity, not rate: what the slowest window gives in a lapse, which is a twentieth of the
//! time that the smallest burst takes to become free. What lapses unspent is lost; it is no more
//! than every window makes up for in another lapse. A rate that gives less than [`LENT_MIN`]
//! permits in a lapse, as one with a daily window does, is lent nothing in advance: it asks for
//! each permit when it is needed, and answers denials from memory until one is free again.

pub mod cell;
pub mod message;
pub mod purse;
pub mod shared;
pub mod stack;

#[cfg(test)]
mod simulation;

use crate::domain::rate::RateWindow;

/// Fewer permits than these per lapse are not lent in advance.
pub const LENT_MIN: u64 = 4;
/// Shortest and longest lapse, in nanoseconds.
const LAPSE_NS: std::ops::RangeInclusive<u64> = 5_000_000..=100_000_000;

/// How long lent permits may be spent, in nanoseconds: a twentieth of the time in which the
/// smallest burst becomes free, within bounds.
pub fn lapse_ns(windows: &[RateWindow]) -> u64 {
    let smallest_ns = windows.iter().map(RateWindow::capacity_ns).min().unwrap_or_default();
    (smallest_ns / 20).clamp(*LAPSE_NS.start(), *LAPSE_NS.end())
}
