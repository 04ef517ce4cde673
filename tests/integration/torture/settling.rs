//! Everything is mended, and what is left over comes to rest.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tollgate::domain::ids::PoolId;

use super::{
    clients::note_failure,
    comparison::Books,
    operation::{Answer, Batch, Verb},
    stage::Stage,
    tenants::COMPOSED,
    truth::{Fate, Truth},
};

/// How long it may take until all is at rest.
const REST_WAIT_MAX: Duration = Duration::from_secs(120);
/// How long one operation of unknown fate may take to become known, once all is mended.
const KNOWN_WAIT_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until every sidecar is well, the runs that ended are closed, all that was acknowledged until
/// now is in the ledger, and Redis says what the ledger says. How long that took, or what is left
/// over.
pub async fn settle(stage: &Stage, pool: PoolId) -> Result<Duration, Vec<String>> {
    let started = Instant::now();
    #[allow(clippy::disallowed_methods)] // The runs' marks are by the real clock.
    let now = Timestamp::now();
    loop {
        let left = left_over(stage, pool, now).await;
        if left.is_empty() {
            return Ok(started.elapsed());
        }
        if started.elapsed() > REST_WAIT_MAX {
            return Err(left);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn left_over(stage: &Stage, pool: PoolId, acknowledged_until: Timestamp) -> Vec<String> {
    let mut left = unwell(stage);
    match stage.world.ledger.open_runs().await {
        Err(error) => left.push(format!("the ledger cannot be asked: {error}")),
        Ok(open) => {
            if open.len() != stage.sidecars.len() {
                left.push(format!("{} runs are open", open.len()));
            }
            for run in open.iter().filter(|run| run.mark_at <= acknowledged_until) {
                left.push(format!("run {} is flushed through {} only", run.run, run.mark_at));
            }
        }
    }
    // Asked only once it can agree.
    if left.is_empty() {
        match Books::read(stage, pool).await {
            Ok(books) => left = books.redis_differs(stage).await,
            Err(error) => left.push(error),
        }
    }
    left
}

/// Which conditions of which sidecars are not as they should be.
pub fn unwell(stage: &Stage) -> Vec<String> {
    (0..stage.sidecars.len()).flat_map(|number| unwell_of(stage, number)).collect()
}

fn unwell_of(stage: &Stage, number: usize) -> Vec<String> {
    let name = &stage.sidecars[number].program.name;
    let Some(report) = stage.readiness(number) else {
        return vec![format!("{name} does not answer")];
    };
    let conditions = report["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    // That anybody may call is how the round wants it.
    let is_bad = |it: &&Value| it["status"] != "ok" && it["name"] != "access";
    let bad = conditions.iter().filter(is_bad);
    let told = |condition: &Value| format!("{name}: {condition}");
    bad.map(told).collect()
}

/// Sends everything of unknown fate again, under its key, until it is known to count: after the fact,
/// so that no limit denies what may have been admitted before. What was asked for as an operation
/// can only be recognised as one; its tenant is freed of limits for that.
pub async fn make_known(stage: &Stage, truth: &Truth, seed: u64) -> Result<usize, Vec<String>> {
    let unknown = std::mem::take(&mut truth.book().unknown);
    let mut random = StdRng::seed_from_u64(seed);
    let count = unknown.len();
    stage
        .operate(&["tenant", "set-plan", COMPOSED, "--plan", "unlimited"])
        .map_err(|told| vec![told])?;
    let clients: Vec<_> =
        (0..stage.sidecars.len()).map(|it| stage.client(it, KNOWN_WAIT_MAX)).collect();
    for batch in unknown {
        let verb = match batch.verb {
            Verb::Compose => Verb::Compose,
            Verb::Consume | Verb::Record | Verb::Commit { .. } => Verb::Record,
        };
        let again = Batch { verb, ..batch };
        let started = Instant::now();
        loop {
            truth.book().tally.sent += 1;
            truth.book().tally.retried += 1;
            let client = clients[random.random_range(0..clients.len())].clone();
            let answer = again.send(client).await;
            let is_patient = started.elapsed() < KNOWN_WAIT_MAX;
            match answer {
                Ok(Answer { fate: Fate::Counted, .. }) => {
                    truth.book().counted(&again, true);
                    break;
                }
                // Not every sidecar knows the new plan yet.
                Ok(_) if is_patient => tokio::time::sleep(LOOK_EVERY).await,
                Err(status) if is_patient => note_failure(truth, &status),
                other => return Err(vec![format!("{again:?} cannot be recorded: {other:?}")]),
            }
        }
    }
    Ok(count)
}
