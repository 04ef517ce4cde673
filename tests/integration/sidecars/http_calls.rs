//! The calls over HTTP: the document that describes them, and public clients.

use std::{
    io::{BufRead, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{CATALOG, cluster::Cluster};
use crate::fixture::{are_out_of_reach, ask, ask_in_full, python};

fn post(at: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    let headers = [("content-type", "application/json")];
    let (status, body) = ask(at, "POST", path, &headers, &body.to_string());
    (status, serde_json::from_str(&body).unwrap())
}

async fn serving() -> (Cluster, super::cluster::Sidecar, SocketAddr) {
    serving_with(&[]).await
}

async fn serving_with(flags: &[(&str, &str)]) -> (Cluster, super::cluster::Sidecar, SocketAddr) {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    flags.iter().for_each(|(flag, value)| cluster.flag(flag, value));
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    let at = cluster.address("a", "http");
    (cluster, sidecar, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_validator_accepts_the_document_and_it_says_what_is_answered() {
    if tokio::task::block_in_place(are_out_of_reach) {
        return;
    }
    let (cluster, sidecar, at) = serving().await;
    let quota = |meter: &str, amount: i64, mode: &str| json!({ "tenant": "acme", "meter": meter, "amount": amount, "mode": mode });
    let event = json!({ "tenant": "acme", "meter": "tokens", "amount": "5" });
    let acme = json!({ "targetingKey": "acme" });
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
        ("/ofrep/v1/evaluate/flags", json!({ "context": acme }), 200, "OfrepFlags"),
        ("/ofrep/v1/evaluate/flags/none", json!({ "context": acme }), 404, "OfrepFailure"),
        ("/ofrep/v1/evaluate/flags", json!({}), 400, "OfrepFailure"),
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
    let count = answers.len();
    let answers = write("answers.json", &Value::from(answers).to_string());
    let checked =
        tokio::task::block_in_place(|| python("check_openapi.py", &[&document, &answers]));
    assert!(checked.contains(&format!("{count} answers")), "{checked}");
    sidecar.process.stop();
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_a_public_sdk_posts_as_cloud_events_is_counted_once() {
    if tokio::task::block_in_place(are_out_of_reach) {
        return;
    }
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
    let asked = |amount: i64| {
        let headers = [("content-type", "application/json")];
        let body = json!({
            "tenant": "acme", "meter": "calls", "amount": amount, "mode": "MODE_CONSUME",
        });
        ask_in_full(at, "POST", "/v1/check-quota", &headers, &body.to_string())
    };
    let never = asked(10_001);
    assert_eq!((never.status, never.headers.get("retry-after")), (429, None), "{}", never.body);
    assert_eq!(asked(10_000).status, 200);
    let later = asked(1);
    let wait_s: u64 = later.headers["retry-after"].parse().unwrap();
    assert!(later.status == 429 && wait_s > 0, "{}", later.body);
    assert!(later.headers["ratelimit"].contains(";r=0;t="), "{:?}", later.headers);
    let headers = [("content-type", "application/json"), ("prefer", "denial-status=200")];
    let (status, _) = ask(at, "POST", "/v1/check-quota", &headers, &body.to_string());
    assert_eq!(status, 200);
    let (status, _) = ask(at, "POST", "/v1/check-quota", &[("content-type", "text/plain")], "{}");
    assert_eq!(status, 415, "what a page in a browser may send is not taken");
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_message_is_refused_and_counts_nothing() {
    let (_cluster, sidecar, at) = serving_with(&[("--http-body-bytes-max", "65536")]).await;
    let json = [("content-type", "application/json")];
    let event = |amount: &str| {
        format!(r#"{{"events":[{{"tenant":"acme","meter":"tokens","amount":{amount}}}]}}"#)
    };
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let twice = r#"{"tenant":"acme","tenant":"globex","meter":"tokens","amount":1}"#.to_owned();
    let both = r#"{"events":[{"tenant":"acme","meter":"tokens","amount":1,
        "idempotencyKey":"a","idempotency_key":"b"}]}"#;
    let amounts = ["1e400", "18446744073709551616", "9007199254740993", "-1", "1.5", "true", "[]"];
    let bodies = amounts.map(event).into_iter().chain([
        deep.clone(),
        format!(r#"{{"events":{deep}}}"#),
        both.to_owned(),
        "{}{}".to_owned(),
        "null".to_owned(),
        "\u{feff}{}".to_owned(),
    ]);
    for body in bodies {
        let answer = ask(at, "POST", "/v1/usage", &json, &body);
        assert_eq!(answer.0, 400, "{body:.200}: {}", answer.1);
    }
    assert_eq!(ask(at, "POST", "/v1/check-quota", &json, &twice).0, 400, "named twice");
    let large = event(&format!("1{}", " ".repeat(70_000)));
    let (status, told) = ask(at, "POST", "/v1/usage", &json, &large);
    assert_eq!(status, 413, "{told}");
    let chunked = [json[0], ("transfer-encoding", "chunked")];
    let part = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    assert_eq!(send(at, &chunked, &part), 413, "nobody said how long it is");
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let headers = [("content-type", kind)];
        assert_eq!(ask(at, "POST", "/v1/usage", &headers, &event("1")).0, 415, "{kind}");
        assert_eq!(ask(at, "POST", "/v1/events", &headers, &event("1")).0, 415, "{kind}");
    }
    let answer = ask_in_full(at, "GET", "/v1/usage", &[], "");
    assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, "POST"));
    let (status, told) = ask(at, "POST", "/v1/usage", &json, &event("1"));
    assert_eq!(status, 200, "{told}");
    sidecar.wait_until_used("acme", "tokens", 1).await;
    sidecar.process.stop();
}

/// The status of a request that says its length by itself.
fn send(at: SocketAddr, headers: &[(&str, &str)], body: &str) -> u16 {
    let mut stream = TcpStream::connect(at).unwrap();
    let told: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("POST /v1/usage HTTP/1.1\r\nHost: here\r\n{told}\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::BufReader::new(stream).read_line(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_and_a_batch_of_checks_are_answered_as_json_too() {
    let (_cluster, sidecar, at) = serving().await;
    let work = |tokens: &str, mode: &str| json!({ "tenant": "acme", "operation": "work", "amounts": { "calls": tokens }, "mode": mode });
    let (status, answer) = post(at, "/v1/check", &work("9999", "MODE_CONSUME"));
    assert_eq!((status, &answer["allowed"]), (200, &json!(true)), "{answer}");
    assert_eq!(answer["quotas"]["calls"]["used"], "9999", "{answer}");
    let headers = [("content-type", "application/json")];
    let body = work("2", "MODE_CONSUME").to_string();
    let (status, body) = ask(at, "POST", "/v1/check", &headers, &body);
    let denied: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &denied["deniedName"]), (429, &json!("calls")), "{denied}");
    assert_eq!(denied["remedies"][0]["kind"], "REMEDY_KIND_WAIT_UNTIL", "{denied}");

    let quota = |amount: i64| json!({ "quota": { "tenant": "acme", "meter": "calls", "amount": amount, "mode": "MODE_CHECK" } });
    let checks = json!({ "checks": [
        { "operation": work("1", "MODE_CONSUME") },
        { "operation": work("1", "MODE_CONSUME") },
        quota(1),
        {},
        { "feature": { "tenant": "acme", "feature": "nothing" } },
    ] });
    let (status, batch) = post(at, "/v1/check-batch", &checks);
    assert_eq!(status, 200, "{batch}");
    let results = batch["results"].as_array().unwrap();
    assert_eq!(results.len(), 5, "{batch}");
    assert_eq!(results[0]["operation"]["allowed"], true, "{batch}");
    assert_eq!(results[1]["operation"]["deniedBy"], "DENIED_BY_QUOTA", "{batch}");
    assert_eq!(results[2]["quota"]["reason"], "QUOTA_REASON_LIMIT_EXCEEDED", "{batch}");
    assert_eq!([&results[3]["error"]["code"], &results[4]["error"]["code"]], [3, 5], "{batch}");
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_403_with_true_figures_and_no_limit_to_wait_for() {
    let (cluster, sidecar, at) = serving().await;
    let ask = |mode: &str, more: &[(&str, &str)]| {
        let headers = [&[("content-type", "application/json")], more].concat();
        let body = json!({ "tenant": "acme", "meter": "calls", "amount": 1, "mode": mode });
        let answer = ask_in_full(at, "POST", "/v1/check-quota", &headers, &body.to_string());
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        (answer, told)
    };
    for _ in 0..7 {
        assert_eq!(ask("MODE_CONSUME", &[]).0.status, 200);
    }
    cluster.operate(&["tenant", "suspend", "acme", "--reason", "unpaid"]);
    let since = Instant::now();
    let is_known = || ask("MODE_CHECK", &[]).1["reason"] == "QUOTA_REASON_SUBSCRIPTION_INACTIVE";
    while !is_known() {
        assert!(since.elapsed() < Duration::from_secs(60), "the suspension is not known");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (answer, told) = ask("MODE_CONSUME", &[]);
    assert_eq!((answer.status, &told["allowed"]), (403, &json!(false)), "{told}");
    assert_eq!((&told["used"], &told["remaining"]), (&json!("7"), &json!("0")), "{told}");
    for header in ["ratelimit", "ratelimit-policy", "retry-after"] {
        assert_eq!(answer.headers.get(header), None, "{header}");
    }
    assert_eq!(ask("MODE_CHECK", &[]).0.status, 200);
    assert_eq!(ask("MODE_CONSUME", &[("prefer", "denial-status=200")]).0.status, 200);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_settles_a_hold_which_has_ended_is_counted_and_said_to_be_late() {
    let (_cluster, sidecar, at) = serving().await;
    let hold = json!({ "tenant": "acme", "meter": "calls", "amount": 10, "mode": "MODE_RESERVE" });
    let (_, held) = post(at, "/v1/check-quota", &hold);
    let settle = json!({ "events": [{
        "tenant": "acme", "meter": "calls", "amount": 4, "reservationId": held["reservation"]["id"],
    }] });
    let settled = || post(at, "/v1/usage", &settle).1;
    assert_eq!(settled(), json!({ "accepted": "1", "duplicates": "0", "late": "0" }));
    assert_eq!(settled(), json!({ "accepted": "1", "duplicates": "0", "late": "1" }));
    sidecar.wait_until_used("acme", "calls", 8).await;
    sidecar.process.stop();
}
