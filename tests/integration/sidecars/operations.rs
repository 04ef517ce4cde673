//! Operations: all or nothing, whoever asks where.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use tollgate::proto::v1::{
    CheckRequest, CheckResponse, DecidedBy, DeniedBy, Mode, QuotaReason, RateLimitReason,
    ReleaseReservationRequest, RemedyKind,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::cluster::{Client, Cluster, Sidecar, current_key, event};

/// `answer` needs a feature and two rates, and takes 10 tokens and a job: jobs run out first.
const CATALOG: &str = r"
catalog: proving
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
  - { name: tokens, kind: counter, unit: token, period: month }
  - { name: jobs, kind: counter, unit: job, period: month }
  - { name: exports, kind: counter, unit: export, period: month }
features:
  - { name: chat }
rates:
  - { name: api, scope: sidecar }
  - { name: all, scope: global }
operations:
  - name: answer
    features: [chat]
    rates: [all, api]
    meters: [{ meter: tokens, amount: 10 }, { meter: jobs, amount: 1 }]
  - name: ask
    meters: [tokens, { meter: tokens, amount: 5 }, { meter: jobs, amount: 1 }]
  - { name: ping, rates: [api] }
  - { name: knock, rates: [all] }
  - { name: export, meters: [{ meter: exports, amount: 1 }] }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits: { calls: 10000, tokens: 10000, jobs: 500 }
    features: { chat: true }
    rate_limits: { api: [{ requests: 1000, per: day }], all: [{ requests: 1000, per: day }] }
  - name: pro
    prices: { monthly: 9 }
    limits: { calls: 10000, tokens: 20000, jobs: 1000, exports: 10 }
    features: { chat: true }
";
const TOKENS: i64 = 10_000;
const JOBS: i64 = 500;
/// A permit comes back after 86 s, longer than the test takes.
const RATE: i64 = 1_000;
const CLIENTS: usize = 48;
/// A second, and what a busy machine adds to it.
const GIVEN_BACK_MAX: Duration = Duration::from_secs(15);

fn operation(operation: &str, mode: Mode) -> CheckRequest {
    CheckRequest {
        tenant: "acme".into(),
        operation: operation.into(),
        mode: mode.into(),
        ..Default::default()
    }
}

fn ask(tokens: i64, mode: Mode) -> CheckRequest {
    CheckRequest { amounts: [("tokens".into(), tokens)].into(), ..operation("ask", mode) }
}

async fn check(client: &Client, request: CheckRequest) -> Result<CheckResponse, Status> {
    Ok(client.clone().check(request).await?.into_inner())
}

async fn start(sidecars: usize) -> (Cluster, Vec<Sidecar>) {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    // Longer than any hiccup of a busy machine, so that a denial is a proof.
    cluster.flag("--enforcement-recall-wait-ms", "5000");
    cluster.world.tenant("acme", "basic").await;
    let mut started = vec![];
    for name in ["a", "b", "c"].into_iter().take(sidecars) {
        started.push(cluster.start(name).await);
    }
    (cluster, started)
}

/// Permits that a sidecar has given out.
async fn permits_taken(sidecar: &Sidecar) -> i64 {
    let answer = check(&sidecar.client, operation("ping", Mode::Check)).await.unwrap();
    RATE - answer.rate_limits["api"].remaining
}

/// Takes permits of the rate that all sidecars share, until there were `count` or none came free for
/// long: what others gave back is known within a second.
async fn knock_until(sidecar: &Sidecar, count: i64) -> i64 {
    let mut taken = 0;
    let mut denied_since = Instant::now();
    while taken < count && denied_since.elapsed() < GIVEN_BACK_MAX {
        let answer = check(&sidecar.client, operation("knock", Mode::Consume)).await.unwrap();
        if answer.allowed {
            taken += 1;
            denied_since = Instant::now();
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_whose_last_part_denies_takes_nothing_of_the_others() {
    let (cluster, sidecars) = start(3).await;
    let admitted = Arc::new(AtomicI64::new(0));
    let clients = (0..CLIENTS).map(|number| {
        let client = sidecars[number % sidecars.len()].client.clone();
        let admitted = admitted.clone();
        tokio::spawn(async move {
            loop {
                let answer = check(&client, operation("answer", Mode::Consume)).await.unwrap();
                if answer.allowed {
                    admitted.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                assert_eq!(answer.denied_by(), DeniedBy::Quota, "{answer:?}");
                assert_eq!(answer.denied_name, "jobs");
                assert_eq!(answer.quotas["jobs"].reason(), QuotaReason::LimitExceeded);
                return;
            }
        })
    });
    join_all(clients.collect::<Vec<_>>()).await.into_iter().for_each(|done| done.unwrap());
    assert_eq!(admitted.load(Ordering::SeqCst), JOBS);
    let (tokens, jobs) = (
        current_key(&cluster.world, "acme", "tokens").await,
        current_key(&cluster.world, "acme", "jobs").await,
    );
    cluster.wait_until_ledger_has(&tokens, JOBS * 10).await;
    cluster.wait_until_ledger_has(&jobs, JOBS).await;
    cluster.wait_until_redis_has(&tokens, JOBS * 10).await;
    cluster.wait_until_redis_has(&jobs, JOBS).await;
    let mut permits = 0;
    for sidecar in &sidecars {
        permits += permits_taken(sidecar).await;
    }
    assert_eq!(permits, JOBS, "a denied operation has kept permits");
    assert_eq!(knock_until(&sidecars[2], RATE - JOBS).await, RATE - JOBS);
    let knock = check(&sidecars[2].client, operation("knock", Mode::Consume)).await.unwrap();
    assert_eq!(knock.denied_by(), DeniedBy::RateLimit, "{knock:?}");
    // What the denied ones held is there for others, all of it.
    assert_eq!(sidecars[1].spend_all("acme", "tokens").await, TOKENS - JOBS * 10);
    cluster.wait_until_redis_has(&tokens, TOKENS).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_an_operations_as_a_whole() {
    let (cluster, sidecars) = start(2).await;
    let keyed =
        |tokens| CheckRequest { idempotency_key: "once".into(), ..ask(tokens, Mode::Consume) };
    let first = check(&sidecars[0].client, keyed(7)).await.unwrap();
    assert!(first.allowed, "{first:?}");
    assert_eq!(first.quotas["tokens"].used, 12);
    let again = check(&sidecars[0].client, keyed(7)).await.unwrap();
    assert_eq!(again.decided_by(), DecidedBy::Replay);
    assert_eq!(again.quotas, first.quotas);
    let other = check(&sidecars[0].client, keyed(8)).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    assert!(other.message().contains("the operation ask"), "{}", other.message());
    let tokens = current_key(&cluster.world, "acme", "tokens").await;
    let jobs = current_key(&cluster.world, "acme", "jobs").await;
    cluster.wait_until_ledger_has(&tokens, 12).await;
    // Another sidecar does not know the key; the ledger does.
    assert!(check(&sidecars[1].client, keyed(7)).await.unwrap().allowed);
    // A key of the client's own that looks like one of a part is a key like any other.
    sidecars[1].record(vec![event("acme", "tokens", 30, "once#tokens")]).await.unwrap();
    cluster.wait_until_ledger_has(&tokens, 42).await;
    cluster.wait_until_redis_has(&tokens, 42).await;
    cluster.wait_until_redis_has(&jobs, 1).await;
    cluster.wait_until_ledger_has(&jobs, 1).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_used_again_elsewhere_for_another_operation_is_left_out_whole() {
    let (cluster, sidecars) = start(2).await;
    let keyed =
        |tokens| CheckRequest { idempotency_key: "once".into(), ..ask(tokens, Mode::Consume) };
    let tokens = current_key(&cluster.world, "acme", "tokens").await;
    let jobs = current_key(&cluster.world, "acme", "jobs").await;
    assert!(check(&sidecars[0].client, keyed(7)).await.unwrap().allowed);
    cluster.wait_until_ledger_has(&tokens, 12).await;
    // The same job, other tokens: were the parts told apart, half of it would be a repeat.
    assert!(check(&sidecars[1].client, keyed(8)).await.unwrap().allowed);
    sidecars[1].record(vec![event("acme", "calls", 1, "")]).await.unwrap();
    let calls = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&calls, 1).await;
    let set_aside = cluster.world.ledger.quarantine(0, 10).await.unwrap();
    let mut set_aside: Vec<_> = set_aside
        .into_iter()
        .map(|entry| (entry.meter.to_string(), entry.reason, entry.problem))
        .collect();
    set_aside.sort_unstable();
    let problem = "the key was used before for the operation ask, 1 of jobs, 12 of tokens";
    let entry = |meter: &str| (meter.to_owned(), "key_conflict".to_owned(), problem.to_owned());
    assert_eq!(set_aside, [entry("jobs"), entry("tokens")]);
    for (key, used) in [(&tokens, 12), (&jobs, 1)] {
        cluster.wait_until_ledger_has(key, used).await;
        cluster.wait_until_redis_has(key, used).await;
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserved_operation_holds_every_quota_or_none() {
    let (cluster, sidecars) = start(1).await;
    let client = &sidecars[0].client;
    let held = check(client, ask(5_995, Mode::Reserve)).await.unwrap();
    assert!(held.allowed, "{held:?}");
    let id = |meter: &str| held.quotas[meter].reservation.clone().unwrap().id;
    assert_eq!(held.quotas["tokens"].reservation.as_ref().unwrap().amount, 6_000);
    assert_eq!(sidecars[0].usage("acme", "tokens").await.reserved, 6_000);
    // The tokens do not fit any more, and no job is held for them.
    let denied = check(client, ask(3_996, Mode::Reserve)).await.unwrap();
    assert_eq!((denied.allowed, denied.denied_name.as_str()), (false, "tokens"));
    assert!(denied.quotas.values().all(|quota| quota.reservation.is_none()));
    assert_eq!(sidecars[0].usage("acme", "jobs").await.reserved, 1);
    let mut usage = event("acme", "tokens", 4_000, "");
    usage.reservation_id = id("tokens");
    sidecars[0].record(vec![usage]).await.unwrap();
    let release = ReleaseReservationRequest { tenant: "acme".into(), reservation_id: id("jobs") };
    let released = client.clone().release_reservation(release).await.unwrap().into_inner();
    assert_eq!(released.released, 1);
    assert!(check(client, ask(5_995, Mode::Consume)).await.unwrap().allowed);
    let tokens = current_key(&cluster.world, "acme", "tokens").await;
    let jobs = current_key(&cluster.world, "acme", "jobs").await;
    cluster.wait_until_redis_has(&tokens, TOKENS).await;
    cluster.wait_until_redis_has(&jobs, 1).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operation_cannot_be_asked_is_told_by_field() {
    let (_cluster, sidecars) = start(1).await;
    let client = &sidecars[0].client;
    let refused = async |request: CheckRequest| {
        let status = check(client, request).await.unwrap_err();
        let fields = status.get_details_bad_request().map(|it| it.field_violations);
        let fields = fields.unwrap_or_default().into_iter().map(|it| it.field);
        (status.code(), fields.collect::<Vec<_>>().join(" "))
    };
    let missing = refused(operation("ask", Mode::Check)).await;
    assert_eq!(missing, (Code::InvalidArgument, "amounts[tokens]".into()));
    let mut fixed = ask(1, Mode::Check);
    fixed.amounts.insert("jobs".into(), 2);
    fixed.amounts.insert("calls".into(), 2);
    let expected = "amounts[calls] amounts[jobs]".to_owned();
    assert_eq!(refused(fixed).await, (Code::InvalidArgument, expected));
    let unknown = refused(operation("anwser", Mode::Check)).await;
    assert_eq!(unknown.0, Code::NotFound);
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_another_plan_has_is_a_denial_that_names_it() {
    let (_cluster, sidecars) = start(1).await;
    let answer = check(&sidecars[0].client, operation("export", Mode::Consume)).await.unwrap();
    assert_eq!((answer.denied_by(), answer.denied_name.as_str()), (DeniedBy::Quota, "exports"));
    assert_eq!(answer.quotas["exports"].reason(), QuotaReason::NotInPlan);
    assert_eq!(answer.remedies[0].kind(), RemedyKind::Upgrade);
    assert_eq!(answer.remedies[0].plan, "pro");
    let quota = sidecars[0].check(Mode::Consume, "acme", "exports", 1).await.unwrap();
    assert_eq!((quota.allowed, quota.reason()), (false, QuotaReason::NotInPlan));
    assert_eq!(quota.remedies[0].plan, "pro");
    let unknown = sidecars[0].check(Mode::Consume, "acme", "export", 1).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let rate = check(&sidecars[0].client, operation("ping", Mode::Consume)).await.unwrap();
    assert_eq!(rate.rate_limits["api"].reason(), RateLimitReason::WithinLimit);
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}
