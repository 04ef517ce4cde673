//! Many checks and many events at once.

use std::collections::BTreeMap;

use futures::StreamExt;
use tollgate::proto::v1::{
    AnyCheck, AnyCheckResult, CheckBatchRequest, CheckFeatureRequest, CheckQuotaRequest,
    CheckRequest, CheckStreamRequest, Mode, any_check::Check, any_check_result::Result as Answer,
};
use tonic::Code;

use super::cluster::{Cluster, Sidecar, current_key, event, quota};

const CATALOG: &str = r"
catalog: proving
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
  - { name: jobs, kind: counter, unit: job, period: month }
  - { name: tokens, kind: counter, unit: token, period: month }
features:
  - { name: chat }
operations:
  - { name: work, features: [chat], meters: [{ meter: jobs, amount: 1 }] }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits: { calls: 10000, jobs: 1000, tokens: { limit: 1000, enforcement: soft } }
    features: { chat: true }
";
const JOBS: usize = 1_000;

fn of_quota(request: CheckQuotaRequest) -> AnyCheck {
    AnyCheck { check: Some(Check::Quota(request)) }
}

fn work() -> AnyCheck {
    let request = CheckRequest {
        tenant: "acme".into(),
        operation: "work".into(),
        mode: Mode::Consume.into(),
        ..Default::default()
    };
    AnyCheck { check: Some(Check::Operation(request)) }
}

fn feature(name: &str) -> AnyCheck {
    let request =
        CheckFeatureRequest { tenant: "acme".into(), feature: name.into(), ..Default::default() };
    AnyCheck { check: Some(Check::Feature(request)) }
}

async fn batch(sidecar: &Sidecar, checks: Vec<AnyCheck>) -> Vec<Answer> {
    let request = CheckBatchRequest { checks };
    let answer = sidecar.client.clone().check_batch(request).await.unwrap().into_inner();
    answer.results.into_iter().map(|result| result.result.unwrap()).collect()
}

fn is_allowed(answer: &Answer) -> bool {
    match answer {
        Answer::Quota(quota) => quota.allowed,
        Answer::Operation(operation) => operation.allowed,
        other => panic!("{other:?}"),
    }
}

async fn start() -> (Cluster, Sidecar) {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.flag("--enforcement-recall-wait-ms", "5000");
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    (cluster, sidecar)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_decided_in_order_and_each_check_by_itself() {
    let (cluster, sidecar) = start().await;
    let checks = (0..JOBS + 100).map(|_| work()).collect();
    let allowed: Vec<bool> = batch(&sidecar, checks).await.iter().map(is_allowed).collect();
    // In order: the first ones have it all, those behind them nothing.
    assert!(allowed[..JOBS].iter().all(|allowed| *allowed));
    assert!(allowed[JOBS..].iter().all(|allowed| !allowed));

    let keyed = |amount| CheckQuotaRequest {
        idempotency_key: "once".into(),
        ..quota(Mode::Consume, "acme", "tokens", amount)
    };
    let mixed = vec![
        feature("chat"),
        of_quota(keyed(5)),
        of_quota(keyed(5)),
        of_quota(keyed(6)),
        feature("nothing"),
        AnyCheck::default(),
        of_quota(quota(Mode::Check, "acme", "tokens", 1)),
    ];
    let answers = batch(&sidecar, mixed).await;
    let code = |answer: &Answer| match answer {
        Answer::Error(error) => Code::from(error.code),
        _ => Code::Ok,
    };
    let codes: Vec<_> = answers.iter().map(code).collect();
    let expected = [
        Code::Ok,
        Code::Ok,
        Code::Ok,
        Code::AlreadyExists,
        Code::NotFound,
        Code::InvalidArgument,
        Code::Ok,
    ];
    assert_eq!(codes, expected, "{answers:?}");
    let Answer::Quota(look) = &answers[6] else { panic!("{answers:?}") };
    assert_eq!(look.used, 5);
    let jobs = current_key(&cluster.world, "acme", "jobs").await;
    cluster.wait_until_ledger_has(&jobs, 1_000).await;
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_batches_with_the_same_keys_in_other_orders_both_end() {
    let (cluster, sidecar) = start().await;
    let keyed = |number: usize| {
        of_quota(CheckQuotaRequest {
            idempotency_key: format!("key-{number}"),
            ..quota(Mode::Consume, "acme", "calls", 1)
        })
    };
    let forth: Vec<_> = (0..2_000).map(keyed).collect();
    let back: Vec<_> = (0..2_000).rev().map(keyed).collect();
    let (forth, back) = tokio::join!(batch(&sidecar, forth), batch(&sidecar, back));
    assert!(forth.iter().chain(&back).all(is_allowed));
    let calls = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&calls, 2_000).await;
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_every_check_by_its_id() {
    let (cluster, sidecar) = start().await;
    let requests = (1..=3_000u64).map(|id| {
        let check = match id % 3 {
            0 => feature("nothing"),
            _ => work(),
        };
        CheckStreamRequest { id, check: Some(check) }
    });
    let stream = futures::stream::iter(requests.collect::<Vec<_>>());
    let mut answers = sidecar.client.clone().check_stream(stream).await.unwrap().into_inner();
    let mut by_id = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        let result: AnyCheckResult = answer.result.unwrap();
        assert!(by_id.insert(answer.id, result.result.unwrap()).is_none(), "{}", answer.id);
    }
    assert_eq!(by_id.len(), 3_000);
    let (unknown, worked): (Vec<_>, Vec<_>) = by_id.into_iter().partition(|(id, _)| id % 3 == 0);
    assert!(unknown.iter().all(|(_, answer)| matches!(answer, Answer::Error(_))));
    assert_eq!(worked.iter().filter(|(_, answer)| is_allowed(answer)).count(), JOBS);
    let jobs = current_key(&cluster.world, "acme", "jobs").await;
    cluster.wait_until_ledger_has(&jobs, 1_000).await;
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_events_in_one_batch_are_counted_exactly() {
    const EVENTS: usize = 100_000;
    let (cluster, sidecar) = start().await;
    let keyed: Vec<_> = (0..EVENTS)
        .map(|number| event("acme", "tokens", 1 + (number % 3) as i64, &format!("e{number}")))
        .collect();
    let sum: i64 = keyed.iter().filter_map(|event| event.amount).sum();
    let receipt = sidecar.record(keyed.clone()).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (100_000, 0));
    // The same batch again adds nothing.
    let receipt = sidecar.record(keyed).await.unwrap();
    assert_eq!(receipt.accepted + receipt.duplicates, 100_000);
    let unkeyed = vec![event("acme", "tokens", 2, ""); EVENTS];
    assert_eq!(sidecar.record(unkeyed).await.unwrap().accepted, 100_000);
    let too_many = vec![event("acme", "tokens", 2, ""); EVENTS + 1];
    let status = sidecar.record(too_many).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let tokens = current_key(&cluster.world, "acme", "tokens").await;
    cluster.wait_until_ledger_has(&tokens, sum + 200_000).await;
    sidecar.process.stop();
}
