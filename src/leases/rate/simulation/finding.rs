//! Every planted mistake is found.

use super::{attempt, plan::Plan, planted::Planted, shrunk};

/// Worlds within which each mistake must show.
const WORLDS_MAX: u64 = 1_000;

fn is_found(planted: Planted) {
    let breaks = |seed| attempt(seed, &Plan::drawn(seed), Some(planted)).err();
    let found = (0..WORLDS_MAX).find_map(|seed| breaks(seed).map(|said| (seed, said)));
    let Some((seed, said)) = found else {
        panic!("{planted:?} is not found in {WORLDS_MAX} worlds");
    };
    let smallest = shrunk(seed, &Plan::drawn(seed), Some(planted));
    assert!(smallest.steps < Plan::drawn(seed).steps, "{smallest:?}");
    eprintln!("{planted:?} is found in world {seed} with {smallest:?}: {said}");
}

#[test]
fn what_is_spent_after_its_lapse_is_found() {
    is_found(Planted::LapseIgnored);
}

#[test]
fn an_overtaken_call_that_is_heard_is_found() {
    is_found(Planted::OvertakenHeard);
}

#[test]
fn older_terms_that_are_heard_are_found() {
    is_found(Planted::OlderTermsHeard);
}

#[test]
fn an_answer_that_was_given_up_and_is_used_is_found() {
    is_found(Planted::LateAnswerUsed);
}

#[test]
fn a_time_that_is_the_callers_is_found() {
    is_found(Planted::CallersClock);
}
