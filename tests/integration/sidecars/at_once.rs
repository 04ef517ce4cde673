//! Checks that are decided at once say and take what they do when they are decided at length.

use prost::Message;
use tollgate::{
    clock::Clock,
    proto::codec::BytesCodec,
    proto::v1::{
        AnyCheck, CheckBatchRequest, CheckBatchResponse, CheckFeatureRequest, CheckQuotaRequest,
        CheckQuotaResponse, CheckStreamRequest, DecidedBy, Durability, Mode, QuotaReason,
        any_check::Check, any_check_result::Result as Answer,
    },
};
use tonic::{Code, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};

use super::cluster::{Cluster, Sidecar, current_key, event, quota};

const CATALOG: &str = r"
catalog: proving
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
  - { name: tokens, kind: counter, unit: token, period: month }
  - { name: mails, kind: counter, unit: mail, period: month }
  - { name: free, kind: counter, unit: call, period: month }
  - { name: runs, kind: counter, unit: run, aggregation: count, period: month }
  - { name: seats, kind: level, unit: seat }
  - { name: photos, kind: level, unit: photo, subject: listing }
  - { name: peak, kind: counter, unit: job, aggregation: max, period: month }
  - { name: visitors, kind: counter, unit: visitor, period: month,
      aggregation: distinct_count, distinct_property: visitor }
  - { name: regions, kind: static, unit: region }
  - { name: extras, kind: counter, unit: call, period: month }
  - { name: disk, kind: counter, unit: byte, period: month }
features:
  - { name: chat }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits:
      calls: 100
      tokens: { limit: 10, enforcement: soft }
      mails: { limit: 10, enforcement: soft, hard_cap: 20 }
      runs: 5
      seats: 7
      photos: { limit: 3, per_subject: true }
      peak: 9
      visitors: 4
      regions: 2
      disk: 50
      free: -1
  - name: large
    prices: { monthly: 9 }
    limits: { calls: 1000, extras: 10 }
pools:
  - { name: shared, meter: disk, size: 1000, plans: [basic] }
";
const METERS: [&str; 12] = [
    "calls", "tokens", "mails", "free", "runs", "seats", "photos", "peak", "visitors", "regions",
    "extras", "disk",
];
const TENANTS: [&str; 5] = ["acme", "granted", "stopped", "member", "nobody"];

/// The same look, with a field that means nothing to it: it is answered at length.
fn at_length(request: &CheckQuotaRequest) -> CheckQuotaRequest {
    CheckQuotaRequest { durability: Durability::Written.into(), ..request.clone() }
}

fn any(request: CheckQuotaRequest) -> AnyCheck {
    AnyCheck { check: Some(Check::Quota(request)) }
}

/// The same CONSUME, with a property that nobody counts by: it is decided at length.
fn taken_at_length(request: &CheckQuotaRequest) -> CheckQuotaRequest {
    let properties = [("region".to_owned(), "eu".to_owned())].into();
    CheckQuotaRequest { properties, ..request.clone() }
}

/// What matters of an answer. Whether a counter was asked after for it is a matter of time.
fn told(answer: Result<CheckQuotaResponse, Status>) -> Result<CheckQuotaResponse, (Code, String)> {
    answer
        .map(|answer| CheckQuotaResponse { decided_by: 0, ..answer })
        .map_err(|status| (status.code(), status.message().to_owned()))
}

async fn ask(sidecar: &Sidecar, request: CheckQuotaRequest) -> Result<CheckQuotaResponse, Status> {
    sidecar.client.clone().check_quota(request).await.map(tonic::Response::into_inner)
}

async fn batch(sidecar: &Sidecar, checks: Vec<AnyCheck>) -> Result<Vec<Answer>, Status> {
    let answer = sidecar.client.clone().check_batch(CheckBatchRequest { checks }).await?;
    Ok(answer.into_inner().results.into_iter().map(|result| result.result.unwrap()).collect())
}

async fn start() -> (Cluster, Sidecar) {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.flag("--enforcement-recall-wait-ms", "5000");
    for tenant in &TENANTS[..3] {
        cluster.world.tenant(tenant, "basic").await;
    }
    let now = Clock::System.now();
    cluster.world.tenants_of("agency", now, [("member", "basic")]).await;
    let printed = cluster.operate(&["pool", "create", "agency", "shared", "--json"]);
    let created: serde_json::Value = serde_json::from_str(&printed).unwrap();
    cluster.operate(&["pool", "add-member", created["pool"].as_str().unwrap(), "member"]);
    let granted = ["grant", "create", "granted", "--meter", "calls", "--amount", "50"];
    cluster.operate(&granted);
    let sidecar = cluster.start("a").await;
    (cluster, sidecar)
}

/// Every look at every meter of every tenant.
fn looks() -> Vec<CheckQuotaRequest> {
    let mut looks = vec![];
    for tenant in TENANTS {
        for meter in METERS.into_iter().chain(["nothing"]) {
            for amount in [0, 1, 6, 60, 140, 1 << 53, -1] {
                looks.push(quota(Mode::Check, tenant, meter, amount));
            }
        }
    }
    looks
}

async fn compare(sidecar: &Sidecar) {
    let mut in_batch = vec![];
    for look in looks() {
        let plain = told(ask(sidecar, look.clone()).await);
        let long = told(ask(sidecar, at_length(&look)).await);
        assert_eq!(plain, long, "{look:?}");
        in_batch.push((any(look), long));
    }
    let checks = in_batch.iter().map(|(check, _)| check.clone()).collect();
    let answers = batch(sidecar, checks).await.unwrap();
    for (answer, (check, expected)) in answers.into_iter().zip(in_batch) {
        match (answer, expected) {
            (Answer::Quota(quota), expected) => assert_eq!(told(Ok(quota)), expected, "{check:?}"),
            (Answer::Error(error), Err((code, message))) => {
                assert_eq!((error.code, error.message), (code as i32, message), "{check:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_does_not_depend_on_how_it_was_found_out() {
    let (cluster, sidecar) = start().await;
    compare(&sidecar).await;
    for tenant in ["acme", "granted"] {
        for (meter, amount) in
            [("calls", 95), ("tokens", 12), ("mails", 15), ("free", 3), ("runs", 1), ("seats", 6)]
        {
            let taken = ask(&sidecar, quota(Mode::Consume, tenant, meter, amount)).await.unwrap();
            assert!(taken.allowed, "{tenant}/{meter}: {taken:?}");
        }
        sidecar.record(vec![event(tenant, "peak", 8, "")]).await.unwrap();
    }
    cluster.operate(&["tenant", "suspend", "stopped"]);
    while ask(&sidecar, quota(Mode::Check, "stopped", "free", 1)).await.unwrap().allowed {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    compare(&sidecar).await;
    let reason = |request| async { ask(&sidecar, request).await.unwrap().reason() };
    let look = |meter, amount| quota(Mode::Check, "acme", meter, amount);
    assert_eq!(reason(look("calls", 5)).await, QuotaReason::WithinLimit);
    assert_eq!(reason(look("calls", 6)).await, QuotaReason::LimitExceeded);
    assert_eq!(reason(look("tokens", 1)).await, QuotaReason::Overage);
    assert_eq!(reason(look("mails", 6)).await, QuotaReason::LimitExceeded);
    assert_eq!(reason(look("free", 1)).await, QuotaReason::Unlimited);
    let granted = quota(Mode::Check, "granted", "calls", 6);
    assert_eq!(reason(granted).await, QuotaReason::WithinGrant);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_goes_on_where_a_check_is_no_plain_look() {
    let (_cluster, sidecar) = start().await;
    let look = || any(quota(Mode::Check, "acme", "calls", 1));
    let take = || any(quota(Mode::Consume, "acme", "calls", 3));
    let feature = CheckFeatureRequest {
        tenant: "acme".into(),
        feature: "nothing".into(),
        ..Default::default()
    };
    let feature = AnyCheck { check: Some(Check::Feature(feature)) };
    let checks = vec![look(), look(), take(), look(), feature, look(), AnyCheck::default(), look()];
    let used = |answer: &Answer| match answer {
        Answer::Quota(quota) => Some(quota.used),
        _ => None,
    };
    let answers = batch(&sidecar, checks).await.unwrap();
    let answers: Vec<_> = answers.iter().map(used).collect();
    assert_eq!(answers, [Some(0), Some(0), Some(3), Some(3), None, Some(3), None, Some(3)]);
    // The bound holds for those that were answered at once, for the others, and for both.
    for first in [0, 1, 5_000, 10_000] {
        for (all, is_taken) in [(10_000, true), (10_001, false), (10_020, false)] {
            let take_first = (0..first).map(|_| look());
            let rest = (first..all).map(|number| if number == first { take() } else { look() });
            let answered = batch(&sidecar, take_first.chain(rest).collect()).await;
            match answered {
                Ok(answers) => assert!(is_taken && answers.len() == all, "{first} of {all}"),
                Err(status) => {
                    assert_eq!(status.code(), Code::InvalidArgument, "{first} of {all}: {status}");
                    assert!(!is_taken && status.message().contains(&all.to_string()), "{status}");
                }
            }
        }
    }
    // However many are denied.
    for denied in [1, 15, 16, 17, 200] {
        let amounts = (0..denied).flat_map(|_| [200, 1]).chain([1, 1]);
        let checks = amounts.clone().map(|amount| any(quota(Mode::Check, "acme", "calls", amount)));
        let answers = batch(&sidecar, checks.collect()).await.unwrap();
        let allowed = answers.iter().map(|answer| match answer {
            Answer::Quota(quota) => quota.allowed,
            other => panic!("{other:?}"),
        });
        assert!(allowed.eq(amounts.map(|amount| amount == 1)), "{denied} denied");
    }
    // Of what was refused whole nothing was taken.
    let now = ask(&sidecar, quota(Mode::Check, "acme", "calls", 1)).await.unwrap();
    assert_eq!(now.used, 3 + 3 * 3);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_of_a_stream_are_counted_like_all_others() {
    let (cluster, sidecar) = start().await;
    ask(&sidecar, quota(Mode::Consume, "acme", "calls", 3)).await.unwrap();
    let looked = || {
        let metrics = cluster.get("a", "/metrics");
        let sum = |name: &str| -> u64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            values.sum()
        };
        (sum("tollgate_checks_total{"), sum("tollgate_check_seconds_count"))
    };
    let before = looked();
    let requests = (1..=500).map(|id| {
        let check = any(quota(Mode::Check, "acme", "calls", 1));
        CheckStreamRequest { id, check: Some(check) }
    });
    let stream = futures::stream::iter(requests.collect::<Vec<_>>());
    let mut answers = sidecar.client.clone().check_stream(stream).await.unwrap().into_inner();
    let mut ids = vec![];
    while let Some(answer) = answers.message().await.unwrap() {
        let Some(Answer::Quota(quota)) = answer.result.unwrap().result else { panic!() };
        assert_eq!((quota.allowed, quota.used), (true, 3));
        ids.push(answer.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=500).collect::<Vec<_>>());
    let checks = vec![any(quota(Mode::Check, "acme", "calls", 1)); 300];
    assert_eq!(batch(&sidecar, checks).await.unwrap().len(), 300);
    ask(&sidecar, quota(Mode::Check, "acme", "calls", 1)).await.unwrap();
    let after = looked();
    assert_eq!((after.0 - before.0, after.1 - before.1), (801, 801));
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_does_not_depend_on_how_it_was_decided() {
    let (cluster, sidecar) = start().await;
    cluster.world.tenant("twin", "basic").await;
    for meter in METERS {
        for amount in [0, 1, 3, 5, 7, -2, 100, 1 << 53, 1] {
            for durability in [Durability::Unspecified, Durability::Memory, Durability::Sync] {
                let durability = durability.into();
                let take = |tenant| CheckQuotaRequest {
                    durability,
                    ..quota(Mode::Consume, tenant, meter, amount)
                };
                let at_once = told(ask(&sidecar, take("acme")).await);
                let long = told(ask(&sidecar, taken_at_length(&take("twin"))).await);
                let named = |told: (Code, String)| (told.0, told.1.replace("twin", "acme"));
                assert_eq!(at_once, long.map_err(named), "{amount} {meter}");
                if let Ok(CheckQuotaResponse { allowed: true, used, .. }) = at_once
                    && amount < 0
                {
                    // A level is lowered once the ledger has it, of the one sooner than of the other.
                    sidecar.wait_until_used("acme", meter, used + amount).await;
                    sidecar.wait_until_used("twin", meter, used + amount).await;
                }
            }
        }
    }
    for meter in ["calls", "tokens", "mails", "free", "runs"] {
        let [acme, twin] = ["acme", "twin"].map(|tenant| sidecar.usage(tenant, meter));
        let (acme, twin) = (acme.await.used, twin.await.used);
        assert!(acme == twin && acme > 0, "{meter}: {acme}, {twin}");
        for tenant in ["acme", "twin"] {
            let key = current_key(&cluster.world, tenant, meter).await;
            cluster.wait_until_ledger_has(&key, acme).await;
        }
    }
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_the_same_however_the_check_was_decided() {
    let (cluster, sidecar) = start().await;
    let keyed = |key: &str, amount| CheckQuotaRequest {
        idempotency_key: key.into(),
        ..quota(Mode::Consume, "acme", "calls", amount)
    };
    let replayed = |answer: &CheckQuotaResponse| answer.decided_by() == DecidedBy::Replay;
    for (number, is_first_at_once) in [true, false].into_iter().enumerate() {
        let key = format!("key-{number}");
        let either = |is_at_once, amount| match is_at_once {
            true => keyed(&key, amount),
            false => taken_at_length(&keyed(&key, amount)),
        };
        let first = ask(&sidecar, either(is_first_at_once, 3)).await.unwrap();
        assert!(first.allowed && !replayed(&first));
        for is_at_once in [true, false] {
            let again = ask(&sidecar, either(is_at_once, 3)).await.unwrap();
            assert!(replayed(&again));
            assert_eq!(told(Ok(again)), told(Ok(first.clone())));
            let other = ask(&sidecar, either(is_at_once, 4)).await.unwrap_err();
            assert_eq!(other.code(), Code::AlreadyExists, "{other}");
        }
    }
    let bad = ask(&sidecar, keyed("a key", 3)).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument, "{bad}");
    // A denial frees its key.
    assert!(!ask(&sidecar, keyed("later", 95)).await.unwrap().allowed);
    assert!(ask(&sidecar, keyed("later", 94)).await.unwrap().allowed);
    let calls = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&calls, 100).await;
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_more_than_is_known_here_is_answered() {
    let (cluster, sidecar) = start().await;
    let uri = format!("http://{}", cluster.address("a", "grpc"));
    let channel = Endpoint::from_shared(uri).unwrap().connect().await.unwrap();
    let mut client = Grpc::new(channel);
    let path = PathAndQuery::from_static("/tollgate.v1.TollgateService/CheckBatch");
    // A field of a later version, behind looks as many writers put it, and before them.
    let unknown = [0x12, 0x03, b'n', b'e', b'w'];
    for look in [1, 200] {
        let checks = vec![any(quota(Mode::Check, "acme", "calls", look)); 3];
        let known = CheckBatchRequest { checks }.encode_to_vec();
        for message in [[&known[..], &unknown].concat(), [&unknown, &known[..]].concat()] {
            client.ready().await.unwrap();
            let request = tonic::Request::new(message.into());
            let answer = client.unary(request, path.clone(), BytesCodec).await.unwrap();
            let answer = CheckBatchResponse::decode(answer.into_inner()).unwrap();
            assert_eq!(answer.results.len(), 3);
        }
    }
    sidecar.process.stop();
}
