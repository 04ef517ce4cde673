//! Operations that are decided at once say and take what they do when they are decided at length.

use tollgate::{
    clock::Clock,
    proto::v1::{CheckRequest, CheckResponse, DecidedBy, DeniedBy, Durability, Mode},
};
use tonic::{Code, Status};

use super::cluster::{Cluster, Sidecar, current_key};

/// Of what an operation takes, `calls` and `disk` may have to be asked for; the rest is in hand.
const CATALOG: &str = r"
catalog: proving
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
  - { name: tokens, kind: counter, unit: token, period: month }
  - { name: free, kind: counter, unit: call, period: month }
  - { name: runs, kind: counter, unit: run, aggregation: count, period: month }
  - { name: photos, kind: level, unit: photo, subject: listing }
  - { name: peak, kind: counter, unit: job, aggregation: max, period: month }
  - { name: extras, kind: counter, unit: call, period: month }
  - { name: disk, kind: counter, unit: byte, period: month }
features:
  - { name: chat }
  - { name: voice }
rates:
  - { name: own, scope: sidecar }
  - { name: shared }
  - { name: each, scope: sidecar, subject: user }
operations:
  - name: ask
    features: [chat]
    rates: [own]
    meters: [{ meter: tokens }, { meter: free, amount: 3 }]
  - { name: both, rates: [own, shared], meters: [{ meter: free, amount: 1 }] }
  - { name: call, meters: [{ meter: tokens, amount: 1 }, { meter: calls, amount: 3 }] }
  - { name: run, meters: [{ meter: runs, amount: 1 }, { meter: free, amount: 2 }] }
  - { name: twice, meters: [{ meter: free, amount: 2 }, { meter: free, amount: 3 }] }
  - { name: talk, features: [voice], meters: [{ meter: free, amount: 1 }] }
  - { name: visit, meters: [{ meter: free, amount: 1 }, { meter: peak, amount: 2 }] }
  - { name: list, meters: [{ meter: photos, amount: 1 }] }
  - { name: extend, meters: [{ meter: free, amount: 1 }, { meter: extras, amount: 1 }] }
  - { name: store, meters: [{ meter: disk, amount: 1 }, { meter: free, amount: 1 }] }
  - { name: wave, rates: [own] }
  - { name: greet, rates: [each], meters: [{ meter: free, amount: 1 }] }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits:
      calls: 100
      tokens: { limit: 10, enforcement: soft }
      runs: 5
      photos: { limit: 3, per_subject: true }
      peak: 9
      disk: 50
      free: -1
    features: { chat: true }
    rate_limits:
      own: [{ requests: 12, per: day }]
      shared: [{ requests: 9, per: day }]
      each: [{ requests: 2, per: day }]
  - name: large
    prices: { monthly: 9 }
    limits: { extras: 10 }
pools:
  - { name: shared, meter: disk, size: 1000, plans: [basic] }
";

async fn start() -> (Cluster, Sidecar) {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.flag("--enforcement-recall-wait-ms", "5000");
    for tenant in ["acme", "twin"] {
        cluster.world.tenant(tenant, "basic").await;
    }
    let now = Clock::System.now();
    cluster.world.tenants_of("agency", now, [("member", "basic")]).await;
    let sidecar = cluster.start("a").await;
    (cluster, sidecar)
}

/// Answers of rates that were counted, by all that tells them apart.
fn rates_counted(cluster: &Cluster) -> u64 {
    let metrics = cluster.get("a", "/metrics");
    let lines = metrics.lines().filter(|line| line.starts_with("tollgate_rate_checks_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// A CONSUME of an operation, with base units by meter.
fn operate(tenant: &str, operation: &str, amounts: &[(&str, i64)]) -> CheckRequest {
    CheckRequest {
        tenant: tenant.into(),
        operation: operation.into(),
        amounts: amounts.iter().map(|(meter, amount)| ((*meter).to_owned(), *amount)).collect(),
        mode: Mode::Consume.into(),
        ..Default::default()
    }
}

/// The same, with a property that nobody counts by: it is decided at length.
fn operated_at_length(request: &CheckRequest) -> CheckRequest {
    let properties = [("region".to_owned(), "eu".to_owned())].into();
    CheckRequest { properties, ..request.clone() }
}

/// What matters of an operation's answer.
fn operation_told(
    answer: Result<tonic::Response<CheckResponse>, Status>,
) -> Result<CheckResponse, (Code, String)> {
    let mut answer =
        answer.map_err(|status| (status.code(), status.message().to_owned()))?.into_inner();
    answer.decided_by = 0;
    answer.quotas.values_mut().for_each(|quota| quota.decided_by = 0);
    for rate in answer.rate_limits.values_mut() {
        rate.decided_by = 0;
        rate.retry_after = None;
        // A permit of the day comes back in some hours: how many are left does not depend on when.
        rate.reset_after = None;
        rate.windows.iter_mut().for_each(|window| window.reset_after = None);
    }
    answer.remedies.iter_mut().for_each(|remedy| remedy.wait_until = None);
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operation_takes_does_not_depend_on_how_it_was_decided() {
    let (cluster, sidecar) = start().await;
    let asked: [(&str, &[(&str, i64)]); 20] = [
        ("ask", &[("tokens", 5)]),
        ("ask", &[]),
        ("ask", &[("tokens", -1)]),
        ("ask", &[("tokens", 7), ("free", 1)]),
        ("ask", &[("tokens", 7)]),
        ("ask", &[("tokens", 1 << 53)]),
        ("call", &[]),
        ("both", &[]),
        ("run", &[]),
        ("run", &[]),
        ("run", &[("runs", 1)]),
        ("twice", &[]),
        ("greet", &[]),
        ("talk", &[]),
        ("visit", &[]),
        ("list", &[]),
        ("extend", &[]),
        ("store", &[]),
        ("wave", &[]),
        ("nothing", &[]),
    ];
    let mut client = sidecar.client.clone();
    for turn in 0..4 {
        for (operation, amounts) in asked {
            for durability in [Durability::Unspecified, Durability::Memory, Durability::Sync] {
                let request = |tenant| CheckRequest {
                    durability: durability.into(),
                    ..operate(tenant, operation, amounts)
                };
                let before = rates_counted(&cluster);
                let at_once = operation_told(client.check(request("acme")).await);
                let between = rates_counted(&cluster);
                let long = client.check(operated_at_length(&request("twin"))).await;
                let counted = (between - before, rates_counted(&cluster) - between);
                assert_eq!(counted.0, counted.1, "{turn} {operation}");
                let named = |told: (Code, String)| (told.0, told.1.replace("twin", "acme"));
                assert_eq!(at_once, operation_told(long).map_err(named), "{turn} {operation}");
            }
        }
    }
    // The rate, the limit and what has none were all reached.
    let last =
        operation_told(client.check(operate("acme", "ask", &[("tokens", 1)])).await).unwrap();
    assert_eq!((last.denied_by(), &*last.denied_name), (DeniedBy::RateLimit, "own"));
    let last = operation_told(client.check(operate("acme", "run", &[])).await).unwrap();
    assert_eq!((last.denied_by(), &*last.denied_name), (DeniedBy::Quota, "runs"));
    for meter in ["calls", "tokens", "free", "runs"] {
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
async fn an_operations_key_is_the_same_however_it_was_decided() {
    let (cluster, sidecar) = start().await;
    let mut client = sidecar.client.clone();
    let keyed = |key: &str, tokens| CheckRequest {
        idempotency_key: key.into(),
        ..operate("acme", "ask", &[("tokens", tokens)])
    };
    for (number, is_first_at_once) in [true, false].into_iter().enumerate() {
        let key = format!("key-{number}");
        let either = |is_at_once, tokens| match is_at_once {
            true => keyed(&key, tokens),
            false => operated_at_length(&keyed(&key, tokens)),
        };
        let first = client.check(either(is_first_at_once, 2)).await;
        assert_ne!(first.as_ref().unwrap().get_ref().decided_by(), DecidedBy::Replay);
        let first = operation_told(first).unwrap();
        assert!(first.allowed, "{first:?}");
        let counted = rates_counted(&cluster);
        for is_at_once in [true, false] {
            let again = client.check(either(is_at_once, 2)).await;
            assert_eq!(again.as_ref().unwrap().get_ref().decided_by(), DecidedBy::Replay);
            assert_eq!(operation_told(again).as_ref(), Ok(&first));
            let other = client.check(either(is_at_once, 3)).await.unwrap_err();
            assert_eq!(other.code(), Code::AlreadyExists, "{other}");
        }
        assert_eq!(rates_counted(&cluster), counted, "a repeat asks no rate");
    }
    let bad = client.check(keyed("a key", 2)).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument, "{bad}");
    let tokens = current_key(&cluster.world, "acme", "tokens").await;
    cluster.wait_until_ledger_has(&tokens, 4).await;
    let free = current_key(&cluster.world, "acme", "free").await;
    cluster.wait_until_ledger_has(&free, 6).await;
    // Two permits of the rate were taken.
    let mut look = operate("acme", "wave", &[]);
    look.mode = Mode::Check.into();
    let look = client.check(look).await.unwrap().into_inner();
    assert_eq!(look.rate_limits["own"].remaining, 10, "{look:?}");
    sidecar.process.stop();
}
