//! `WatchUsage` as server-sent events.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use tollgate::proto::v1::Mode;

use super::{CATALOG, access::FOLLOWED_MAX, cluster::Cluster};

/// How long an event may take on a busy machine.
const EVENT_MAX: Duration = Duration::from_secs(30);

/// An open stream of events.
struct Events(BufReader<TcpStream>);

impl Events {
    /// Watches acme; the status where it is not let in.
    fn open(at: SocketAddr, token: &str) -> Result<Self, u16> {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(EVENT_MAX)).unwrap();
        let body = json!({ "tenant": "acme", "meters": ["calls"] }).to_string();
        let length = body.len();
        write!(
            stream,
            "POST /v1/watch-usage HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut events = Self(BufReader::new(stream));
        let status = events.line().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        if status == 200 { Ok(events) } else { Err(status) }
    }

    /// `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).unwrap() > 0).then(|| line.trim().to_owned())
    }

    /// The next event: its name and its data.
    fn next(&mut self) -> Option<(String, Value)> {
        let mut name = "message".to_owned();
        loop {
            let line = self.line()?;
            if let Some(told) = line.strip_prefix("event: ") {
                name = told.to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).unwrap()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_as_they_happen_until_the_token_is_revoked() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    cluster.with_tokens();
    let token = cluster.token("dashboard", &["--role", "viewer", "--tenant", "acme"]);
    let sidecar = cluster.start("a").await;
    let at = cluster.address("a", "http");
    let mut events = Events::open(at, &token).unwrap();
    let used = |event: &Value| event["meters"][0]["used"].as_str().unwrap().to_owned();
    let (name, first) = events.next().unwrap();
    assert_eq!((name.as_str(), used(&first).as_str()), ("message", "0"));
    sidecar.check(Mode::Consume, "acme", "calls", 5).await.unwrap();
    while used(&events.next().unwrap().1) != "5" {}

    cluster.operate(&["token", "revoke", "dashboard"]);
    let ended = loop {
        match events.next().unwrap() {
            (name, told) if name == "error" => break told,
            _ => {}
        }
    };
    assert_eq!(ended["code"], 16, "{ended}");
    assert!(events.next().is_none());
    assert_eq!(Events::open(at, &token).err(), Some(401));

    // One that is open does not hold up the stop.
    let token = cluster.token("another", &["--role", "viewer", "--tenant", "acme"]);
    let started = std::time::Instant::now();
    let mut events = loop {
        match Events::open(at, &token) {
            Ok(events) => break events,
            Err(status) => assert!(started.elapsed() < FOLLOWED_MAX, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(events.next().is_some());
    sidecar.process.stop();
    while events.next().is_some() {}
}
