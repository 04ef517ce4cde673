//! Mistakes that histories have to find.

use std::cell::Cell;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::{judging::judge, mistake::Mistake, plan::any_history};
use crate::journal::planted::Planted;

/// Histories in which each must be found.
const HISTORIES: u32 = 200;

/// Whether some history shows `mistake`, and after how many.
fn found_after(mistake: Mistake) -> Option<u32> {
    let config = Config {
        cases: HISTORIES,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let played = Cell::new(0);
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let shown = TestRunner::new_with_rng(config, rng).run(&any_history(), |history| {
        played.set(played.get() + 1);
        judge(&history, Some(mistake)).map(drop).map_err(TestCaseError::fail)
    });
    shown.is_err().then(|| played.get())
}

#[test]
fn every_planted_mistake_is_found() {
    let mistakes = [
        Mistake::AcknowledgedBeforeSync,
        Mistake::SyncErrorIgnored,
        Mistake::NamesNotSynced,
        Mistake::ReleasedBeforeMark,
        Mistake::Rule(Planted::ChecksumUnchecked),
        Mistake::Rule(Planted::EndNotSynced),
        Mistake::Rule(Planted::TailNotCut),
    ];
    let missed: Vec<_> = mistakes
        .into_iter()
        .filter(|mistake| {
            let found = found_after(*mistake);
            eprintln!("{mistake:?}: found after {found:?} histories");
            found.is_none()
        })
        .collect();
    assert!(missed.is_empty(), "not found in {HISTORIES} histories: {missed:?}");
}
