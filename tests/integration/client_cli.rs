//! The commands that call a sidecar, and what all commands do alike.

use std::process::{Output, Stdio};

use crate::fixture::Processes;

fn tollgate(arguments: &[&str]) -> Output {
    Processes::tollgate(arguments).env_remove("TOLLGATE_ENDPOINT").output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Processes::tollgate(&["config"]);
    let output = command.stdout(Stdio::from(writer)).stderr(Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!(told(&output), "");
    assert_eq!(output.status.code(), Some(128 + 13));
}

#[test]
fn an_endpoint_that_cannot_be_called_says_which_can() {
    let refused = tollgate(&["check", "acme", "calls", "--endpoint", "https://127.0.0.1:7421"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(told(&refused).contains("do not speak TLS yet"), "{}", told(&refused));
    let refused = tollgate(&["usage", "acme", "--endpoint", "127.0.0.1:1"]);
    assert!(told(&refused).contains("no sidecar answers at 127.0.0.1:1"), "{}", told(&refused));
}

#[test]
fn values_that_cannot_be_read_say_what_to_give() {
    for (arguments, says) in [
        (["check", "acme", "calls", "5GB"], "a whole number, such as 5000000000"),
        (["check", "acme", "calls", "--ttl=soon"], "seconds as a whole number"),
        (["record", "acme", "calls", "--time=yesterday"], "such as 2026-11-21T10:00:00Z"),
    ] {
        let refused = tollgate(&arguments);
        assert_eq!(refused.status.code(), Some(2));
        assert!(told(&refused).contains(says), "{}", told(&refused));
    }
}

#[test]
fn a_replay_that_gives_up_says_why_and_where() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/web-access.csv");
    let mut command = Processes::tollgate(&["replay", "web", file, "--calls", "1", "--tries", "1"]);
    let output = command.env("TOLLGATE_ENDPOINT", "127.0.0.1:1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = told(&output);
    assert!(told.contains("1 calls were given up after 1 tries each"), "{told}");
    assert!(told.contains("no answer from 127.0.0.1:1: "), "{told}");
    assert!(told.contains("Connection refused"), "{told}");
}
