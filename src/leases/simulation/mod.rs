//! A seeded simulation of the protocol: several runs, several keys, a network that loses, repeats,
//! delays and reorders, a Redis that is emptied, restarted and restored, runs that are killed and
//! closed from what is left of their journals, by heirs that tell what they used before that is
//! flushed, runs that stop in good order, runs that never come
//! back until an operator closes them or do so after that, runs that stand still, that are closed by
//! hand or from a copy of their directory while they live, wall clocks that are off and set, windows
//! that end, plans and grants that change. It drives the real cell, holder, key, holds and window
//! labels; Redis, the ledger, the journals and the drivers are models.
//!
//! Outside: a key is kept for longer after its window than clocks are apart, a run stands still or a
//! message takes (`Plan::retention_ms`); what a run begins to use after somebody has begun to close
//! it though it lives; and what an operator releases by hand, which is counted to the unit.
//!
//! Held after every event: I1 (what was admitted or is held never passes what the ceiling allows),
//! and, where messages are timely, no refusal while enough was left at every moment since the request came. At quiet: I4 (the
//! key = ledger + outstanding + forfeited, and the ledger = what was acknowledged) and I2 (what
//! remains can be had, to the last unit).
//!
//! A failure is made smaller (`shrinking`), and prints the command that replays it. `TOLLGATE_SEEDS`
//! sets how many worlds all tests of `worlds` play together, `TOLLGATE_SEED` names the first (and
//! only one, unless there is a number too), `TOLLGATE_PLAN` replaces numbers of their plans
//! (`name=number,…`).

mod attempt;
mod checks;
mod closer;
mod closing;
mod counters;
mod driving;
mod dropped;
mod ending;
mod event;
mod finding;
mod heirs;
mod ledger;
mod network;
mod plan;
mod planted;
mod playing;
mod requests;
mod running;
mod server;
mod shrinking;
mod sidecar;
mod spoiling;
mod terms;
mod trace;
mod world;
mod worlds;
