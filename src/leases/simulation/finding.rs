//! Every planted mistake is found: a simulation that does not find it here would not find it in
//! the machines either.

use super::{attempt::attempt, plan::Plan, planted::Planted};

/// Worlds within which each mistake must show. The seeds are always the same.
const WORLDS_MAX: u64 = 2_000;

/// Plays worlds with the mistake until one of the invariants breaks.
fn is_found(planted: Planted) {
    is_found_in(planted, |_| {});
}

/// The same in worlds where the mistake has more occasions to do harm.
fn is_found_in(planted: Planted, bend: fn(&mut Plan)) {
    for seed in 0..WORLDS_MAX {
        let mut plan = Plan { planted: Some(planted), ..Plan::drawn(seed) };
        bend(&mut plan);
        let Err(broken) = attempt(seed, &plan, None) else { continue };
        let said = broken.said;
        assert!(["I1", "I2", "I4"].iter().any(|name| said.starts_with(name)), "{said}");
        eprintln!("{planted:?} is found in world {seed}: {said}");
        return;
    }
    panic!("{planted:?} is not found in {WORLDS_MAX} worlds");
}

#[test]
fn totals_that_are_added_up_are_found() {
    is_found(Planted::TotalsAdded);
}

#[test]
fn an_absent_key_that_is_taken_for_zero_is_found() {
    is_found(Planted::AbsentIsZero);
}

#[test]
fn a_grant_before_all_runs_have_reported_is_found() {
    is_found(Planted::GrantedBeforeReports);
}

#[test]
fn a_loss_that_nobody_notices_is_found() {
    is_found(Planted::LossUnnoticed);
}

#[test]
fn a_want_that_is_ignored_is_found() {
    is_found(Planted::WantIgnored);
}

#[test]
fn an_old_ceiling_that_is_accepted_is_found() {
    is_found(Planted::OldCeilingAccepted);
}

#[test]
fn a_return_before_the_lease_is_closed_is_found() {
    // Requests have to come while the return is on its way.
    is_found_in(Planted::ReturnedBeforeClosed, |plan| {
        plan.without_deaths_and_losses();
        plan.pause_us_max = 2_000;
        plan.requests_max = 1_000;
        plan.usual_us = 5_000;
    });
}

#[test]
fn an_overtaken_call_that_asks_is_found() {
    is_found(Planted::OvertakenAsks);
}

#[test]
fn a_closed_run_that_is_heard_is_found() {
    is_found(Planted::ClosedRunHeard);
}

#[test]
fn totals_that_are_forgotten_with_a_dropped_cell_are_found() {
    is_found(Planted::TotalsForgotten);
}

#[test]
fn settlement_that_a_closing_loses_is_found() {
    is_found(Planted::SettlementLost);
}

#[test]
fn a_forfeit_that_is_forgotten_is_found() {
    is_found(Planted::ForfeitForgotten);
}

#[test]
fn a_forfeit_that_is_forgotten_after_a_loss_is_found() {
    is_found(Planted::UnknownHoldForgotten);
}
