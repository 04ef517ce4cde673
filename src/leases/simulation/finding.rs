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
        assert!(["I1", "I2", "I4"].iter().any(|name| said.starts_with(name)), "{said} in {seed}");
        eprintln!("{planted:?} is found in world {seed}: {said}");
        return;
    }
    panic!("{planted:?} is not found in {WORLDS_MAX} worlds");
}

#[test]
fn escrow_that_is_freed_by_time_is_found() {
    is_found(Planted::EscrowFreedByTime);
}

#[test]
fn totals_that_are_added_up_are_found() {
    is_found(Planted::TotalsAdded);
}

#[test]
fn a_run_id_that_is_used_again_is_found() {
    is_found(Planted::RunIdReused);
}

#[test]
fn a_journal_that_is_trimmed_before_the_mark_is_found() {
    is_found(Planted::TrimmedBeforeMark);
}

#[test]
fn a_return_before_the_lease_is_closed_is_found() {
    is_found_in(Planted::ReturnedBeforeClosed, |plan| {
        // Requests have to come while the return is on its way.
        plan.without_deaths_and_losses();
        plan.pause_us_max = 2_000;
        plan.requests_max = 1_000;
        plan.usual_us = 5_000;
    });
}

#[test]
fn a_want_that_is_ignored_is_found() {
    is_found(Planted::WantIgnored);
}

#[test]
fn an_old_version_of_a_limit_that_is_accepted_is_found() {
    is_found(Planted::OldCeilingAccepted);
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
fn a_reservation_that_is_released_twice_is_found() {
    is_found_in(Planted::ReservationReleasedTwice, |plan| plan.reserves = 400);
}

#[test]
fn a_window_label_that_is_taken_twice_from_the_clock_is_found() {
    is_found_in(Planted::LabelTakenTwice, |plan| plan.window_s = 20);
}

#[test]
fn a_weak_crash_that_returns_instead_of_forfeiting_is_found() {
    is_found(Planted::WeakCrashReturned);
}

#[test]
fn a_forfeit_that_is_forgotten_after_a_loss_is_found() {
    is_found(Planted::UnknownHoldForgotten);
}

#[test]
fn a_copied_directory_that_returns_what_a_living_run_holds_is_found() {
    is_found_in(Planted::CopyReturned, |plan| plan.copies_per_s = 8);
}

#[test]
fn a_fence_that_an_absent_key_forgets_is_found() {
    // What was opened without a call, as by an event of nothing, is called for after the fence.
    is_found_in(Planted::FenceForgotten, |plan| {
        plan.runs = 2;
        plan.amount_max = 1;
        plan.ceiling_max = 4;
        plan.window_s = 20;
        plan.wipes_per_s = 0;
        plan.copies_per_s = 30;
        plan.lost = 0;
        plan.pause_us_max = 5_000;
    });
}

#[test]
fn a_journal_that_two_closers_count_is_found() {
    is_found_in(Planted::ClosedTwice, |plan| {
        plan.copied = 1_000;
        plan.unkeyed = 1_000;
    });
}

#[test]
fn a_key_that_is_forgotten_as_soon_as_its_window_ends_is_found() {
    is_found_in(Planted::ForgottenTooEarly, |plan| {
        plan.window_s = 60;
        plan.skew_s = 300;
    });
}

#[test]
fn a_loss_that_nobody_notices_is_found() {
    is_found(Planted::LossUnnoticed);
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
    is_found_in(Planted::TotalsForgotten, |plan| plan.window_s = 0);
}

#[test]
fn a_closed_run_that_is_taken_for_open_once_it_is_forgotten_is_found() {
    // It stands still, or its words are on their way, while it is closed and while others are.
    is_found_in(Planted::ClosedRunFounds, |plan| {
        plan.runs = 4;
        plan.keys = 1;
        plan.fenced_max = 1;
        plan.length_ms = 600;
        plan.pauses_per_s = 30;
        plan.pause_ms = 150;
        plan.operated_per_s = 30;
        plan.stops_per_s = 40;
        plan.kills_per_s = 0;
        plan.wipes_per_s = 0;
        plan.window_s = 0;
        plan.slow = 300;
        plan.slow_us = 200_000;
        plan.decreases = 150;
        plan.ledger_away = 0;
    });
}

#[test]
fn a_closing_that_is_forgotten_before_it_is_folded_is_found() {
    is_found_in(Planted::FoldedTooEarly, |plan| plan.fenced_max = 1);
}

/// Runs and who closes them stand still, or do not see the ledger, while the counters lose data.
fn closed_while_data_is_lost(plan: &mut Plan) {
    plan.runs = 4;
    plan.keys = 1;
    plan.length_ms = 600;
    plan.requests_max = 2_000;
    plan.pause_us_max = 5_000;
    plan.ceiling_max = 1_000;
    plan.amount_max = 10;
    plan.operated_per_s = 4;
    plan.kills_per_s = 0;
    plan.stops_per_s = 0;
    plan.wipes_per_s = 3;
    plan.window_s = 0;
    plan.late_records = 0;
    plan.pause_ms = 150;
}

#[test]
fn a_closed_run_that_tells_a_new_epoch_what_it_used_is_found() {
    is_found_in(Planted::ClosedRunReports, |plan| {
        closed_while_data_is_lost(plan);
        plan.pauses_per_s = 15;
        plan.stalled_closers = 0;
        plan.ledger_away = 300;
    });
}

#[test]
fn forfeits_that_were_found_out_in_an_earlier_epoch_are_found() {
    is_found_in(Planted::ForfeitsOfEarlierEpoch, |plan| {
        closed_while_data_is_lost(plan);
        plan.length_ms = 1_000;
        plan.ceiling_max = 5_000;
        plan.operated_per_s = 6;
        plan.pauses_per_s = 0;
        plan.stalled_closers = 300;
        plan.ledger_away = 200;
    });
}

#[test]
fn an_heir_that_gives_back_what_the_journal_knows_to_be_used_is_found() {
    is_found(Planted::HeirKnowsFlushed);
}

#[test]
fn an_heir_that_forgets_what_the_journal_refused_is_found() {
    is_found_in(Planted::HeirForgetsRefused, |plan| {
        plan.refused_by_journal = 200;
        plan.inherits = 1_000;
        plan.kills_per_s = 10;
    });
}

#[test]
fn settlement_that_a_closing_loses_is_found() {
    is_found(Planted::SettlementLost);
}
