//! Every planted mistake is found, by the rule that it breaks.

use super::{actor::Actor, attempt, planted::Planted, shrunk, world::Rule};

/// Worlds within which each mistake must show.
const WORLDS_MAX: u64 = 2_000;

fn is_found(planted: Planted, by: &[Rule]) {
    let breaks = |seed| attempt(seed, &Actor::drawn(seed), Some(planted)).err();
    let found = (0..WORLDS_MAX).find_map(|seed| breaks(seed).map(|broken| (seed, broken)));
    let Some((seed, broken)) = found else {
        panic!("{planted:?} is not found in {WORLDS_MAX} worlds");
    };
    assert!(by.contains(&broken.rule), "{planted:?} in world {seed}: {broken:?}");
    let actors = shrunk(seed, Some(planted), &broken);
    assert!(actors.len() <= 8, "{planted:?} in world {seed} needs all of {actors:?}");
    eprintln!("{planted:?} is found in world {seed} with {} actors: {broken:?}", actors.len());
}

#[test]
fn a_basis_that_is_read_after_the_verdict_is_found() {
    is_found(Planted::LateBasis, &[Rule::NoStaleDenial]);
}

#[test]
fn a_denial_of_those_who_came_later_is_found() {
    is_found(Planted::LatecomersDenied, &[Rule::NoStaleDenial]);
}

#[test]
fn a_ceiling_that_a_remembered_denial_outlives_is_found() {
    is_found(Planted::CeilingUnnoticed, &[Rule::NoStaleDenial]);
}

#[test]
fn a_seat_that_a_dead_driver_keeps_is_found() {
    is_found(Planted::SeatKept, &[Rule::Answered]);
}

#[test]
fn a_seat_that_is_given_up_in_flight_is_found() {
    is_found(Planted::SeatGivenUp, &[Rule::OneFlight, Rule::Answered]);
}
