//! Rates through real sidecars: exact across them, and usable to the last permit.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::time::sleep;
use tollgate::proto::v1::{
    CheckRateLimitRequest, CheckRateLimitResponse, DecidedBy, Mode, RateLimitReason,
};
use tonic::Code;

use super::cluster::{Client, Cluster, Sidecar};

const CATALOG: &str = r"
catalog: pace
title: Pace
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
rates:
  - { name: api }
  - { name: slow }
  - { name: weighted }
  - { name: stacked }
  - { name: login, subject: address }
  - { name: own, scope: sidecar }
  - { name: strict, on_outage: deny }
  - { name: free }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits: { calls: 10000 }
    rate_limits:
      api: [{ requests: 100, per: second, burst: 20 }]
      slow: [{ requests: 2, per: second, burst: 5 }]
      weighted: [{ requests: 10, per: hour, burst: 10 }]
      stacked: [{ requests: 10, per: second }, { requests: 25, per: day }]
      login: [{ requests: 3, per: hour }]
      own: [{ requests: 5, per: hour }]
      strict: [{ requests: 1000, per: second }]
  - name: small
    title: Small
    prices: { monthly: 0 }
    limits: { calls: 10000 }
    rate_limits:
      api: [{ requests: 10, per: second, burst: 2 }]
";

/// What is left to clocks that differ: the test's, and Redis' that may be slewed.
const TOLERANCE: f64 = 1.0;

/// An admitted permit: it was admitted at some instant between these.
#[derive(Clone, Copy)]
struct Admitted {
    sent: Duration,
    answered: Duration,
}

struct Rate {
    name: &'static str,
    per_second: f64,
    burst: f64,
}

const API: Rate = Rate { name: "api", per_second: 100.0, burst: 20.0 };
const SLOW: Rate = Rate { name: "slow", per_second: 2.0, burst: 5.0 };

impl Rate {
    /// Fails if some interval has more than the bound.
    fn assert_holds(&self, admitted: &[Admitted]) {
        for from in admitted {
            let later = admitted.iter().filter(|one| one.sent >= from.sent);
            let mut ends: Vec<_> = later.map(|one| one.answered).collect();
            ends.sort_unstable();
            for (index, end) in ends.iter().enumerate() {
                let interval_s = (*end - from.sent).as_secs_f64();
                let bound = self.per_second * interval_s + self.burst + TOLERANCE;
                let count = index as f64 + 1.0;
                assert!(count <= bound, "{count} admitted in {interval_s} s of {}", self.name);
            }
        }
    }

    fn bound(&self, length: Duration) -> f64 {
        self.per_second * length.as_secs_f64() + self.burst
    }
}

/// Clients of all sidecars, each asking again `pause` after each answer.
async fn hammer(
    sidecars: &[Sidecar],
    rate: &Rate,
    clients: usize,
    pause: Duration,
    length: Duration,
) -> (Vec<Admitted>, Duration) {
    let began = Instant::now();
    let name = rate.name;
    let clients = (0..clients).map(|number| {
        let mut client = sidecars[number % sidecars.len()].client.clone();
        tokio::spawn(async move {
            let mut admitted = vec![];
            while began.elapsed() < length {
                let sent = began.elapsed();
                let answer = ask(&mut client, Mode::Consume, name, "", 1).await.unwrap();
                match answer.reason() {
                    RateLimitReason::WithinLimit => {
                        admitted.push(Admitted { sent, answered: began.elapsed() });
                    }
                    // An answer that took too long on a busy machine; it is not what is measured.
                    RateLimitReason::RateExceeded | RateLimitReason::AllowedByOutagePolicy => {}
                    other => panic!("{other:?}"),
                }
                sleep(pause).await;
            }
            admitted
        })
    });
    let admitted = join_all(clients.collect::<Vec<_>>()).await;
    let admitted = admitted.into_iter().flat_map(|done| done.unwrap()).collect();
    (admitted, began.elapsed())
}

async fn ask(
    client: &mut Client,
    mode: Mode,
    rate: &str,
    subject: &str,
    permits: u32,
) -> Result<CheckRateLimitResponse, tonic::Status> {
    let request = CheckRateLimitRequest {
        tenant: "acme".into(),
        rate_limit: rate.into(),
        subject: subject.into(),
        permits: Some(permits),
        mode: mode.into(),
    };
    Ok(client.check_rate_limit(request).await?.into_inner())
}

/// The answer once the shared state is in reach; a busy machine may take a moment.
async fn take(
    sidecar: &Sidecar,
    rate: &str,
    subject: &str,
    permits: u32,
) -> CheckRateLimitResponse {
    let mut client = sidecar.client.clone();
    let began = Instant::now();
    loop {
        let answer = ask(&mut client, Mode::Consume, rate, subject, permits).await.unwrap();
        if answer.decided_by() != DecidedBy::Fallback {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{answer:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn three() -> (Arc<Cluster>, [Sidecar; 3]) {
    let cluster = Cluster::with_catalog("pace", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    (Arc::new(cluster), sidecars)
}

/// How long the rates are driven: the whole of what is promised with `RATES_IN_FULL=1`,
/// and else what a pipeline has time for.
fn length(full_s: u64, short_s: u64) -> Duration {
    Duration::from_secs(if is_in_full() { full_s } else { short_s })
}

fn is_in_full() -> bool {
    std::env::var_os("RATES_IN_FULL").is_some()
}

/// Never too much, in any measurement; nearly all of it, when the machine lets it be measured.
async fn assert_shared_and_used(rate: &Rate, clients: usize, pause: Duration, length: Duration) {
    let (_cluster, sidecars) = three().await;
    // A pipeline's machine runs other tests beside.
    let enough = if is_in_full() { 0.97 } else { 0.8 };
    assert_used(&sidecars, rate, clients, pause, length, enough).await;
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

/// As [`assert_shared_and_used`]; `enough` is a share of the bound.
async fn assert_used(
    sidecars: &[Sidecar],
    rate: &Rate,
    clients: usize,
    pause: Duration,
    length: Duration,
    enough: f64,
) {
    let mut shares = vec![];
    for _ in 0..5 {
        let (admitted, elapsed) = hammer(sidecars, rate, clients, pause, length).await;
        rate.assert_holds(&admitted);
        let bound = rate.bound(elapsed);
        assert!(admitted.len() as f64 <= bound + TOLERANCE);
        let share = admitted.len() as f64 / bound;
        println!("{}: {} of {bound:.0} in {elapsed:?}", rate.name, admitted.len());
        shares.push(share);
        if share >= 0.97 {
            break;
        }
        // The next begins with the burst again.
        sleep(Duration::from_secs_f64(rate.burst / rate.per_second)).await;
    }
    assert!(shares.iter().any(|share| *share >= enough), "used: {shares:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_sidecars_share_100_per_second_exactly_and_use_nearly_all_of_it() {
    assert_shared_and_used(&API, 64, Duration::from_millis(20), length(10, 4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_sidecars_share_2_per_second_exactly_and_use_nearly_all_of_it() {
    assert_shared_and_used(&SLOW, 6, Duration::from_millis(50), length(120, 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_stacked_windows_and_subjects_are_exact_across_sidecars() {
    let (_cluster, sidecars) = three().await;
    let [a, b, c] = &sidecars;

    let first = take(a, "weighted", "", 7).await;
    assert_eq!((first.reason(), first.remaining), (RateLimitReason::WithinLimit, 3));
    assert_eq!((first.limit, first.burst), (10, 10));
    let denied = take(b, "weighted", "", 4).await;
    assert_eq!((denied.reason(), denied.remaining), (RateLimitReason::RateExceeded, 3));
    let retry_s = denied.retry_after.unwrap().seconds;
    assert!((1..=360).contains(&retry_s), "{retry_s} s until one of ten per hour is free");
    let reset_s = denied.reset_after.unwrap().seconds;
    assert!((2_400..=2_520).contains(&reset_s), "{reset_s} s until seven of ten are free");
    let never = take(c, "weighted", "", 11).await;
    assert_eq!((never.reason(), never.retry_after), (RateLimitReason::BurstExceeded, None));
    // A look takes nothing; what is left can be had.
    let mut looking = c.client.clone();
    for _ in 0..3 {
        let look = ask(&mut looking, Mode::Check, "weighted", "", 3).await.unwrap();
        assert!(look.allowed, "{look:?}");
    }
    assert!(take(c, "weighted", "", 3).await.allowed);
    let look = ask(&mut looking, Mode::Check, "weighted", "", 1).await.unwrap();
    assert_eq!(look.reason(), RateLimitReason::RateExceeded);

    // 25 a day, however fast the seconds allow it.
    let mut admitted = 0;
    let began = Instant::now();
    while admitted < 25 {
        admitted +=
            u32::from(take(&sidecars[admitted as usize % 3], "stacked", "", 1).await.allowed);
        assert!(began.elapsed() < Duration::from_secs(60), "{admitted} of 25");
    }
    sleep(Duration::from_millis(1_100)).await;
    for sidecar in &sidecars {
        let denied = take(sidecar, "stacked", "", 1).await;
        assert_eq!(denied.reason(), RateLimitReason::RateExceeded);
        let remaining: Vec<_> = denied.windows.iter().map(|window| window.remaining).collect();
        assert_eq!(remaining, [10, 0], "{denied:?}");
        assert_eq!(denied.limit, 25);
    }

    for subject in ["10.0.0.1", "10.0.0.2"] {
        for (round, sidecar) in sidecars.iter().enumerate() {
            let answer = take(sidecar, "login", subject, 1).await;
            assert_eq!((answer.allowed, answer.remaining), (true, 2 - round as i64));
        }
        assert!(!take(a, "login", subject, 1).await.allowed);
    }
    let missing = ask(&mut looking, Mode::Check, "login", "", 1).await.unwrap_err();
    assert_eq!(missing.code(), Code::InvalidArgument);

    let unlimited = take(a, "free", "", 1_000_000).await;
    assert_eq!((unlimited.reason(), unlimited.limit), (RateLimitReason::Unlimited, -1));
    let unknown = ask(&mut looking, Mode::Check, "sloww", "", 1).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("did you mean slow?"), "{unknown:?}");
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_of_each_sidecar_is_each_ones_own_and_needs_no_redis() {
    let mut cluster = Cluster::with_catalog("pace", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];
    for sidecar in &sidecars {
        let mut client = sidecar.client.clone();
        for left in (0..5).rev() {
            let answer = ask(&mut client, Mode::Consume, "own", "", 1).await.unwrap();
            assert_eq!((answer.allowed, answer.remaining), (true, left));
            assert_eq!(answer.decided_by(), DecidedBy::Memory);
        }
        let denied = ask(&mut client, Mode::Consume, "own", "", 1).await.unwrap();
        assert_eq!(denied.reason(), RateLimitReason::RateExceeded);
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
    // Without a Redis a global rate is of this sidecar too: there is nobody to share it with.
    cluster.without_redis(true);
    let alone = cluster.start("c").await;
    for _ in 0..3 {
        assert!(take(&alone, "login", "10.0.0.9", 1).await.allowed);
    }
    let denied = take(&alone, "login", "10.0.0.9", 1).await;
    assert_eq!(denied.reason(), RateLimitReason::RateExceeded);
    alone.process.stop();
}

async fn take_by_fallback(client: &mut Client, rate: &str, count: usize) -> Vec<RateLimitReason> {
    let mut reasons = vec![];
    for _ in 0..count {
        let answer = ask(client, Mode::Consume, rate, "", 1).await.unwrap();
        assert_eq!(answer.decided_by(), DecidedBy::Fallback, "{answer:?}");
        reasons.push(answer.reason());
    }
    reasons
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_rates_policy_decides_and_the_answer_says_so() {
    let mut cluster = Cluster::with_catalog("pace", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    assert_eq!(take(&sidecar, "api", "", 1).await.reason(), RateLimitReason::WithinLimit);
    assert_eq!(take(&sidecar, "strict", "", 1).await.reason(), RateLimitReason::WithinLimit);
    cluster.redis.kill().unwrap();
    let mut client = sidecar.client.clone();
    let began = Instant::now();
    for (rate, reason) in [
        ("api", RateLimitReason::AllowedByOutagePolicy),
        ("strict", RateLimitReason::DeniedByOutagePolicy),
    ] {
        // What is in hand may be spent a moment longer.
        loop {
            let answer = ask(&mut client, Mode::Consume, rate, "", 1).await.unwrap();
            if answer.decided_by() == DecidedBy::Fallback {
                assert_eq!(answer.reason(), reason);
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{answer:?}");
        }
    }
    // The policy lets a sidecar go on by itself, and not without bound.
    let small = take_by_fallback(&mut client, "weighted", 10).await;
    assert_eq!(small, [RateLimitReason::AllowedByOutagePolicy; 10]);
    let answer = ask(&mut client, Mode::Consume, "weighted", "", 1).await.unwrap();
    assert_eq!(answer.reason(), RateLimitReason::RateExceeded);
    assert_eq!((answer.decided_by(), answer.remaining), (DecidedBy::Fallback, 0));
    let own = ask(&mut client, Mode::Consume, "own", "", 1).await.unwrap();
    assert_eq!(own.reason(), RateLimitReason::WithinLimit);
    let metrics = cluster.get("a", "/metrics");
    let counted = metrics.lines().find(|line| {
        line.starts_with("tollgate_rate_checks_total")
            && line.contains("denied_by_outage_policy")
            && line.contains("fallback")
    });
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{counted:?}");
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_plan_holds_from_when_it_is_known_and_a_suspended_tenant_is_denied() {
    let (cluster, sidecars) = three().await;
    let pause = Duration::from_millis(5);
    hammer(&sidecars, &API, 6, pause, Duration::from_secs(1)).await;
    cluster.operate(&["tenant", "set-plan", "acme", "--plan", "small"]);
    for sidecar in &sidecars {
        let began = Instant::now();
        let mut client = sidecar.client.clone();
        while ask(&mut client, Mode::Check, "api", "", 1).await.unwrap().limit != 10 {
            assert!(began.elapsed() < Duration::from_secs(20), "the change never came");
            sleep(Duration::from_millis(20)).await;
        }
    }
    let small = Rate { name: "api", per_second: 10.0, burst: 2.0 };
    assert_used(&sidecars, &small, 6, pause, Duration::from_secs(3), 0.6).await;

    cluster.operate(&["tenant", "suspend", "acme"]);
    for sidecar in &sidecars {
        let began = Instant::now();
        let mut client = sidecar.client.clone();
        loop {
            let answer = ask(&mut client, Mode::Consume, "api", "", 1).await.unwrap();
            if answer.reason() == RateLimitReason::SubscriptionInactive {
                assert_eq!((answer.allowed, answer.remaining), (false, 0));
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "the suspension never came");
            sleep(Duration::from_millis(20)).await;
        }
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}
