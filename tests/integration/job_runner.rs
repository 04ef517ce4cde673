//! Ticks of jobs: each is run once, whatever the number of workers, and whatever becomes of them.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use anyhow::anyhow;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tollgate::{
    clock::Clock,
    jobs::{
        attempt::LEASE,
        error::JobError,
        job::{Job, JobContext, JobResult},
        runner::{ATTEMPTS_MAX, HandRun, HandRunEnd, Outcome, RunReport, Runner},
        schedule::Schedule,
    },
    ledger::{
        Ledger,
        config::LedgerConfig,
        job_runs::{JobRunStatus, StartedBy},
    },
};

use crate::fixture::Database;

/// One tick a month, at 02:00 UTC on the 1st.
const TICK: &str = "2026-11-01T02:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn ledger() -> Ledger {
    let database = Database::create().await;
    Ledger::new(&LedgerConfig::at(database.url)).unwrap()
}

/// A monthly job whose attempts call `body`.
fn monthly<F>(body: impl Fn(JobContext) -> F + Send + Sync + 'static) -> Job
where
    F: Future<Output = JobResult> + Send + 'static,
{
    let schedule = Schedule::new("0 2 1 * *", TimeZone::UTC).unwrap();
    Job::new("monthly", "is run by tests", schedule, body)
}

fn counting(runs: &Arc<AtomicU32>) -> Job {
    let runs = Arc::clone(runs);
    monthly(move |_| {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok(json!({ "run": run })) }
    })
}

fn worker(ledger: &Ledger, name: &str, clock: &Clock, job: Job) -> Runner {
    Runner::new(ledger.clone(), vec![job], clock.clone(), name.to_owned())
}

async fn step(runner: &Runner) -> Option<RunReport> {
    runner.step(&runner.jobs()[0], &CancellationToken::new()).await.unwrap()
}

#[tokio::test]
async fn sixteen_workers_at_one_tick_run_it_once() {
    let (ledger, clock) = (ledger().await, Clock::manual(at(TICK)));
    let runs = Arc::new(AtomicU32::new(0));
    let workers: Vec<_> = (0..16)
        .map(|number| worker(&ledger, &format!("w{number}"), &clock, counting(&runs)))
        .collect();
    let reports = futures::future::join_all(workers.iter().map(step)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(reports.iter().flatten().count(), 1);

    clock.set(at("2026-12-01T01:59:59Z"));
    futures::future::join_all(workers.iter().map(step)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1, "not due again before the next tick");
    clock.set(at("2026-12-01T02:00:00Z"));
    futures::future::join_all(workers.iter().map(step)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(ledger.job_history(None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn of_missed_ticks_only_the_latest_is_run() {
    let (ledger, clock) = (ledger().await, Clock::manual(at(TICK)));
    let runs = Arc::new(AtomicU32::new(0));
    let runner = worker(&ledger, "w", &clock, counting(&runs));
    step(&runner).await.unwrap();
    clock.set(at("2027-05-20T12:00:00Z"));
    let report = step(&runner).await.unwrap();
    assert_eq!(report.scheduled_at, at("2027-05-01T02:00:00Z"));
    assert_eq!(step(&runner).await, None);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_run_whose_worker_died_is_taken_over_when_its_lease_is_over() {
    let (ledger, clock) = (ledger().await, Clock::manual(at(TICK)));
    let begun = Arc::new(Notify::new());
    let hangs = {
        let begun = Arc::clone(&begun);
        monthly(move |_| {
            begun.notify_one();
            std::future::pending()
        })
    };
    let dying = worker(&ledger, "dying", &clock, hangs);
    let attempt = tokio::spawn(async move { step(&dying).await });
    begun.notified().await;
    // As a killed process: nothing more is written, and the row stays as it is.
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());

    let runs = Arc::new(AtomicU32::new(0));
    let other = worker(&ledger, "other", &clock, counting(&runs));
    assert_eq!(step(&other).await, None, "the dead one's lease still holds");
    clock.set(at(TICK) + LEASE - SignedDuration::from_millis(1));
    assert_eq!(step(&other).await, None);
    clock.set(at(TICK) + LEASE);
    let report = step(&other).await.unwrap();
    assert_eq!((report.scheduled_at, report.attempt), (at(TICK), 2));
    let history = ledger.job_history(Some("monthly"), 10).await.unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].worker, "other");
    assert_eq!(history[0].status, JobRunStatus::Succeeded);
    assert_eq!(step(&other).await, None);
}

#[tokio::test]
async fn a_worker_that_was_only_slow_cannot_finish_what_another_took_over() {
    let (ledger, clock) = (ledger().await, Clock::manual(at(TICK)));
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let waits = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        monthly(move |_| {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            async move {
                begun.notify_one();
                go_on.notified().await;
                Err(JobError::Fail(anyhow!("too late")))
            }
        })
    };
    let slow = worker(&ledger, "slow", &clock, waits);
    let attempt = tokio::spawn(async move { step(&slow).await });
    begun.notified().await;
    clock.set(at(TICK) + LEASE);
    let runs = Arc::new(AtomicU32::new(0));
    step(&worker(&ledger, "other", &clock, counting(&runs))).await.unwrap();
    go_on.notify_one();
    assert_eq!(attempt.await.unwrap().unwrap().outcome, Outcome::TakenOver);
    let run = ledger.job_run("monthly", at(TICK)).await.unwrap().unwrap();
    assert_eq!((run.status, run.worker.as_str()), (JobRunStatus::Succeeded, "other"));
}

#[tokio::test]
async fn a_failing_run_is_retried_with_growing_waits_and_then_no_more() {
    let (ledger, clock) = (ledger().await, Clock::manual(at(TICK)));
    let fails = monthly(|_| async { Err(JobError::Retry(anyhow!("the database is away"))) });
    let runner = worker(&ledger, "w", &clock, fails);
    let mut waits_s = Vec::new();
    for attempt in 1..=ATTEMPTS_MAX {
        let report = step(&runner).await.unwrap();
        assert_eq!(report.attempt, attempt);
        let Outcome::Failed { retry_at, .. } = report.outcome else { panic!("{report:?}") };
        let Some(retry_at) = retry_at else { break };
        waits_s.push(retry_at.duration_since(clock.now()).as_secs());
        clock.set(retry_at - SignedDuration::from_millis(1));
        assert_eq!(step(&runner).await, None, "not before its time");
        clock.set(retry_at);
    }
    assert_eq!(waits_s, [30, 60, 120, 240]);
    clock.set(at("2026-11-30T00:00:00Z"));
    assert_eq!(step(&runner).await, None, "given up");
    let run = ledger.job_run("monthly", at(TICK)).await.unwrap().unwrap();
    assert_eq!((run.status, run.attempt), (JobRunStatus::Failed, ATTEMPTS_MAX));
    assert_eq!(run.error.as_deref(), Some("the database is away"));
}

#[tokio::test]
async fn a_job_that_panics_is_retried_and_names_the_panic() {
    let (ledger, clock) = (ledger().await, Clock::manual(at(TICK)));
    let panics = monthly(|_| async { panic!("an index too far") });
    let report = step(&worker(&ledger, "w", &clock, panics)).await.unwrap();
    let Outcome::Failed { error, retry_at: Some(_) } = report.outcome else { panic!("{report:?}") };
    assert!(error.contains("an index too far"), "{error}");
}

#[tokio::test]
async fn a_run_that_kills_each_of_its_workers_is_given_up() {
    let (ledger, clock) = (ledger().await, Clock::manual(at(TICK)));
    for _ in 0..ATTEMPTS_MAX {
        let begun = Arc::new(Notify::new());
        let hangs = {
            let begun = Arc::clone(&begun);
            monthly(move |_| {
                begun.notify_one();
                std::future::pending()
            })
        };
        let dying = worker(&ledger, "dying", &clock, hangs);
        let attempt = tokio::spawn(async move { step(&dying).await });
        begun.notified().await;
        attempt.abort();
        let _ = attempt.await;
        clock.set(clock.now() + LEASE);
    }
    let runs = Arc::new(AtomicU32::new(0));
    let report = step(&worker(&ledger, "last", &clock, counting(&runs))).await.unwrap();
    assert!(matches!(report.outcome, Outcome::Failed { retry_at: None, .. }), "{report:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_stopping_worker_gives_its_run_back_and_the_attempt_does_not_count() {
    let (ledger, clock) = (ledger().await, Clock::manual(at(TICK)));
    let polite = monthly(|context| async move {
        context.stop.cancelled().await;
        context.check_stop()?;
        unreachable!("it was told to stop")
    });
    let stop = CancellationToken::new();
    stop.cancel();
    let runner = worker(&ledger, "stopping", &clock, polite);
    let report = runner.step(&runner.jobs()[0], &stop).await.unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::GivenBack);

    let runs = Arc::new(AtomicU32::new(0));
    let report = step(&worker(&ledger, "other", &clock, counting(&runs))).await.unwrap();
    assert_eq!((report.attempt, runs.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_run_by_hand_works_by_the_time_that_it_is_given_and_once_per_tick() {
    let (ledger, clock) = (ledger().await, Clock::manual(at("2026-11-21T10:00:00Z")));
    let says_now = || monthly(|context| async move { Ok(json!(context.now.to_string())) });
    let runner = worker(&ledger, "hand", &clock, says_now());
    let asked = HandRun {
        job: "monthly",
        scheduled_at: Some(at(TICK)),
        now: Some(at("2015-06-01T00:00:00Z")),
    };
    let stop = CancellationToken::new();
    let HandRunEnd::Ran(report) = runner.run_by_hand(asked, &stop).await.unwrap() else { panic!() };
    let summary = json!("2015-06-01T00:00:00Z");
    assert_eq!(report.outcome, Outcome::Succeeded { summary: summary.clone() });
    let HandRunEnd::AlreadyRun(run) = runner.run_by_hand(asked, &stop).await.unwrap() else {
        panic!("a tick that was run is run again")
    };
    assert_eq!((run.started_by, run.summary), (StartedBy::Hand, Some(summary)));
    assert_eq!(step(&runner).await, None, "the tick was run by hand");

    let unknown = HandRun { job: "weekly", ..asked };
    assert_eq!(runner.run_by_hand(unknown, &stop).await.unwrap(), HandRunEnd::UnknownJob);
    let of_its_own = HandRun { scheduled_at: None, ..asked };
    let end = runner.run_by_hand(of_its_own, &stop).await.unwrap();
    assert!(matches!(end, HandRunEnd::Ran(_)), "{end:?}");
}

#[tokio::test]
async fn a_run_that_failed_for_good_can_be_tried_again_by_hand() {
    let (ledger, clock) = (ledger().await, Clock::manual(at(TICK)));
    let fails = monthly(|_| async { Err(JobError::Fail(anyhow!("no such plan"))) });
    step(&worker(&ledger, "w", &clock, fails)).await.unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let mended = worker(&ledger, "w", &clock, counting(&runs));
    assert_eq!(step(&mended).await, None);
    let asked = HandRun { job: "monthly", scheduled_at: Some(at(TICK)), now: None };
    let end = mended.run_by_hand(asked, &CancellationToken::new()).await.unwrap();
    assert!(matches!(end, HandRunEnd::Ran(RunReport { attempt: 1, .. })), "{end:?}");
    let run = ledger.job_run("monthly", at(TICK)).await.unwrap().unwrap();
    assert_eq!((run.status, run.started_by), (JobRunStatus::Succeeded, StartedBy::Schedule));
}
