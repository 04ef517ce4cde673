//! A seeded simulation of the protocol: several runs, several keys, a network that loses, repeats,
//! delays and reorders, a Redis that is emptied, restarted and restored, runs that are killed and
//! closed from what is left of their journals, runs that stop in good order, runs that never come
//! back until an operator closes them, ceilings that move. It drives the real cell, holder and key;
//! Redis, the ledger, the journals and the drivers are models.
//!
//! Held after every event: I1 (what was admitted or is held never passes what the ceiling allows),
//! and, where messages are timely, no refusal while enough was left at every moment since the request came. At quiet: I4 (the
//! key = ledger + outstanding + forfeited, and the ledger = what was acknowledged) and I2 (what
//! remains can be had, to the last unit).
//!
//! A failure prints the command that replays its world. `TOLLGATE_SEEDS` sets how many worlds each
//! test plays, `TOLLGATE_SEED` names the first (and only one, unless there is a number too),
//! `TOLLGATE_TRACE` prints every event.

mod checks;
mod closer;
mod closing;
mod counters;
mod driving;
mod event;
mod finding;
mod ledger;
mod network;
mod plan;
mod planted;
mod requests;
mod running;
mod server;
mod sidecar;
mod spoiling;
mod world;

use std::panic;

use rand::Rng;

use self::{event::Seen, plan::Plan, world::World};

/// Worlds per test, for everyday; `TOLLGATE_SEEDS` asks for more.
const WORLDS: u64 = 300;

/// Plays worlds drawn from seeds and bent by `bend`, for the test of that name.
fn play(test: &str, bend: fn(&mut Plan)) -> Seen {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let seed: Option<u64> = number("TOLLGATE_SEED");
    let worlds = number("TOLLGATE_SEEDS").unwrap_or(if seed.is_some() { 1 } else { WORLDS });
    let first = seed.unwrap_or_else(|| rand::rng().random());
    let mut seen = Seen::default();
    for number in 0..worlds {
        let seed = first.wrapping_add(number);
        let mut plan = Plan::drawn(seed);
        bend(&mut plan);
        match panic::catch_unwind(|| World::new(seed, plan.clone()).play()) {
            Ok(one) => seen.add(&one),
            Err(panic) => {
                eprintln!("{plan:?}");
                eprintln!(
                    "replay with: TOLLGATE_SEED={seed} cargo test --lib leases::simulation::{test}"
                );
                panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{test}: {worlds} worlds from seed {first}: {seen:?}");
    if worlds >= WORLDS {
        assert!(seen.admitted > 0 && seen.refused > 0, "nothing happened: {seen:?}");
    }
    seen
}

#[test]
fn calm_runs_share_a_limit_to_the_last_unit_and_never_time_out() {
    play("calm_runs_share_a_limit_to_the_last_unit_and_never_time_out", Plan::calm);
}

#[test]
fn a_network_that_loses_repeats_and_reorders_is_harmless() {
    play("a_network_that_loses_repeats_and_reorders_is_harmless", Plan::without_deaths_and_losses);
}

#[test]
fn runs_that_end_are_closed_and_what_they_held_is_usable_again() {
    let bend = |plan: &mut Plan| plan.wipes_per_s = 0;
    play("runs_that_end_are_closed_and_what_they_held_is_usable_again", bend);
}

#[test]
fn a_redis_that_forgets_is_rebuilt_without_passing_a_limit() {
    let bend = |plan: &mut Plan| (plan.kills_per_s, plan.stops_per_s) = (0, 0);
    play("a_redis_that_forgets_is_rebuilt_without_passing_a_limit", bend);
}

#[test]
fn everything_at_once() {
    play("everything_at_once", |_| {});
}
