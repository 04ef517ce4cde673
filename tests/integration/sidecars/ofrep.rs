//! Flags by OFREP: values of every type, what has changed, what is refused.

use std::{net::SocketAddr, time::Instant};

use serde_json::{Value, json};

use super::{
    access::FOLLOWED_MAX,
    cluster::{Cluster, Sidecar},
};
use crate::fixture::{Answer, ask_in_full};

const CATALOG: &str = r"
catalog: proving
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
attributes: [country, age]
features:
  - name: editor
    targeting: [{ when: { country: [GB], age: ['30'] } }]
  - { name: seats, type: number, default: 3 }
  - { name: share, type: number }
  - { name: greeting, type: string }
  - { name: report, type: enum, values: [monthly, weekly] }
  - { name: layout, type: json }
  - { name: rolled, rollout: { percent: 100 } }
  - { name: unrolled, rollout: { percent: 0 } }
  - { name: old, sunset: { on: 2020-01-01 } }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits: { calls: 10000 }
    features: { share: 2.5, report: weekly, layout: { columns: [1, 2] }, old: true }
  - { name: pro, prices: { monthly: 9 }, limits: { calls: 10000 }, features: { editor: true } }
";

const ALL: &str = "/ofrep/v1/evaluate/flags";

struct World {
    cluster: Cluster,
    sidecar: Sidecar,
    http: SocketAddr,
}

impl World {
    async fn start(change: impl FnOnce(&mut Cluster)) -> Self {
        let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
        for tenant in ["acme", "globex"] {
            cluster.world.tenant(tenant, "basic").await;
        }
        change(&mut cluster);
        let sidecar = cluster.start("a").await;
        let http = cluster.address("a", "http");
        Self { cluster, sidecar, http }
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        ask_in_full(self.http, "POST", path, &headers, body)
    }

    fn evaluate(&self, flag: &str, context: &Value) -> Value {
        let body = json!({ "context": context }).to_string();
        let answer = self.post(&format!("{ALL}/{flag}"), &[], &body);
        assert_eq!(answer.status, 200, "{flag}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_come_with_the_reason_for_them() {
    let world = World::start(|_| {}).await;
    let acme = json!({ "targetingKey": "acme" });
    let british = json!({ "targetingKey": "acme", "country": "GB", "age": 30, "more": {} });
    let expected = [
        ("editor", &acme, json!(false), "DISABLED", "NOT_IN_PLAN"),
        ("editor", &british, json!(true), "TARGETING_MATCH", "TARGETING"),
        ("seats", &acme, json!(3), "STATIC", "DEFAULT"),
        ("share", &acme, json!(2.5), "STATIC", "IN_PLAN"),
        // None: the application's own default holds.
        ("greeting", &acme, Value::Null, "DISABLED", "NOT_IN_PLAN"),
        ("report", &acme, json!("weekly"), "STATIC", "IN_PLAN"),
        ("layout", &acme, json!({ "columns": [1, 2] }), "STATIC", "IN_PLAN"),
        ("rolled", &acme, json!(true), "SPLIT", "IN_ROLLOUT"),
        ("unrolled", &acme, json!(false), "SPLIT", "NOT_IN_ROLLOUT"),
        ("old", &acme, json!(false), "DISABLED", "SUNSET"),
    ];
    for (key, context, value, reason, ours) in expected {
        let flag = world.evaluate(key, context);
        assert_eq!((&flag["key"], &flag["value"]), (&json!(key), &value), "{flag}");
        assert_eq!((&flag["reason"], &flag["metadata"]["reason"]), (&json!(reason), &json!(ours)));
        assert_eq!(flag.get("value").is_none(), value.is_null(), "{flag}");
    }
    assert_eq!(world.evaluate("editor", &acme)["metadata"]["availableInPlan"], "pro");
    world.sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_all_flags_is_told_only_when_one_changes() {
    let world = World::start(|_| {}).await;
    let body = json!({ "context": { "targetingKey": "acme" } }).to_string();
    let first = world.post(ALL, &[], &body);
    assert_eq!(first.status, 200, "{}", first.body);
    let flags: Value = serde_json::from_str(&first.body).unwrap();
    assert_eq!(flags["flags"].as_array().unwrap().len(), 9);
    let etag = first.headers["etag"].as_str();
    let again = world.post(ALL, &[("if-none-match", etag)], &body);
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(again.headers["etag"], etag);
    // Another context is another answer.
    let british = json!({ "context": { "targetingKey": "acme", "country": "GB", "age": 30 } });
    let other = world.post(ALL, &[("if-none-match", etag)], &british.to_string());
    assert_eq!(other.status, 200);

    let grant = ["feature", "override", "acme", "editor", "true", "--reason", "pilot"];
    world.cluster.operate(&grant);
    let started = Instant::now();
    let changed = loop {
        let answer = world.post(ALL, &[("if-none-match", etag)], &body);
        if answer.status == 200 {
            break answer;
        }
        assert!(started.elapsed() < FOLLOWED_MAX, "the override is not told");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_ne!(changed.headers["etag"], etag);
    let flags: Value = serde_json::from_str(&changed.body).unwrap();
    let editor = &flags["flags"][0];
    assert_eq!((&editor["value"], &editor["reason"]), (&json!(true), &json!("TARGETING_MATCH")));
    world.sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_evaluated_has_its_code() {
    let world = World::start(|_| {}).await;
    let one = format!("{ALL}/editor");
    let acme = r#"{"context":{"targetingKey":"acme"}}"#;
    let asked = [
        (one.as_str(), "{", 400, "PARSE_ERROR"),
        (&one, "[]", 400, "PARSE_ERROR"),
        (&one, "{}", 400, "TARGETING_KEY_MISSING"),
        (ALL, r#"{"context":{}}"#, 400, "TARGETING_KEY_MISSING"),
        (ALL, r#"{"context":5}"#, 400, "INVALID_CONTEXT"),
        (ALL, r#"{"context":{"targetingKey":"no-such"}}"#, 400, "INVALID_CONTEXT"),
        (&one, r#"{"context":{"targetingKey":"not an id"}}"#, 400, "INVALID_CONTEXT"),
        ("/ofrep/v1/evaluate/flags/editr", acme, 404, "FLAG_NOT_FOUND"),
        ("/ofrep/v1/evaluate/flags/No%20Name%2F", acme, 404, "FLAG_NOT_FOUND"),
        ("/ofrep/v1/evaluate/flags/%FF", acme, 404, "FLAG_NOT_FOUND"),
    ];
    for (path, body, status, code) in asked {
        let answer = world.post(path, &[], body);
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &told["errorCode"]), (status, &json!(code)), "{path}: {told}");
        assert_eq!(told.get("key").is_some(), path != ALL, "{told}");
        assert!(told["errorDetails"].is_string(), "{told}");
    }
    let kind = [("content-type", "text/plain")];
    let answer = ask_in_full(world.http, "POST", ALL, &kind, acme);
    assert_eq!(answer.status, 415, "{}", answer.body);
    world.sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_which_tenant_is_meant_and_how_often_it_may_ask() {
    let world = World::start(|cluster| {
        cluster.with_tokens();
        cluster.flag("--access-calls-per-token-s", "1");
    })
    .await;
    let acme = world.cluster.token("acme-shop", &["--tenant", "acme"]);
    let bearer = format!("Bearer {acme}");
    let ask = |bearer: &str, body: &str| world.post(ALL, &[("authorization", bearer)], body);
    let started = Instant::now();
    // Too often is answered too; then there is a second to wait.
    let ask_in_time = async |body: &str| loop {
        let answer = ask(&bearer, body);
        if ![401, 429].contains(&answer.status) {
            return answer;
        }
        assert!(started.elapsed() < FOLLOWED_MAX, "{} {}", answer.status, answer.body);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(ask_in_time("{}").await.status, 200, "it means its own tenant");
    let other = ask_in_time(r#"{"context":{"targetingKey":"globex"}}"#).await;
    assert_eq!(other.status, 403, "{}", other.body);
    assert!(other.body.contains("GENERAL"), "{}", other.body);
    let too_often = std::iter::repeat_with(|| ask(&bearer, "{}"))
        .take(1_000)
        .find(|answer| answer.status == 429)
        .expect("it may ask as often as it likes");
    assert_eq!(too_often.headers["retry-after"], "1");
    assert_eq!(ask("Bearer tg_nonsense", "{}").status, 401);
    world.sidecar.process.stop();
}
