//! All that is called over HTTP: every route with every body, as the router sees it.

use std::time::Duration;

use axum::{Router, body::Body};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tollgate_fuzz::{Answer, Target};
use tower::ServiceExt;

use super::sidecar::{READ_MAX, Sidecar};

/// How long a call may take, its stream aside: none of the sidecar's own deadlines is as long.
const CALL_MAX: Duration = Duration::from_secs(15);

/// A request as the corpus has it: the first line, header fields, an empty line, the body. `None`
/// for what no client could send.
fn request(input: &[u8]) -> Option<Request<Body>> {
    let end = input.windows(2).position(|pair| pair == b"\n\n")?;
    let (head, body) = (&input[..end], &input[end + 2..]);
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, path) = first.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    request.body(Body::from(body.to_vec())).ok()
}

/// What an answer says, as far as it ends in time: a stream of usage never does.
async fn read(mut body: Body) -> Vec<u8> {
    let (mut read, until) = (vec![], Instant::now() + READ_MAX);
    while let Ok(Some(Ok(frame))) = tokio::time::timeout_at(until, body.frame()).await {
        read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    read
}

async fn answer(router: Router, request: Request<Body>) -> Answer {
    let path = request.uri().path();
    // Where it went: flags have names in their paths.
    let route: String = path.split('/').take(5).collect::<Vec<_>>().join("/");
    let answer = timeout(CALL_MAX, router.oneshot(request)).await.expect("an answer in time");
    let answer = answer.unwrap_or_else(|never| match never {});
    let status = answer.status();
    assert!(!status.is_server_error(), "{status} {:?}", read(answer.into_body()).await);
    let is_json = answer.headers().get("content-type").is_some_and(|it| it == "application/json");
    let body = read(answer.into_body()).await;
    let mut told = String::new();
    if is_json {
        let body: Value = serde_json::from_slice(&body).expect("JSON is JSON");
        let reason = body["details"][0]["reason"].as_str().or(body["reason"].as_str());
        told = reason.or(body["errorCode"].as_str()).unwrap_or_default().to_owned();
        let is_refused = status.is_client_error() && body["allowed"].is_null();
        assert!(!is_refused || !told.is_empty(), "no reason: {status} {body}");
        if let Some(field) = body["details"][1]["fieldViolations"][0]["field"].as_str() {
            told = format!("{told} {}", field.split(['[', '.']).next().unwrap_or_default());
        }
    }
    format!("{route} {} {told}", status.as_u16()).chars().take(100).collect()
}

/// Makes every call of the corpus.
pub fn play(sidecar: &Sidecar) {
    let router = sidecar.http();
    for input in tollgate_fuzz::corpus::read("http") {
        let request = request(&input).expect("the corpus is of requests");
        sidecar.runtime.block_on(answer(router.clone(), request));
    }
}

#[test]
fn requests() {
    let sidecar = Sidecar::start();
    let router = sidecar.http();
    let target = Target {
        name: "http",
        inputs: 6_000,
        bytes_max: 64 << 10,
        // The sidecar's own work goes on meanwhile: its tables, its journal's buffers.
        memory_max: (64 << 20, 1 << 10),
    };
    target.run(vec![], |input| match request(input) {
        None => "no request".into(),
        Some(request) => sidecar.runtime.block_on(answer(router.clone(), request)),
    });
}
