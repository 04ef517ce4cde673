//! Each model in every order with at most three preemptions, and with mistakes that must be found.

use tollgate_loom::{
    atomics::{self, Planted},
    models,
};

/// Preemptions in one order. Most of the bugs that there are need no more than two; three keep
/// all of it within seconds. `LOOM_MAX_PREEMPTIONS` asks for more.
const PREEMPTIONS: usize = 3;

fn play(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.check(model);
}

fn play_with(planted: Planted, model: fn()) {
    atomics::plant(planted);
    play(model);
}

#[test]
fn takers_never_take_more_than_was_granted() {
    play(models::takers_never_take_more_than_was_granted);
}

#[test]
fn what_a_close_returns_is_not_admitted_and_nothing_is_stranded() {
    play(models::what_a_close_returns_is_not_admitted_and_nothing_is_stranded);
}

#[test]
fn a_cell_that_has_parted_never_admits() {
    play(models::a_cell_that_has_parted_never_admits);
}

#[test]
fn a_refill_reaches_the_takers_and_is_counted_once() {
    play(models::a_refill_reaches_the_takers_and_is_counted_once);
}

#[test]
fn a_report_never_undoes_what_it_does_not_contain() {
    play(models::a_report_never_undoes_what_it_does_not_contain);
}

#[test]
fn only_one_of_those_who_find_it_low_wakes_the_slow_side() {
    play(models::only_one_of_those_who_find_it_low_wakes_the_slow_side);
}

#[test]
fn no_change_is_left_without_a_driver() {
    play(models::no_change_is_left_without_a_driver);
}

#[test]
fn no_change_is_slept_through() {
    play(models::no_change_is_slept_through);
}

#[test]
fn a_denial_ends_when_something_comes_back() {
    play(models::a_denial_ends_when_something_comes_back);
}

#[test]
fn an_onlooker_that_goes_hides_nobody() {
    play(models::an_onlooker_that_goes_hides_nobody);
}

#[test]
fn nobody_looks_on_by_terms_that_were_replaced() {
    play(models::nobody_looks_on_by_terms_that_were_replaced);
}

#[test]
#[should_panic(expected = "one of two gets what is enough for one")]
fn a_compare_and_swap_that_is_a_load_and_a_store_is_found() {
    play_with(Planted::TornSwap, models::takers_never_take_more_than_was_granted);
}

#[test]
#[should_panic(expected = "what was returned was admitted, too")]
fn a_return_that_is_told_before_the_lease_is_closed_is_found() {
    play(models::returned_before_closed);
}

#[test]
#[should_panic(expected = "undone")]
fn counters_that_are_not_ordered_are_found() {
    play_with(Planted::AllRelaxed, models::a_report_never_undoes_what_it_does_not_contain);
}

#[test]
#[should_panic(expected = "stranded")]
fn a_close_that_is_not_ordered_with_what_is_given_back_is_found() {
    let model = models::what_a_close_returns_is_not_admitted_and_nothing_is_stranded;
    play_with(Planted::AllRelaxed, model);
}

#[test]
#[should_panic(expected = "nobody was told of a change")]
fn a_driver_that_leaves_without_a_fence_is_found() {
    play_with(Planted::NoFence, models::no_change_is_left_without_a_driver);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_driver_that_sleeps_though_it_was_woken_is_found() {
    play(models::slept_though_woken);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_driver_that_looks_outside_the_lock_is_found() {
    play(models::looked_outside_the_lock);
}

#[test]
#[should_panic(expected = "a denial is repeated")]
fn a_basis_that_is_read_after_the_decision_is_found() {
    play(models::denied_on_a_late_basis);
}

#[test]
#[should_panic(expected = "a denial is repeated")]
fn a_basis_that_is_not_ordered_with_what_it_stands_for_is_found() {
    play_with(Planted::AllRelaxed, models::a_denial_ends_when_something_comes_back);
}

#[test]
#[should_panic(expected = "that somebody uses")]
fn an_onlooker_that_lets_go_before_it_leaves_is_found() {
    play(models::let_go_before_left);
}

#[test]
#[should_panic(expected = "that somebody uses")]
fn holders_that_are_counted_without_a_fence_are_found() {
    play_with(Planted::NoFence, models::an_onlooker_that_goes_hides_nobody);
}

#[test]
#[should_panic(expected = "old terms are looked at")]
fn a_standing_that_is_read_after_the_terms_is_found() {
    play(models::stood_after_the_terms);
}
