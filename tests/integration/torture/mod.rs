//! Real processes, real failures: sidecars, a worker, Redis and Postgres are killed, stopped and cut
//! off from each other while clients work; then everything is mended, comes to rest, and what the
//! clients know is compared with the ledger, the counters and the charges.
//!
//! All that is drawn comes from a seed, which is printed. The seed replays what is done when and to
//! whom; what processes do at that moment is up to the machine, so that a failure may take several
//! tries to be seen again.

mod charging;
mod clients;
mod comparison;
mod faults;
mod operation;
mod planted;
mod program;
mod proxy;
mod reconciling;
mod recovery;
mod remainder;
mod report;
mod restart;
mod round;
mod settling;
mod stage;
mod tenants;
mod truth;

use std::time::{Duration, Instant};

use self::report::Report;

/// The seed that the tests play unless told otherwise.
const SEED: u64 = 1;
/// For how long a round of the tests breaks things.
const ROUND_OF_TESTS: Duration = Duration::from_secs(25);
/// The same, of a long run.
const ROUND_OF_LONG_RUN: Duration = Duration::from_secs(60);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_breaks_what_clients_know_is_what_counts_and_what_is_charged() {
    let seed = number("TORTURE_SEED").unwrap_or(SEED);
    let report = round::play(seed, ROUND_OF_TESTS).await;
    println!("{report}");
    assert!(report.is_clean(), "see above; TORTURE_SEED={seed} draws the same faults");
}

/// `make torture`: round after round.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "as long as one likes: make torture"]
async fn a_long_run() {
    let minutes = number("TORTURE_MINUTES").unwrap_or(30);
    let mut seed = number("TORTURE_SEED").unwrap_or(SEED);
    let started = Instant::now();
    let mut all = Report::default();
    while started.elapsed() < Duration::from_secs(60 * minutes) {
        println!("--- seed {seed}");
        let report = round::play(seed, ROUND_OF_LONG_RUN).await;
        println!("{report}");
        all.add(report);
        seed += 1;
    }
    println!("=== all\n{all}");
    assert!(all.is_clean(), "see above");
}
