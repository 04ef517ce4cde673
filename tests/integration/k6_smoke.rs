//! k6's smoke script, as it is published for users, against a sidecar by itself.

use std::{
    net::SocketAddr,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::fixture::{Processes, are_out_of_reach, k6};

/// How long the sidecar may take to serve.
const START_MAX: Duration = Duration::from_secs(40);
const CATALOG: &str = include_str!("../../loadtest/catalog.yaml");

/// Runs the script against a sidecar with this catalog; whether all was right, and what it printed.
fn smoke(catalog: &str) -> (bool, String) {
    let processes = Processes::default();
    let dir = tempfile::tempdir().unwrap();
    let path = |name| dir.path().join(name);
    std::fs::write(path("catalog.yaml"), catalog).unwrap();
    let log = std::fs::File::create(path("log")).unwrap();
    let mut command = Processes::tollgate(&["sidecar", "--access-mode", "open"]);
    command
        .args(["--catalog".as_ref(), path("catalog.yaml").as_os_str()])
        .args(["--journal-data-dir".as_ref(), path("data").as_os_str()])
        .args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .stderr(Stdio::from(log.try_clone().unwrap()))
        .stdout(Stdio::from(log));
    let sidecar = processes.start(&mut command);
    let [grpc, http] = serving_at(&path("log"));
    let targets = [("GRPC", grpc.to_string()), ("HTTP", http.to_string())];
    let ended = k6("loadtest/k6/smoke.js", &targets);
    sidecar.stop();
    ended
}

/// Where it serves gRPC and HTTP, as its log says once it does.
fn serving_at(log: &Path) -> [SocketAddr; 2] {
    let started = Instant::now();
    loop {
        let logged = std::fs::read_to_string(log).unwrap();
        let serving =
            logged.lines().find(|line| line.contains("serving") && line.contains("http="));
        if let Some(serving) = serving {
            let at = |face: &str| serving.split(face).nth(1)?.split(' ').next()?.parse().ok();
            return ["grpc=", "http="].map(|face| at(face).unwrap_or_else(|| panic!("{serving}")));
        }
        assert!(started.elapsed() < START_MAX, "not serving:\n{logged}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_answer_that_k6_checks_is_right_over_both_faces() {
    if are_out_of_reach() {
        return;
    }
    let (is_right, printed) = smoke(CATALOG);
    assert!(is_right, "{printed}");
    for face in ["grpc_req_duration", "http_req_duration"] {
        assert!(printed.contains(face), "{printed}");
    }
}

#[test]
fn a_limit_that_is_passed_fails_the_script() {
    if are_out_of_reach() {
        return;
    }
    let (is_right, printed) = smoke(&CATALOG.replace("scarce: 100", "scarce: 1000"));
    assert!(!is_right && printed.contains("✗ a hard limit is not passed"), "{printed}");
}
