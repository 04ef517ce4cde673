//! The calls over HTTP: the document that describes them, and public clients.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{CATALOG, cluster::Cluster};
use crate::fixture::{ask, python};

fn post(at: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    let headers = [("content-type", "application/json")];
    let (status, body) = ask(at, "POST", path, &headers, &body.to_string());
    (status, serde_json::from_str(&body).unwrap())
}

async fn serving() -> (Cluster, super::cluster::Sidecar, SocketAddr) {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    let at = cluster.address("a", "http");
    (cluster, sidecar, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_validator_accepts_the_document_and_it_says_what_is_answered() {
    let (cluster, sidecar, at) = serving().await;
    let quota = |meter: &str, amount: i64, mode: &str| json!({ "tenant": "acme", "meter": meter, "amount": amount, "mode": mode });
    let event = json!({ "tenant": "acme", "meter": "tokens", "amount": "5" });
    let asked = [
        ("/v1/check-quota", quota("calls", 1, "MODE_CONSUME"), 200, "CheckQuotaResponse"),
        ("/v1/check-quota", quota("calls", 1, "MODE_RESERVE"), 200, "CheckQuotaResponse"),
        ("/v1/check-quota", quota("seats", 11, "MODE_CHECK"), 200, "CheckQuotaResponse"),
        ("/v1/check-quota", quota("seats", 11, "MODE_CONSUME"), 429, "CheckQuotaResponse"),
        ("/v1/check-quota", quota("nothing", 1, "MODE_CHECK"), 404, "Status"),
        ("/v1/check-quota", json!({ "tenant": 5 }), 400, "Status"),
        ("/v1/usage", json!({ "events": [event] }), 200, "RecordUsageResponse"),
        ("/v1/record-usage", json!({ "events": [event] }), 200, "RecordUsageResponse"),
        ("/v1/record-usage", json!({}), 400, "Status"),
        ("/v1/get-usage", json!({ "tenant": "acme" }), 200, "GetUsageResponse"),
        ("/v1/list-features", json!({ "tenant": "acme" }), 200, "ListFeaturesResponse"),
        ("/v1/no-such-call", json!({}), 404, "Status"),
    ];
    let mut answers = Vec::new();
    for (path, body, expected, schema) in asked {
        let (status, answer) = post(at, path, &body);
        assert_eq!(status, expected, "{path} {body}: {answer}");
        answers.push(json!([schema, answer]));
    }
    let (status, document) = ask(at, "GET", "/openapi.json", &[], "");
    assert_eq!(status, 200);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let document = write("openapi.json", &document);
    let answers = write("answers.json", &Value::from(answers).to_string());
    let checked =
        tokio::task::block_in_place(|| python("check_openapi.py", &[&document, &answers]));
    assert!(checked.contains("12 answers"), "{checked}");
    sidecar.process.stop();
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_a_public_sdk_posts_as_cloud_events_is_counted_once() {
    let (_cluster, sidecar, at) = serving().await;
    let url = format!("http://{at}/v1/events");
    let said =
        tokio::task::block_in_place(|| python("post_cloud_events.py", &[&url, "acme", "tokens"]));
    let lines: Vec<&str> = said.lines().collect();
    let statuses: Vec<&str> = lines.iter().map(|line| &line[..3]).collect();
    assert_eq!(statuses, ["200", "200", "200", "200", "400"], "{said}");
    assert!(lines[2].contains(r#""duplicates": "1""#), "{said}");
    assert!(lines[4].contains("events[1].subject"), "{said}");
    sidecar.wait_until_used("acme", "tokens", 5 + 7 + 11 + 13).await;
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_is_429_with_a_time_to_come_back_unless_200_is_preferred() {
    let (_cluster, sidecar, at) = serving().await;
    let body = json!({
        "tenant": "acme", "meter": "calls", "amount": 10_001, "mode": "MODE_CONSUME",
    });
    let (status, answer) = post(at, "/v1/check-quota", &body);
    assert_eq!((status, &answer["allowed"]), (429, &json!(false)), "{answer}");
    let headers = [("content-type", "application/json"), ("prefer", "denial-status=200")];
    let (status, _) = ask(at, "POST", "/v1/check-quota", &headers, &body.to_string());
    assert_eq!(status, 200);
    let (status, _) = ask(at, "POST", "/v1/check-quota", &[("content-type", "text/plain")], "{}");
    assert_eq!(status, 400, "what a page in a browser may send is not taken");
    sidecar.process.stop();
}
