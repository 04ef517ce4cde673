//! Worlds without a mistake: nothing may break in any of them.

use super::{plan::Plan, playing::play};

/// Worlds per test, for everyday.
const WORLDS: u64 = 2_100;
/// The same, of worlds with hundreds of runs.
const CROWDED_WORLDS: u64 = 100;

/// A drawn plan, bent.
fn drawn(seed: u64, bend: fn(&mut Plan)) -> Plan {
    let mut plan = Plan::drawn(seed);
    bend(&mut plan);
    plan
}

#[test]
fn calm_runs_share_a_limit_to_the_last_unit_and_never_time_out() {
    let draw = |seed| drawn(seed, Plan::calm);
    play("calm_runs_share_a_limit_to_the_last_unit_and_never_time_out", WORLDS, draw);
}

#[test]
fn a_network_that_loses_repeats_and_reorders_is_harmless() {
    let draw = |seed| drawn(seed, Plan::without_deaths_and_losses);
    play("a_network_that_loses_repeats_and_reorders_is_harmless", WORLDS, draw);
}

#[test]
fn runs_that_end_are_closed_and_what_they_held_is_usable_again() {
    let draw = |seed| Plan { wipes_per_s: 0, ..Plan::drawn(seed) };
    play("runs_that_end_are_closed_and_what_they_held_is_usable_again", WORLDS, draw);
}

#[test]
fn a_redis_that_forgets_is_rebuilt_without_passing_a_limit() {
    let draw = |seed| Plan { kills_per_s: 0, stops_per_s: 0, ..Plan::drawn(seed) };
    play("a_redis_that_forgets_is_rebuilt_without_passing_a_limit", WORLDS, draw);
}

#[test]
fn everything_at_once() {
    play("everything_at_once", WORLDS, Plan::drawn);
}

#[test]
fn hundreds_of_runs_share_a_limit() {
    play("hundreds_of_runs_share_a_limit", CROWDED_WORLDS, Plan::crowded);
}
