//! What a reservation holds of a grant is settled there, also when the grant is over by then.

use std::time::{Duration, Instant};

use tollgate::{
    domain::{grant::GrantKind, ids::TenantId},
    proto::v1::{
        EmergencyReason, Mode, QuotaReason, RequestEmergencyUsageRequest,
        RequestEmergencyUsageResponse, UsageEvent,
    },
};
use tonic::Code;

use super::cluster::{Cluster, Sidecar, event};

const CATALOG: &str = r"
catalog: held
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
operations:
  - { name: rescue, meters: [calls], critical: true }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits: { calls: 100 }
    emergency:
      - { name: more, meter: calls, amount: 50, times: 1, price: { rate: 0.02 } }
";

/// Far longer than a mark that did not wait for holds would need to pass the end of the month.
const WAITED: Duration = Duration::from_secs(4);
/// A busy machine is given time.
const PATIENCE: Duration = Duration::from_secs(60);

async fn emergency(sidecar: &Sidecar) -> RequestEmergencyUsageResponse {
    let request = RequestEmergencyUsageRequest {
        tenant: "timely".into(),
        meter: "calls".into(),
        amount: 50,
        operation: "rescue".into(),
        reason: "patients wait".into(),
        requested_by: "dr.who".into(),
        idempotency_key: "first".into(),
        ..Default::default()
    };
    let started = Instant::now();
    loop {
        match sidecar.client.clone().request_emergency_usage(request.clone()).await {
            Ok(answer) => return answer.into_inner(),
            Err(status) if status.code() == Code::Unavailable && started.elapsed() < PATIENCE => {}
            Err(status) => panic!("{status:?}"),
        }
    }
}

async fn hold(sidecar: &Sidecar, amount: i64) -> String {
    let held = sidecar.check(Mode::Reserve, "timely", "calls", amount).await.unwrap();
    assert_eq!(held.reason(), QuotaReason::WithinGrant, "{held:?}");
    held.reservation.unwrap().id
}

/// Runs the jobs; the units carried over and the minor units charged for emergency usage, in all.
async fn bill(cluster: &Cluster) -> (Vec<u64>, Vec<i64>) {
    cluster.operate(&["job", "run", "rollover"]);
    cluster.operate(&["job", "run", "overages"]);
    let tenant = TenantId::new("timely").unwrap();
    let grants =
        cluster.world.ledger.grants(&tenant, jiff::Timestamp::UNIX_EPOCH, true).await.unwrap();
    let carried = grants.iter().filter(|stored| stored.grant.kind == GrantKind::Rollover);
    let charges = cluster.world.charges().await;
    let charged = charges.iter().filter(|charge| charge.kind == "emergency");
    (
        carried.map(|stored| stored.grant.amount).collect(),
        charged.map(|charge| charge.amount.minor).collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_of_a_grant_that_is_over_is_billed_and_not_carried_over() {
    let mut cluster = Cluster::with_catalog("held", CATALOG).await;
    cluster.flag("--enforcement-recall-wait-ms", "5000");
    cluster.flag("--enforcement-reservation-ttl-s", "3600");
    let create = ["tenant", "create", "timely", "--catalog", "held", "--plan", "basic"];
    cluster.operate(&[&create[..], &["--test-clock", "2026-03-10T00:00:00Z"]].concat());
    let grant = ["grant", "create", "timely", "--meter", "calls", "--amount", "40"];
    cluster.operate(
        &[&grant[..], &["--kind", "recurring", "--every", "month", "--rollover-cap", "100"]]
            .concat(),
    );
    let sidecar = cluster.start("a").await;

    // 100 of the plan and 10 of the monthly grant; the rest of it, and then the emergency's, is held.
    assert!(sidecar.check(Mode::Consume, "timely", "calls", 110).await.unwrap().allowed);
    let of_monthly = hold(&sidecar, 30).await;
    let granted = emergency(&sidecar).await;
    assert_eq!(granted.reason(), EmergencyReason::Granted, "{granted:?}");
    let of_emergency = hold(&sidecar, 50).await;

    cluster.operate(&["account", "clock", "timely", "--set", "2026-05-02T00:00:00Z"]);
    let started = Instant::now();
    while started.elapsed() < WAITED {
        assert_eq!(bill(&cluster).await, (vec![], vec![]), "it is held still");
    }
    let settled = |reservation_id, amount, key| UsageEvent {
        reservation_id,
        ..event("timely", "calls", amount, key)
    };
    let events = vec![settled(of_monthly, 25, "monthly"), settled(of_emergency, 45, "emergency")];
    sidecar.record(events).await.unwrap();

    // March's 5 that are left go over into April, and with April's own 40 into May.
    let expected = (vec![5, 45], vec![90]);
    let started = Instant::now();
    loop {
        let billed = bill(&cluster).await;
        if billed == expected {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{billed:?}");
    }
    assert_eq!(bill(&cluster).await, expected, "once");
    // What the plan, the monthly grant and what was carried over give anew in May.
    let started = Instant::now();
    loop {
        let remaining = sidecar.usage("timely", "calls").await.remaining;
        if remaining == 100 + 40 + 45 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{remaining} remain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sidecar.process.stop();
}
