//! Who is let in: walked over every call that reflection names and every path of the OpenAPI
//! document, so that a new one cannot be forgotten.

mod others;
mod reflected;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tollgate::proto::v1::{
    AnyCheck, CheckBatchRequest, CheckQuotaRequest, CheckRequest, CheckStreamRequest, Mode,
    WatchUsageRequest, any_check::Check, tollgate_service_client::TollgateServiceClient,
};
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use self::reflected::{call, names_tenants, reflect, requests};
use super::{
    CATALOG,
    cluster::{Client, Cluster, quota},
};
use crate::fixture::ask;

/// Services that answer without a token: whoever watches a process has none, and descriptors hold no
/// secrets.
const OPEN_SERVICES: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];
/// Names its tenants by entries, not by fields: it has a walk of its own.
const ENVOY_SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
/// Paths that answer without a token.
const OPEN_PATHS: [&str; 4] = ["/livez", "/readyz", "/metrics", "/openapi.json"];

/// Calls that only look, whatever they are asked. Others take something unless they are told to look.
const LOOKS: [&str; 4] = ["CheckFeature", "GetUsage", "ListFeatures", "WatchUsage"];
/// Paths that only look.
const LOOK_PATHS: [&str; 6] = [
    "/v1/check-feature",
    "/v1/get-usage",
    "/v1/list-features",
    "/v1/watch-usage",
    "/ofrep/v1/evaluate/flags",
    "/ofrep/v1/evaluate/flags/{key}",
];

/// How long a change of a token may take to be everywhere, on a busy machine; a second on others.
pub const FOLLOWED_MAX: Duration = Duration::from_secs(20);

/// A sidecar that asks for tokens, and tokens of all kinds.
struct Guarded {
    cluster: Cluster,
    sidecar: super::cluster::Sidecar,
    channel: Channel,
    http: SocketAddr,
    acme: String,
    globex: String,
    /// May only look, at globex.
    viewer: String,
    revoked: String,
}

impl Guarded {
    async fn start() -> Self {
        let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
        for tenant in ["acme", "globex"] {
            cluster.world.tenant(tenant, "basic").await;
        }
        cluster.with_tokens();
        let sidecar = cluster.start("a").await;
        let acme = cluster.token("acme-shop", &["--tenant", "acme"]);
        let globex = cluster.token("globex-shop", &["--tenant", "globex"]);
        let viewer = cluster.token("looks", &["--tenant", "globex", "--role", "viewer"]);
        let revoked = cluster.token("revoked", &[]);
        let channel = Endpoint::new(format!("http://{}", cluster.address("a", "grpc"))).unwrap();
        let channel = channel.connect().await.unwrap();
        let http = cluster.address("a", "http");
        let guarded = Self { cluster, sidecar, channel, http, acme, globex, viewer, revoked };
        guarded.wait_for(&guarded.revoked, true).await;
        guarded.cluster.operate(&["token", "revoke", "revoked"]);
        guarded.wait_for(&guarded.revoked, false).await;
        guarded.wait_for(&guarded.acme, true).await;
        guarded.wait_for(&guarded.globex, true).await;
        guarded.wait_for(&guarded.viewer, true).await;
        guarded
    }

    fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &Asked) -> (u16, String) {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", body.content_type)];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        ask(self.http, method, path, &headers, &body.text)
    }

    /// Until a token is known, or is not any more.
    async fn wait_for(&self, token: &str, is_known: bool) {
        let started = Instant::now();
        let nothing = Asked::json(&json!({}));
        while (self.ask("POST", "/v1/get-usage", Some(token), &nothing).0 != 401) != is_known {
            assert!(started.elapsed() < FOLLOWED_MAX, "not known everywhere");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

struct Asked {
    content_type: &'static str,
    text: String,
}

impl Asked {
    fn json(value: &Value) -> Self {
        Self { content_type: "application/json", text: value.to_string() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_by_any_call_or_path_without_a_token_that_is_for_it() {
    let guarded = Guarded::start().await;
    let pool = reflect(&guarded.channel).await;
    let calls = walk_calls(&guarded, &pool).await;
    assert!(calls >= 13, "only {calls} calls were found");
    let paths = walk_paths(&guarded, &pool);
    assert!(paths >= 12, "only {paths} paths were found");
    others::walk_envoy(&guarded).await;
    guarded.sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_be_decided_at_once_is_refused_to_who_may_not_take_it() {
    let guarded = Guarded::start().await;
    let mut client = TollgateServiceClient::new(guarded.channel.clone());
    for turn in 1..=3 {
        for (token, is_let_in) in
            [(&guarded.globex, true), (&guarded.acme, false), (&guarded.viewer, false)]
        {
            let quota = quota(Mode::Consume, "globex", "calls", 1);
            let operation = CheckRequest {
                tenant: "globex".into(),
                operation: "work".into(),
                amounts: [("calls".to_owned(), 1)].into(),
                mode: Mode::Consume.into(),
                ..Default::default()
            };
            let quota = client.check_quota(with_token(quota, token)).await.map(drop);
            let operation = client.check(with_token(operation, token)).await.map(drop);
            for answer in [quota, operation] {
                let code = answer.err().map(|status| status.code());
                let expected = (!is_let_in).then_some(Code::PermissionDenied);
                assert_eq!(code, expected, "{turn}");
            }
        }
    }
    let look = quota(Mode::Check, "globex", "calls", 1);
    let look = client.check_quota(with_token(look, &guarded.viewer)).await.unwrap();
    assert_eq!(look.into_inner().used, 6);
    guarded.sidecar.process.stop();
}

async fn walk_calls(guarded: &Guarded, pool: &DescriptorPool) -> usize {
    let mut calls = 0;
    let elsewhere = |name: &str| OPEN_SERVICES.contains(&name) || name == ENVOY_SERVICE;
    let services = pool.services().filter(|service| !elsewhere(service.full_name()));
    for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let name = method.full_name().to_owned();
        let asked = requests(&method.input(), "globex");
        assert!(names_tenants(&method.input()), "{name}: nobody knows whom it concerns");
        for request in asked {
            for token in [None, Some(guarded.revoked.as_str()), Some("tg_nonsense")] {
                let status = call(&guarded.channel, &method, &request, token).await;
                let code = status.map_err(|status| status.code());
                assert_eq!(code, Err(Code::Unauthenticated), "{name} with {token:?}");
            }
            // With the right one it gets through to what it asks for.
            let own = call(&guarded.channel, &method, &request, Some(&guarded.globex)).await;
            let refused = [Code::Unauthenticated, Code::PermissionDenied];
            let own = own.err().map(|status| status.code());
            assert!(!own.is_some_and(|code| refused.contains(&code)), "{name}: {own:?}");
            let others = call(&guarded.channel, &method, &request, Some(&guarded.acme)).await;
            let code = others.map_err(|status| status.code());
            // A stream's messages are compared as they are read, which nobody does before it is
            // there.
            let is_there = own != Some(Code::Unimplemented);
            if is_there || code != Err(Code::Unimplemented) {
                assert_eq!(code, Err(Code::PermissionDenied), "{name} with another tenant's token");
            }
            let looked = call(&guarded.channel, &method, &request, Some(&guarded.viewer)).await;
            let code = looked.err().map(|status| status.code());
            let expected = match LOOKS.contains(&method.name()) || asks_for_a_feature(&request) {
                true => own,
                false if !is_there && code == Some(Code::Unimplemented) => code,
                false => Some(Code::PermissionDenied),
            };
            assert_eq!(code, expected, "{name} by one who may only look: {request}");
        }
        calls += 1;
    }
    calls
}

/// Whether all that is asked for is a feature, which takes nothing.
fn asks_for_a_feature(request: &DynamicMessage) -> bool {
    request.to_string().contains("feature{")
}

fn walk_paths(guarded: &Guarded, pool: &DescriptorPool) -> usize {
    let document = guarded.ask("GET", "/openapi.json", None, &Asked::json(&json!({}))).1;
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut walked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let (method, name) = (method.to_uppercase(), format!("{method} {path}"));
            if OPEN_PATHS.contains(&path.as_str()) {
                let (status, told) = guarded.ask(&method, path, None, &Asked::json(&json!({})));
                assert_eq!(status, 200, "{name}: {told}");
                continue;
            }
            let only_looks = LOOK_PATHS.contains(&path.as_str());
            for body in bodies(path, operation, pool) {
                let path = &path.replace("{key}", "anything");
                for token in [None, Some(guarded.revoked.as_str()), Some("tg_nonsense")] {
                    let (status, told) = guarded.ask(&method, path, token, &body);
                    assert_eq!(status, 401, "{name} with {token:?}: {told}");
                }
                let (status, told) = guarded.ask(&method, path, Some(&guarded.acme), &body);
                assert_eq!(status, 403, "{name} with another tenant's token: {told}");
                let (status, told) = guarded.ask(&method, path, Some(&guarded.globex), &body);
                assert!(![401, 403].contains(&status), "{name}: {status} {told}");
                let (looked, told) = guarded.ask(&method, path, Some(&guarded.viewer), &body);
                let is_fine = only_looks || body.text.contains(r#""feature":{"#);
                let expected = if is_fine { status } else { 403 };
                assert_eq!(looked, expected, "{name} by one who may only look: {told}");
            }
            walked += 1;
        }
    }
    let (status, _) = guarded.ask("GET", "/no/such/path", None, &Asked::json(&json!({})));
    assert_eq!(status, 401, "what there is not is not told to strangers");
    walked
}

/// Bodies of a request to `path` that name the tenant globex.
fn bodies(path: &str, operation: &Value, pool: &DescriptorPool) -> Vec<Asked> {
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/test", "type": "usage.calls",
        "subject": "globex", "data": { "amount": 1 },
    });
    if path == "/v1/events" {
        let one = ("application/cloudevents+json", event.to_string());
        let batch = ("application/cloudevents-batch+json", json!([event]).to_string());
        return [one, batch].map(|(content_type, text)| Asked { content_type, text }).into();
    }
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    let name = schema.as_str().and_then(|schema| schema.rsplit('/').next()).unwrap_or_default();
    match pool.get_message_by_name(&format!("tollgate.v1.{name}")) {
        Some(message) => requests(&message, "globex")
            .iter()
            .map(|request| Asked::json(&serde_json::to_value(request).unwrap()))
            .collect(),
        // OFREP: the tenant is in the evaluation context.
        None => vec![Asked::json(&json!({ "context": { "targetingKey": "globex" } }))],
    }
}

fn with_token<M>(message: M, token: &str) -> Request<M> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_takes_nothing_and_a_revoked_token_ends_its_streams() {
    let guarded = Guarded::start().await;
    let viewer = guarded.cluster.token("dashboard", &["--role", "viewer"]);
    guarded.wait_for(&viewer, true).await;
    let mut client = Client::new(guarded.channel.clone());
    let ask = |mode| with_token(quota(mode, "acme", "calls", 1), &viewer);
    assert!(client.check_quota(ask(Mode::Check)).await.unwrap().into_inner().allowed);
    for mode in [Mode::Consume, Mode::Reserve, Mode::Unspecified] {
        let refused = client.check_quota(ask(mode)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{mode:?}: {refused}");
    }

    let watch = WatchUsageRequest { tenant: "acme".into(), ..Default::default() };
    let mut watched = client.watch_usage(with_token(watch, &viewer)).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    guarded.cluster.operate(&["token", "revoke", "dashboard"]);
    let end = tokio::time::timeout(FOLLOWED_MAX, async {
        loop {
            match watched.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    });
    let ended = end.await.expect("the stream went on").unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
    let refused = client.check_quota(ask(Mode::Check)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let audit: Vec<(String, String)> =
        sqlx::query_as("SELECT actor, action FROM audit_log WHERE action LIKE 'token.%'")
            .fetch_all(&guarded.cluster.world.pool)
            .await
            .unwrap();
    let last = audit.last().unwrap();
    assert_eq!((last.0.as_str(), last.1.as_str()), ("cli:tester", "token.revoke"));
    nothing_keeps_a_secret(&guarded).await;
    guarded.sidecar.process.stop();
}

/// Looks for the tokens' secrets in all that the ledger keeps of them, as text and as bytes.
async fn nothing_keeps_a_secret(guarded: &Guarded) {
    let dumped: Vec<(String,)> = sqlx::query_as(
        "SELECT t::text FROM tokens t UNION ALL
         SELECT a::text FROM audit_log a WHERE a.action LIKE 'token.%'",
    )
    .fetch_all(&guarded.cluster.world.pool)
    .await
    .unwrap();
    assert!(dumped.iter().any(|(row,)| row.contains("acme-shop")), "{dumped:?}");
    for secret in [&guarded.acme, &guarded.globex, &guarded.viewer, &guarded.revoked] {
        // What makes it a secret, without a prefix that all tokens may share.
        let tail = &secret[secret.len() - 12..];
        let as_bytes: String = tail.bytes().map(|byte| format!("{byte:02x}")).collect();
        for (row,) in &dumped {
            assert!(!row.contains(tail) && !row.contains(&as_bytes), "{row} has {secret}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_entry_of_a_batch_and_of_a_stream_is_compared_with_the_token() {
    let guarded = Guarded::start().await;
    let viewer = guarded.cluster.token("dashboard", &["--role", "viewer", "--tenant", "acme"]);
    guarded.wait_for(&viewer, true).await;
    let mut client = Client::new(guarded.channel.clone());
    let work = |tenant: &str, mode: Mode| {
        let request = CheckRequest {
            tenant: tenant.into(),
            operation: "work".into(),
            amounts: [("calls".to_owned(), 1)].into(),
            mode: mode.into(),
            ..Default::default()
        };
        AnyCheck { check: Some(Check::Operation(request)) }
    };
    let plain = |tenant: &str, mode: Mode| AnyCheck {
        check: Some(Check::Quota(quota(mode, tenant, "calls", 1))),
    };
    // Plain looks are answered from their bytes.
    for first in [work("acme", Mode::Check), plain("acme", Mode::Check)] {
        let batch = |last: AnyCheck| CheckBatchRequest {
            checks: vec![first.clone(), work("acme", Mode::Check), first.clone(), last],
        };
        let own = with_token(batch(work("acme", Mode::Consume)), &guarded.acme);
        assert_eq!(client.check_batch(own).await.unwrap().into_inner().results.len(), 4);
        for (last, token) in [
            (work("globex", Mode::Check), &guarded.acme),
            (plain("globex", Mode::Check), &guarded.acme),
            (plain("globex", Mode::Consume), &guarded.acme),
            (work("acme", Mode::Check), &guarded.globex),
            (plain("acme", Mode::Check), &guarded.globex),
            (work("acme", Mode::Consume), &viewer),
            (plain("acme", Mode::Consume), &viewer),
        ] {
            let others = with_token(batch(last), token);
            let refused = client.check_batch(others).await.unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        }
    }
    for (request, token, is_let_in) in [
        (quota(Mode::Check, "acme", "calls", 1), &guarded.acme, true),
        (quota(Mode::Check, "acme", "calls", 1), &guarded.globex, false),
        (quota(Mode::Check, "acme", "calls", 1), &viewer, true),
        (quota(Mode::Consume, "acme", "calls", 1), &guarded.acme, true),
        (quota(Mode::Consume, "acme", "calls", 1), &guarded.globex, false),
        (quota(Mode::Consume, "acme", "calls", 1), &viewer, false),
    ] {
        // Twice: the first may have to be waited for, and is not answered from its bytes.
        for _ in 0..2 {
            let answered = client.check_quota(with_token(request.clone(), token)).await;
            let code = answered.map_or_else(|refused| refused.code(), |_| Code::Ok);
            let expected = if is_let_in { Code::Ok } else { Code::PermissionDenied };
            assert_eq!(code, expected, "{request:?}");
        }
    }

    let numbered = |id, check| CheckStreamRequest { id, check: Some(check) };
    for (last, token) in
        [(work("globex", Mode::Check), &guarded.acme), (work("acme", Mode::Consume), &viewer)]
    {
        let (requests, received) = tokio::sync::mpsc::channel(2);
        let stream = tokio_stream::wrappers::ReceiverStream::new(received);
        requests.send(numbered(7, work("acme", Mode::Check))).await.unwrap();
        let answers = client.check_stream(with_token(stream, token)).await.unwrap();
        let mut answers = answers.into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().id, 7);
        requests.send(numbered(8, last)).await.unwrap();
        let refused = answers.message().await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    guarded.sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_known_after_a_restart_while_postgres_is_away() {
    let (mut cluster, mut postgres) = Cluster::with_own_postgres("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let token = cluster.token("shop", &[]);
    cluster.with_tokens();
    let sidecar = cluster.start("a").await;
    let channel = |cluster: &Cluster| {
        let at = Endpoint::new(format!("http://{}", cluster.address("a", "grpc"))).unwrap();
        Client::new(at.connect_lazy())
    };
    let check = |token: &str| {
        with_token::<CheckQuotaRequest>(quota(Mode::Check, "acme", "calls", 1), token)
    };
    channel(&cluster).check_quota(check(&token)).await.unwrap();
    // Its Unix socket is for those who may open it.
    assert!(sidecar.check(Mode::Check, "acme", "calls", 1).await.unwrap().allowed);
    sidecar.process.kill();
    tokio::task::block_in_place(|| postgres.stop()).unwrap();
    let sidecar = cluster.start_unready("a");
    let started = Instant::now();
    while cluster.logged("a").matches("serving run=").count() < 2 {
        assert!(started.elapsed() < FOLLOWED_MAX, "does not serve: {}", cluster.logged("a"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Let in, whatever it then knows of the tenant.
    let known = channel(&cluster).check_quota(check(&token)).await.map_err(|status| {
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        (status.code(), reason)
    });
    let is_let_in = match &known {
        Ok(_) => true,
        Err((code, reason)) => *code != Code::Unauthenticated && reason != "TOKENS_UNKNOWN",
    };
    assert!(is_let_in, "{known:?}");
    let unknown = channel(&cluster).check_quota(check("tg_nonsense")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);
    sidecar.process.kill();
}
