//! `tollgate worker`, `tollgate job` and `tollgate charges` as processes.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    fixture::{Database, Processes, get},
    overages::world::World,
};

/// How long a process may take to come to what it is asked.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Every job, in the order in which they are listed.
const JOBS: [&str; 3] = ["overages", "rollover", "cleanup"];

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn wait_for(address: SocketAddr, path: &str, is_it: impl Fn(u16, &str) -> bool) -> String {
    let started = Instant::now();
    loop {
        let answer = get(address, path);
        match &answer {
            Some((status, body)) if is_it(*status, body) => return body.clone(),
            _ => assert!(started.elapsed() < WAIT_MAX, "{path}: {answer:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn worker(url: &str, address: SocketAddr) -> Command {
    let address = address.to_string();
    let mut command =
        Processes::tollgate(&["worker", "--ledger-url", url, "--worker-http-listen", &address]);
    command.args(["--log-filter", "error"]);
    command
}

fn tollgate(url: &str, arguments: &[&str]) -> Output {
    Processes::tollgate(arguments).args(["--ledger-url", url]).output().unwrap()
}

/// The JSON that a command prints; it must have succeeded.
fn printed(url: &str, arguments: &[&str]) -> Value {
    let output = tollgate(url, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn workers_run_what_is_due_once_tell_how_it_went_and_stop_in_good_order() {
    let (processes, database) = (Processes::default(), Database::create().await);
    let addresses = [free_address(), free_address()];
    let workers = addresses.map(|address| processes.start(&mut worker(&database.url, address)));
    for address in addresses {
        let ready = wait_for(address, "/readyz", |status, _| status == 200);
        assert!(ready.contains("ledger"), "{ready}");
        assert_eq!(get(address, "/livez").unwrap().0, 200);
    }
    // Every job has a latest tick; between the two workers, each tick is run once.
    let started = Instant::now();
    loop {
        let history = printed(&database.url, &["job", "history", "--json"]);
        let runs = history.as_array().unwrap();
        let ticks: BTreeSet<String> =
            runs.iter().map(|run| format!("{} {}", run["job"], run["scheduled_at"])).collect();
        assert_eq!(ticks.len(), runs.len(), "{history}");
        let has_run =
            |job: &&str| runs.iter().any(|run| run["job"] == **job && run["status"] == "succeeded");
        if JOBS.iter().all(has_run) {
            break;
        }
        assert!(started.elapsed() < WAIT_MAX, "{history}");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Counted right after the row is written.
    let line = "tollgate_job_runs_total{job=\"overages\",outcome=\"succeeded\"} 1";
    while !addresses.iter().any(|at| get(*at, "/metrics").unwrap().1.contains(line)) {
        assert!(started.elapsed() < WAIT_MAX);
    }
    let told = addresses.iter().filter(|at| get(**at, "/metrics").unwrap().1.contains(line));
    assert_eq!(told.count(), 1, "the run was one worker's");
    for worker in workers {
        worker.stop();
    }
}

#[tokio::test]
async fn a_worker_killed_amid_its_work_leaves_it_to_another_and_nothing_is_charged_twice() {
    let (processes, world) = (Processes::default(), World::with_catalog("hosting").await);
    world.tenant("acme", "starter").await;
    world.record("acme", "bandwidth", 120_000_000_000, "2015-05-20T12:00:00Z").await;
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE charges IN SHARE MODE").execute(&mut *lock).await.unwrap();

    let killed = processes.start(&mut worker(&world.url, free_address()));
    // It has read all it needs and is about to write.
    let is_writing = "SELECT EXISTS (SELECT 1 FROM pg_locks
                      WHERE NOT granted AND relation = 'charges'::regclass)";
    let started = Instant::now();
    while !sqlx::query_scalar::<_, bool>(is_writing).fetch_one(&world.pool).await.unwrap() {
        assert!(started.elapsed() < WAIT_MAX);
    }
    killed.kill();
    lock.rollback().await.unwrap();
    // As if a minute had passed.
    let over = "UPDATE job_runs SET lease_until = started_at WHERE job = 'overages'";
    sqlx::raw_sql(over).execute(&world.pool).await.unwrap();

    let other = processes.start(&mut worker(&world.url, free_address()));
    let history = loop {
        let history = printed(&world.url, &["job", "history", "overages", "--json"]);
        if history[0]["status"] == "succeeded" {
            break history;
        }
        assert!(started.elapsed() < WAIT_MAX, "{history}");
    };
    assert_eq!((&history[0]["attempt"], history.as_array().unwrap().len()), (&2.into(), 1));
    assert_eq!(world.amounts().await, [("acme".to_owned(), "2015-05-01".to_owned(), 100)]);
    other.stop();
}

#[tokio::test]
async fn jobs_are_run_listed_and_remembered_from_the_command_line() {
    let world = World::with_catalog("hosting").await;
    let url = world.url.as_str();
    world.tenant("acme", "starter").await;
    world.record("acme", "bandwidth", 112_100_000_000, "2015-05-20T12:00:00Z").await;
    let tick = "2015-06-01T02:00:00Z";
    let arguments = ["job", "run", "overages", "--now", tick, "--scheduled-at", tick, "--json"];
    let ran = printed(url, &arguments);
    assert_eq!((&ran["outcome"], &ran["summary"]["charged"]), (&"succeeded".into(), &1.into()));
    assert_eq!(printed(url, &arguments)["outcome"], "already_run");

    let jobs = printed(url, &["job", "list", "--json"]);
    assert_eq!(jobs[0]["job"], "overages");
    assert_eq!(jobs[0]["last_run"]["scheduled_at"], tick);
    let charges = printed(url, &["charges", "--json"]);
    assert_eq!((&charges[0]["amount"], &charges[0]["tenant"]), (&"0.61".into(), &"acme".into()));
    let table = tollgate(url, &["charges"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("12.1 GB") && table.contains("0.61 USD"), "{table}");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_a_remedy() {
    let database = Database::create().await;
    let url = database.url.as_str();
    for (arguments, parts) in [
        (&["job", "run", "overage"][..], &["no job \"overage\"", &JOBS.join(", ")][..]),
        (&["job", "run", "overages", "--now", "soon"], &["--now", "soon"]),
        (&["worker", "--jobs-overages", "monthly"], &["jobs.overages", "five fields"]),
        (&["worker", "--jobs-zone", "Mars"], &["jobs.zone", "Europe/London"]),
    ] {
        let output = tollgate(url, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        for part in parts {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}
