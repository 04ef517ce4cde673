//! Histories of a journal, each judged at every moment at which its process or host may die.
//!
//! A *history* is a few lives of a sidecar: records of all levels and sizes, flushes that let
//! segments go, leftovers taken up, operations that fail for a while. It is played on the disk that
//! remembers the moment before each change. From each of these moments the disk is left as a killed
//! process, or a host without power, may leave it (a part of a write; any of the sectors and names
//! that were not synced, none of them), and recovered. What must hold then is in `model.rs`:
//! everything acknowledged that its level lets survive is there, in order and once; nothing is that
//! was not sent, or was refused; recovering again, also after dying in it, finds the same.
//!
//! `planted.rs` lists mistakes that must be found. A failure is shrunk and printed by proptest, and
//! kept in `proptest-regressions`; `JOURNAL_HISTORIES` sets how many are played.

mod faults;
mod flips;
mod judging;
mod mistake;
mod model;
mod plan;
mod planted;
mod playing;

use std::cell::Cell;

use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::{judging::judge, plan::any_history};

/// Histories for everyday; about 3 a second.
const HISTORIES: u32 = 40;

fn histories(default: u32) -> u32 {
    let asked = std::env::var("JOURNAL_HISTORIES").ok();
    asked.and_then(|number| number.parse().ok()).unwrap_or(default)
}

#[test]
fn at_every_moment_of_any_history_what_was_acknowledged_survives_its_death_in_order_and_once() {
    let config = Config {
        cases: histories(HISTORIES),
        source_file: Some(file!()),
        max_shrink_iters: 200,
        ..Config::default()
    };
    let (moments, steps) = (Cell::new(0), Cell::new(0));
    let played = TestRunner::new(config).run(&any_history(), |history| {
        steps.set(steps.get() + history.lives.iter().map(|life| life.steps.len()).sum::<usize>());
        moments.set(moments.get() + judge(&history, None).map_err(TestCaseError::fail)?);
        Ok(())
    });
    eprintln!("judged {} moments in {} steps", moments.get(), steps.get());
    if let Err(failure) = played {
        panic!("{failure}");
    }
}
