//! The cleanup job: room ahead, and nothing kept past its time.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tollgate::{
    clock::Clock,
    jobs::{
        cleanup::{self, Retention},
        runner::{HandRun, HandRunEnd, Outcome, Runner},
    },
    ledger::{Ledger, config::LedgerConfig},
};

use crate::fixture::Database;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn old_keys_events_and_job_runs_go_and_the_rest_stays() {
    let database = Database::create().await;
    let ledger = Ledger::new(&LedgerConfig::at(&database.url)).unwrap();
    let pool = database.pool().await;
    let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    sqlx::raw_sql(
        "INSERT INTO usage_keys
         SELECT 'acme', 'key-' || age, 'tokens', '', 1, gen_random_uuid(), 1,
                now() - make_interval(days => age)
         FROM generate_series(0, 39) AS age;
         INSERT INTO job_runs (job, scheduled_at, status, started_by, attempt, worker, claim,
                               started_at, lease_until, finished_at)
         SELECT job, tick, 'succeeded', 'schedule', 1, 'w', gen_random_uuid(), tick, tick, tick
         FROM (VALUES ('rare'), ('often')) AS j (job),
              generate_series(timestamptz '2026-01-01', '2026-11-20', '1 day') AS tick
         WHERE job = 'often' OR tick = '2026-01-01'",
    )
    .execute(&pool)
    .await
    .unwrap();
    let retention = Retention { usage_keys: 30 * DAY, job_runs: 10 * DAY };
    let job = cleanup::job(ledger.clone(), cleanup::SCHEDULE, TimeZone::UTC, retention).unwrap();
    let worker = Runner::new(ledger.clone(), vec![job], Clock::manual(now), "w".to_owned());
    let asked = HandRun { job: cleanup::NAME, scheduled_at: None, now: None };
    let end = worker.run_by_hand(asked, &CancellationToken::new()).await.unwrap();
    let HandRunEnd::Ran(report) = end else { panic!("{end:?}") };
    let Outcome::Succeeded { summary } = report.outcome else { panic!("{report:?}") };
    assert_eq!((&summary["usage_keys"], &summary["usage_events"]), (&json!(10), &json!(0)));
    // 324 days of runs at midnight, of which those since the 12th stay; a job's only run stays
    // whatever its age.
    assert_eq!(summary["job_runs"], json!(315));
    assert_eq!(ledger.job_history(Some("rare"), 10).await.unwrap().len(), 1);
    assert_eq!(ledger.job_history(Some("often"), 1_000).await.unwrap().len(), 9);
}
