//! More tenants than anybody has.

use tollgate::proto::v1::{
    AnyCheck, CheckBatchRequest, CheckQuotaRequest, Mode, any_check::Check,
    any_check_result::Result as Answer,
};

use super::served::Served;
use crate::sidecars::cluster::quota;

const TENANTS: usize = 100_000;
const BATCH: usize = 5_000;
/// What all of them may leave behind in memory, bytes: unknown names are remembered for a second.
const MEMORY_MAX: usize = 200 << 20;

fn check(request: CheckQuotaRequest) -> AnyCheck {
    AnyCheck { check: Some(Check::Quota(request)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_tenants_that_nobody_knows_leave_nothing_behind() {
    let served = Served::start(&[]).await;
    served.expect_others_served().await;
    let before = served.memory();
    for round in 0..TENANTS / BATCH {
        let names = (0..BATCH).map(|number| format!("stranger-{round}-{number}"));
        let checks = names.map(|name| check(quota(Mode::Consume, &name, "calls", 1)));
        let request = CheckBatchRequest { checks: checks.collect() };
        let answer = served.client().check_batch(request).await.unwrap().into_inner();
        assert_eq!(answer.results.len(), BATCH);
        for result in answer.results {
            assert!(
                matches!(&result.result, Some(Answer::Error(error)) if error.reason == "UNKNOWN_TENANT"),
                "{result:?}"
            );
        }
        served.expect_others_served().await;
    }
    let grown = served.memory().saturating_sub(before);
    eprintln!("{TENANTS} unknown tenants: {} MiB more", grown >> 20);
    assert!(grown < MEMORY_MAX, "{grown} bytes");
    // `probe` and no other.
    assert!(served.metric("tollgate_tenants_live") < 1.5);
    served.stop();
}
