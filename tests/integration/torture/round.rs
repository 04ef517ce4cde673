//! One round, from the first process to the last comparison.

use std::{sync::Arc, time::Duration};

use tokio::{task::block_in_place, time::Instant};
use tollgate::domain::ids::PoolId;

use super::{
    charging::charges_differ,
    clients::Load,
    comparison::{Books, keep, ledger_with_itself, panics},
    faults::{Faults, Subject},
    reconciling, remainder,
    report::Report,
    settling::{make_known, settle},
    stage::Stage,
    tenants,
    truth::Truth,
};

const SIDECARS: usize = 3;
/// Work in peace before anything breaks, so that there is something to lose.
const PEACE: Duration = Duration::from_secs(2);

/// Plays the round of `seed`, in which things break for so long.
pub async fn play(seed: u64, faults_for: Duration) -> Report {
    let started = Instant::now();
    let mut stage = Arc::new(Stage::set(SIDECARS, &[]).await);
    let truth = Arc::new(Truth::default());
    let pool = tenants::make(&stage, &truth).await;
    stage.start_programs();
    let mut report = Report { rounds: 1, ..Report::default() };
    report.differences = match settle(&stage, pool).await {
        Ok(_) => through(&stage, &truth, pool, &mut report, seed, faults_for).await,
        Err(left) => left.into_iter().map(|left| format!("at the start: {left}")).collect(),
    };
    report.panics = panics(&stage);
    let book = std::mem::take(&mut *truth.book());
    report.differences.extend(book.differences);
    report.tally = book.tally;
    report.failures = book.failures;
    // Some may still run after a failure.
    stage.programs().for_each(super::program::Program::kill);
    report.took = started.elapsed();
    if !report.is_clean() {
        keep(&stage).await;
        let stage = Arc::get_mut(&mut stage).unwrap();
        stage.keep_dir();
        println!("seed {seed}: what the processes logged is in {}", stage.dir().display());
    }
    report
}

/// What is found between the first fault and the end.
async fn through(
    stage: &Arc<Stage>,
    truth: &Arc<Truth>,
    pool: PoolId,
    report: &mut Report,
    seed: u64,
    faults_for: Duration,
) -> Vec<String> {
    let mut subjects = vec![Subject::Redis, Subject::Postgres, Subject::Worker];
    subjects.push(Subject::Limits(pool));
    for number in 0..SIDECARS {
        subjects.extend([Subject::Sidecar(number), Subject::Ways(number)]);
    }
    let load = Load::start(stage, truth, seed);
    tokio::time::sleep(PEACE).await;
    let faults = Faults::start(stage, &subjects, seed, Instant::now() + faults_for);
    let (counted, mut found) = faults.end().await;
    report.faults = counted;
    load.stop().await;
    stage.mend_ways();
    found.extend(stage.programs().filter_map(|program| program.ended_by_itself()));
    stage.start_programs();
    found.extend(compare(stage, truth, pool, report, seed).await.unwrap_or_else(|left| left));
    found
}

/// What differs once all is at rest; or what does not come to rest.
async fn compare(
    stage: &Stage,
    truth: &Truth,
    pool: PoolId,
    report: &mut Report,
    seed: u64,
) -> Result<Vec<String>, Vec<String>> {
    report.rest_max = settle(stage, pool).await?;
    let books = Books::read(stage, pool).await.map_err(|error| vec![error])?;
    let mut found = {
        let book = truth.book();
        [books.ledger_differs(&book), books.over_the_limit(&book)].concat()
    };
    report.made_known = make_known(stage, truth, seed).await?;
    report.rest_max = report.rest_max.max(settle(stage, pool).await?);
    let books = Books::read(stage, pool).await.map_err(|error| vec![error])?;
    found.extend(books.ledger_differs(&truth.book()));
    found.extend(reconciling::differences(stage));
    found.extend(remainder::take(stage, truth, &books).await);
    for program in stage.programs() {
        found.extend(block_in_place(|| program.stop()).err());
    }
    let books = Books::read(stage, pool).await.map_err(|error| vec![error])?;
    found.extend(books.ledger_differs(&truth.book()));
    found.extend(books.redis_differs(stage).await);
    found.extend(books.stranded(stage).await);
    found.extend(ledger_with_itself(stage).await);
    found.extend(reconciling::differences(stage));
    report.charged = stage.world.charges().await.len();
    found.extend(charges_differ(stage, &books).await);
    Ok(found)
}
