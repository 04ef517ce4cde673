//! Grants: what a plan's limit has no room for, exactly, wherever it is asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tollgate::{
    domain::cell_key::CellKey,
    proto::v1::{CheckRequest, Mode, QuotaReason, UsageEvent},
};

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key, event, quota},
};

const PLAN: i64 = 10_000;
const CLIENTS: u64 = 24;
/// Longer than any hiccup of a busy machine, so that a denial is a proof.
const RECALL_WAIT_MS: &str = "5000";
/// The promise is a second; a busy machine is given more.
const KNOWN_EVERYWHERE_MAX: Duration = Duration::from_secs(20);

async fn cluster() -> Cluster {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.flag("--enforcement-recall-wait-ms", RECALL_WAIT_MS);
    cluster.world.tenant("acme", "basic").await;
    cluster
}

/// Gives a grant; the counter's key.
async fn grant(cluster: &Cluster, meter: &str, amount: i64, more: &[&str]) -> CellKey {
    let amount = amount.to_string();
    let arguments = ["grant", "create", "acme", "--meter", meter, "--amount", &amount, "--json"];
    let printed = cluster.operate(&[&arguments, more].concat());
    let created: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let start: jiff::Timestamp = created["starts_at"].as_str().unwrap().parse().unwrap();
    let id = created["grant"].as_str().unwrap();
    let own = current_key(&cluster.world, "acme", meter).await;
    CellKey { label: format!("{id}:{}:0", start.as_second()).parse().unwrap(), ..own }
}

/// Waits until the sidecar knows `count` grants on the meter.
async fn wait_until_granted(sidecar: &Sidecar, meter: &str, count: usize) -> Duration {
    let started = Instant::now();
    while sidecar.usage("acme", meter).await.grants.len() != count {
        assert!(
            started.elapsed() < KNOWN_EVERYWHERE_MAX,
            "not known after {:?}",
            started.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

/// Ledger and Redis agree on every counter.
async fn all_agree(cluster: &Cluster, expected: &[(&CellKey, i64)]) {
    for (key, used) in expected {
        cluster.wait_until_ledger_has(key, *used).await;
        cluster.wait_until_redis_has(key, *used).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_split_over_the_plan_and_two_grants_exactly_under_contention() {
    let cluster = cluster().await;
    let own = current_key(&cluster.world, "acme", "calls").await;
    let later = grant(&cluster, "calls", 700, &["--priority", "2"]).await;
    let first = grant(&cluster, "calls", 300, &["--priority", "1"]).await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    let total = PLAN + 300 + 700;

    let admitted = Arc::new(AtomicI64::new(0));
    let clients = (0..CLIENTS).map(|number| {
        let mut client = sidecars[number as usize % 3].client.clone();
        let admitted = admitted.clone();
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(number);
            loop {
                let amount = random.random_range(1..=37);
                let request = quota(Mode::Consume, "acme", "calls", amount);
                let answer = client.check_quota(request).await.unwrap().into_inner();
                if !answer.allowed {
                    assert_eq!(answer.reason(), QuotaReason::LimitExceeded);
                    return;
                }
                admitted.fetch_add(amount, Ordering::SeqCst);
            }
        })
    });
    join_all(clients.collect::<Vec<_>>()).await.into_iter().for_each(|end| end.unwrap());
    let contended = admitted.load(Ordering::SeqCst);
    assert!(contended <= total, "{contended} of {total} admitted");
    // What remains can be had to the last unit, and no more.
    let rest = sidecars[1].spend_all("acme", "calls").await;
    assert_eq!(contended + rest, total);
    for sidecar in &sidecars {
        assert!(!sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap().allowed);
    }
    all_agree(&cluster, &[(&own, PLAN), (&first, 300), (&later, 700)]).await;
    // The usage itself is the tenant's, whoever covered it.
    let totals = cluster.world.ledger.window_totals(std::slice::from_ref(&own)).await.unwrap();
    assert_eq!(totals[0].as_ref().unwrap().tally.amount_sum, total);
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_covers_what_others_hold_of_the_plan_and_do_not_return() {
    let cluster = cluster().await;
    let key = grant(&cluster, "calls", 100, &[]).await;
    let own = current_key(&cluster.world, "acme", "calls").await;
    let [a, b, dead] =
        [cluster.start("a").await, cluster.start("b").await, cluster.start("dead").await];
    // 5 units are held by a reservation, 7 by a run that nobody has closed.
    for (sidecar, amount) in [(&a, 5), (&dead, 7)] {
        let held = sidecar.check(Mode::Reserve, "acme", "calls", amount).await.unwrap();
        assert_eq!(held.reason(), QuotaReason::WithinLimit, "{held:?}");
    }
    dead.process.kill();
    let rest = PLAN - 12;
    assert!(b.check(Mode::Consume, "acme", "calls", rest).await.unwrap().allowed);
    let split = b.check(Mode::Consume, "acme", "calls", 40).await.unwrap();
    assert_eq!(split.reason(), QuotaReason::WithinGrant, "{split:?}");
    let split = b.check(Mode::Consume, "acme", "calls", 60).await.unwrap();
    assert_eq!(split.reason(), QuotaReason::WithinGrant, "{split:?}");
    all_agree(&cluster, &[(&own, rest), (&key, 100)]).await;
    assert!(!b.check(Mode::Consume, "acme", "calls", 6).await.unwrap().allowed);
    [a, b].into_iter().for_each(|sidecar| sidecar.process.stop());
}

/// A killed sidecar holds all of the plan's rest and of seven grants. Each of them might return enough,
/// and each is waited for; when all that takes too long, nobody has said that there is not enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_to_be_split_is_told_as_an_outage() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    // Eight waits, of which the bound of a split covers four and two seconds.
    cluster.flag("--enforcement-recall-wait-ms", "1500");
    cluster.world.tenant("acme", "basic").await;
    for _ in 0..7 {
        grant(&cluster, "calls", 5, &[]).await;
    }
    let [a, dead] = [cluster.start("a").await, cluster.start("dead").await];
    assert!(dead.check(Mode::Consume, "acme", "calls", PLAN - 5).await.unwrap().allowed);
    let held = dead.check(Mode::Reserve, "acme", "calls", 40).await.unwrap();
    assert_eq!(held.reason(), QuotaReason::WithinGrant, "{held:?}");
    dead.process.kill();
    let answer = a.check(Mode::Consume, "acme", "calls", 5).await.unwrap();
    assert!(!answer.allowed);
    assert_eq!(answer.reason(), QuotaReason::DeniedByOutagePolicy, "{answer:?}");
    a.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_grant_is_taken_back_from_who_holds_it() {
    let cluster = cluster().await;
    let key = grant(&cluster, "calls", 1_000, &[]).await;
    let sidecar = cluster.start("a").await;
    assert!(sidecar.check(Mode::Consume, "acme", "calls", PLAN).await.unwrap().allowed);
    for _ in 0..20 {
        assert!(sidecar.check(Mode::Consume, "acme", "calls", 5).await.unwrap().allowed);
    }
    cluster.operate(&["grant", "revoke", "acme", &key.label.period.to_string()]);
    let started = Instant::now();
    loop {
        let stands = cluster.inspect(&key).await.unwrap();
        if (stands.used, stands.outstanding) == (100, 0)
            && stands.ceiling.is_some_and(|ceiling| ceiling.units == Some(0))
        {
            break;
        }
        assert!(started.elapsed() < KNOWN_EVERYWHERE_MAX, "{stands:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap().allowed);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_burn_in_their_order_and_one_request_may_take_the_end_of_several() {
    let cluster = cluster().await;
    let late = grant(&cluster, "seats", 5, &["--expires-at", "2099-02-01T00:00:00Z"]).await;
    let soon = grant(&cluster, "seats", 4, &["--expires-at", "2099-01-01T00:00:00Z"]).await;
    let first = grant(&cluster, "calls", 3, &["--kind", "promotional"]).await;
    let last = grant(&cluster, "calls", 7, &["--priority", "9"]).await;
    let own = current_key(&cluster.world, "acme", "calls").await;
    let sidecar = cluster.start("a").await;
    let check = async |mode, amount| sidecar.check(mode, "acme", "calls", amount).await.unwrap();

    assert_eq!(check(Mode::Consume, PLAN - 2).await.reason(), QuotaReason::WithinLimit);
    let mut look = check(Mode::Check, 6).await;
    for _ in 0..100 {
        // A look waits for a moment only, and a busy machine may not answer within it.
        if look.reason() != QuotaReason::DeniedByOutagePolicy {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        look = check(Mode::Check, 6).await;
    }
    assert_eq!((look.reason(), look.remaining), (QuotaReason::WithinGrant, 12));
    let split = check(Mode::Consume, 6).await;
    assert_eq!((split.reason(), split.remaining), (QuotaReason::WithinGrant, 6));
    let denied = check(Mode::Consume, 7).await;
    assert_eq!((denied.reason(), denied.remaining), (QuotaReason::LimitExceeded, 6));
    all_agree(&cluster, &[(&own, PLAN), (&first, 3), (&last, 1)]).await;

    let usage = sidecar.usage("acme", "calls").await;
    assert_eq!((usage.used, usage.remaining), (PLAN, 6));
    let used: Vec<_> =
        usage.grants.iter().map(|g| (g.kind.as_str(), g.used, g.remaining)).collect();
    assert_eq!(used, [("promotional", 3, 0), ("top_up", 1, 6)]);

    // A level that goes down comes free where it burnt last.
    let seats = current_key(&cluster.world, "acme", "seats").await;
    assert!(sidecar.check(Mode::Consume, "acme", "seats", 16).await.unwrap().allowed);
    all_agree(&cluster, &[(&seats, 10), (&soon, 4), (&late, 2)]).await;
    assert!(sidecar.check(Mode::Consume, "acme", "seats", -3).await.unwrap().allowed);
    all_agree(&cluster, &[(&seats, 10), (&soon, 3), (&late, 0)]).await;
    sidecar.record(vec![event("acme", "seats", -4, "less")]).await.unwrap();
    all_agree(&cluster, &[(&seats, 9), (&soon, 0), (&late, 0)]).await;
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_lets_a_tenant_go_on_that_is_being_denied_on_every_sidecar() {
    let cluster = cluster().await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    sidecars[0].spend_all("acme", "calls").await;
    for sidecar in &sidecars {
        assert!(!sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap().allowed);
    }
    let asking = sidecars.each_ref().map(|sidecar| {
        let mut client = sidecar.client.clone();
        tokio::spawn(async move {
            loop {
                let request = quota(Mode::Consume, "acme", "calls", 1);
                if client.check_quota(request).await.unwrap().into_inner().allowed {
                    return Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    });
    let key = grant(&cluster, "calls", 1_000, &[]).await;
    let granted = Instant::now();
    for asking in asking {
        let waited = asking.await.unwrap().saturating_duration_since(granted);
        println!("went on after {waited:?}");
        assert!(waited < KNOWN_EVERYWHERE_MAX, "{waited:?}");
    }
    let rest = sidecars[2].spend_all("acme", "calls").await;
    assert_eq!(rest, 1_000 - 3);
    all_agree(&cluster, &[(&key, 1_000)]).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_sidecar_held_of_a_grant_can_be_had_when_it_is_closed() {
    let cluster = cluster().await;
    let key = grant(&cluster, "calls", 1_000, &[]).await;
    let [a, b] = [cluster.start("a").await, cluster.start("b").await];
    let spent = a.spend_all("acme", "calls").await - 1_000;
    assert_eq!(spent, PLAN);
    let more = grant(&cluster, "calls", 500, &["--priority", "3"]).await;
    wait_until_granted(&a, "calls", 2).await;
    wait_until_granted(&b, "calls", 2).await;
    // Escrow of the second grant is in the hands of the one that is killed, some of it held.
    for _ in 0..20 {
        assert!(a.check(Mode::Consume, "acme", "calls", 5).await.unwrap().allowed);
    }
    let held = a.check(Mode::Reserve, "acme", "calls", 50).await.unwrap();
    assert_eq!(held.reason(), QuotaReason::WithinGrant);
    a.process.kill();
    let a = cluster.start("a").await;
    let rest = b.spend_all("acme", "calls").await + a.spend_all("acme", "calls").await;
    assert_eq!(rest, 500 - 100);
    all_agree(&cluster, &[(&key, 1_000), (&more, 500)]).await;
    [a, b].into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_and_a_repeat_count_on_the_counters_that_covered_them() {
    let cluster = cluster().await;
    let own = current_key(&cluster.world, "acme", "calls").await;
    let key = grant(&cluster, "calls", 100, &[]).await;
    let [a, b] = [cluster.start("a").await, cluster.start("b").await];
    assert!(a.check(Mode::Consume, "acme", "calls", PLAN - 10).await.unwrap().allowed);
    // 10 of the plan and 30 of the grant are held, 25 are used.
    let held = a.check(Mode::Reserve, "acme", "calls", 40).await.unwrap();
    let reservation_id = held.reservation.unwrap().id;
    let used = UsageEvent { reservation_id, ..event("acme", "calls", 25, "settled") };
    a.record(vec![used]).await.unwrap();
    all_agree(&cluster, &[(&own, PLAN), (&key, 15)]).await;
    // Two sidecars cannot know of each other's keys; the ledger undoes the second on the grant.
    for sidecar in [&a, &b] {
        let mut request = quota(Mode::Consume, "acme", "calls", 20);
        request.idempotency_key = "once".into();
        assert!(sidecar.client.clone().check_quota(request).await.unwrap().into_inner().allowed);
    }
    all_agree(&cluster, &[(&own, PLAN), (&key, 35)]).await;
    assert_eq!(b.spend_all("acme", "calls").await, 65);
    [a, b].into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_ends_at_its_instant_and_when_it_is_revoked() {
    let cluster = cluster().await;
    let clock = |at: &str| {
        cluster.operate(&["account", "clock", "timely", "--set", at]);
    };
    cluster.operate(&[
        "tenant",
        "create",
        "timely",
        "--catalog",
        "proving",
        "--plan",
        "basic",
        "--test-clock",
        "2026-03-10T00:00:00Z",
    ]);
    let create = |amount: &str, more: &[&str]| {
        let arguments = ["grant", "create", "timely", "--meter", "seats", "--amount", amount];
        cluster.operate(&[&arguments, more].concat())
    };
    let times = ["--starts-at", "2026-03-11T00:00:00Z", "--expires-at", "2026-03-12T00:00:00Z"];
    let extra = create("5", &[&times[..], &["--json"]].concat());
    let extra: serde_json::Value = serde_json::from_str(&extra).unwrap();
    let begins: jiff::Timestamp = times[1].parse().unwrap();
    let extra_label = format!("{}:{}:0", extra["grant"].as_str().unwrap(), begins.as_second());
    let sidecar = cluster.start("a").await;
    let remaining = async || sidecar.usage("timely", "seats").await.remaining;
    let wait_for = async |expected: i64| {
        let started = Instant::now();
        while remaining().await != expected {
            let now = remaining().await;
            assert!(started.elapsed() < KNOWN_EVERYWHERE_MAX, "{now} remain, not {expected}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(remaining().await, 10);
    clock("2026-03-11T00:00:00Z");
    wait_for(15).await;
    assert!(sidecar.check(Mode::Consume, "timely", "seats", 12).await.unwrap().allowed);
    clock("2026-03-12T00:00:00Z");
    wait_for(0).await;
    // The level stands at 12 with room for 10: it has to go down to 9 before one more fits.
    assert!(!sidecar.check(Mode::Consume, "timely", "seats", 1).await.unwrap().allowed);
    sidecar.record(vec![event("timely", "seats", -2, "")]).await.unwrap();
    // A decrease counts once the ledger has it: only then does a denial say something.
    let own = current_key(&cluster.world, "timely", "seats").await;
    let extra = CellKey { label: extra_label.parse().unwrap(), ..own.clone() };
    all_agree(&cluster, &[(&own, 10), (&extra, 0)]).await;
    assert!(!sidecar.check(Mode::Consume, "timely", "seats", 1).await.unwrap().allowed);
    sidecar.record(vec![event("timely", "seats", -1, "")]).await.unwrap();
    wait_for(1).await;
    create("7", &["--json"]);
    wait_for(8).await;
    let listed = cluster.operate(&["grant", "list", "timely", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    cluster.operate(&["grant", "revoke", "timely", listed[0]["grant"].as_str().unwrap()]);
    wait_for(1).await;
    sidecar.process.stop();
}

/// Two meters, so that the second one can deny what a grant has covered of the first, which has
/// enough for everything that is under way at a time.
const WITH_OPERATION: &str = r"
catalog: proving
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
  - { name: tokens, kind: counter, unit: token, period: month }
  - { name: jobs, kind: counter, unit: job, period: month }
operations:
  - { name: work, meters: [{ meter: tokens, amount: 30 }, { meter: jobs, amount: 1 }] }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits: { calls: 100, tokens: 100, jobs: 5 }
";

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_covered_by_grants_too_and_gives_them_back_when_another_part_denies() {
    let mut cluster = Cluster::with_catalog("proving", WITH_OPERATION).await;
    cluster.flag("--enforcement-recall-wait-ms", RECALL_WAIT_MS);
    cluster.world.tenant("acme", "basic").await;
    let extra = grant(&cluster, "tokens", 2_000, &[]).await;
    let own = current_key(&cluster.world, "acme", "tokens").await;
    let jobs = current_key(&cluster.world, "acme", "jobs").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    let work = || CheckRequest {
        tenant: "acme".into(),
        operation: "work".into(),
        mode: Mode::Consume.into(),
        ..Default::default()
    };
    let clients = (0..CLIENTS).map(|number| {
        let mut client = sidecars[number as usize % 2].client.clone();
        tokio::spawn(async move {
            let mut admitted = 0;
            loop {
                let answer = client.check(work()).await.unwrap().into_inner();
                if !answer.allowed {
                    assert_eq!(answer.denied_name, "jobs", "{answer:?}");
                    return admitted;
                }
                admitted += 1;
            }
        })
    });
    let admitted = join_all(clients.collect::<Vec<_>>()).await.into_iter();
    assert_eq!(admitted.map(|end| end.unwrap()).sum::<i64>(), 5);
    // 150 tokens: the plan's 100 and 50 of the grant; the rest is there for whoever asks.
    assert_eq!(sidecars[1].spend_all("acme", "tokens").await, 1_950);
    all_agree(&cluster, &[(&own, 100), (&extra, 2_000), (&jobs, 5)]).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}
