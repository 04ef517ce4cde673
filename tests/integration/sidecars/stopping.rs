//! Stopping: bounded when the stores are away, and at once when it is asked for twice.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    time::{Duration, Instant},
};

use tollgate::proto::v1::Mode;

use super::{CATALOG, cluster::Cluster};
use crate::fixture::{Processes, get};

/// How long a stop may take whose stores are away, on a busy machine: what the product allows
/// itself, to drain and then to finish, and some more.
const STOP_MAX: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_whose_stores_are_away_stops_soon_and_tells_what_it_leaves() {
    let (mut cluster, mut postgres) = Cluster::with_own_postgres("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    sidecar.check(Mode::Consume, "acme", "calls", 10).await.unwrap();
    cluster.redis.kill().unwrap();
    postgres.kill().unwrap();
    let asked = Instant::now();
    sidecar.process.stop();
    assert!(asked.elapsed() < STOP_MAX, "took {:?}", asked.elapsed());
    let log = cluster.logged("a");
    assert!(log.contains("Postgres cannot be reached at"), "{log}");
    assert!(!log.contains("a task has died"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_start_and_stop_warns_of_nothing() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    let mut warned = vec![];
    // A sidecar rightly warns of a store that is slow because the machine is busy with other tests.
    for name in ["a", "b", "c", "d", "e"] {
        let sidecar = cluster.start(name).await;
        sidecar.process.stop();
        let log = cluster.logged(name);
        assert!(log.contains("serving"), "{log}");
        // The tests' sidecars are open on purpose, and say so.
        let rest: Vec<_> = log.lines().filter(|line| !line.contains("access is open")).collect();
        assert_eq!(rest.len() + 1, log.lines().count(), "{log}");
        for unwanted in ["ERROR", "Some(", "\u{1b}["] {
            assert!(!rest.iter().any(|line| line.contains(unwanted)), "{unwanted} in {log}");
        }
        if !rest.iter().any(|line| line.contains("WARN")) {
            return;
        }
        warned.push(log);
    }
    panic!("each of them warned: {}", warned.join("\n"));
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_second_signal_ends_a_worker_that_still_stops() {
    let (processes, http) = (Processes::default(), free_address());
    let mut command = Processes::tollgate(&["worker"]);
    command
        .args(["--ledger-url", "postgres://127.0.0.1:1/none"])
        .args(["--worker-http-listen", &http.to_string()])
        // What holds the stop up: a request that never comes to its end.
        .args(["--worker-http-drain-s", "600", "--worker-http-head-wait-s", "600"])
        .stderr(Stdio::piped());
    let mut worker = processes.start(&mut command);
    let started = Instant::now();
    while get(http, "/livez").is_none() {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut stuck = TcpStream::connect(http).unwrap();
    stuck.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    let told = std::thread::spawn({
        let mut errors = worker.child.stderr.take().unwrap();
        move || {
            let mut told = String::new();
            errors.read_to_string(&mut told).unwrap();
            told
        }
    });
    let pid = rustix::process::Pid::from_child(&worker.child);
    let asked = Instant::now();
    let status = loop {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        if let Some(status) = worker.child.try_wait().unwrap() {
            break status;
        }
        assert!(asked.elapsed() < STOP_MAX, "a second signal does not end it");
    };
    let told = told.join().unwrap();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("cut off by a second SIGTERM"), "{told}");
    assert!(told.contains("Postgres cannot be reached at 127.0.0.1:1, database none"), "{told}");
}
