//! Callers that open a stream and do not read what it answers.

use std::time::{Duration, Instant};

use futures::{StreamExt, future::join_all};
use tollgate::proto::v1::{
    AnyCheck, CheckQuotaRequest, CheckStreamRequest, Mode, any_check::Check,
    any_check_result::Result as Answer,
};
use tonic::transport::Endpoint;

use super::cluster::{Client, Cluster, Sidecar, current_key, quota};

const CATALOG: &str = r"
catalog: proving
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: month }
plans:
  - name: basic
    prices: { monthly: 0 }
    limits: { calls: 10000 }
";
const SENT: u64 = 2_000;
/// Of what was sent, what others repeat meanwhile.
const REPEATED: u64 = 1_000;

fn keyed(number: u64) -> CheckQuotaRequest {
    CheckQuotaRequest {
        idempotency_key: format!("key-{number}"),
        ..quota(Mode::Consume, "acme", "calls", 1)
    }
}

/// Waits until the sidecar has read and decided as much of the stream as it does unasked.
async fn wait_until_decided(sidecar: &Sidecar) {
    let began = Instant::now();
    loop {
        let look = sidecar.check(Mode::Check, "acme", "calls", 1).await.unwrap();
        if look.used >= 256 {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{look:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_read_keeps_nobody_elses_calls_waiting() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    // A connection of its own, as another process would have, with room for some of the answers.
    let endpoint = Endpoint::from_shared(sidecar.endpoint.clone())
        .unwrap()
        .initial_stream_window_size(16 << 10);
    let mut unread = Client::new(endpoint.connect_lazy());
    let checks: Vec<_> = (1..=SENT)
        .map(|id| {
            let check = Some(AnyCheck { check: Some(Check::Quota(keyed(id))) });
            CheckStreamRequest { id, check }
        })
        .collect();
    let answers = unread.check_stream(futures::stream::iter(checks)).await.unwrap().into_inner();
    wait_until_decided(&sidecar).await;

    let repeats = (1..=REPEATED).map(|number| {
        let mut client = sidecar.client.clone();
        async move { client.check_quota(keyed(number)).await }
    });
    // Each has the client's 30 s.
    for (number, repeat) in (1..).zip(join_all(repeats).await) {
        let answer = repeat.unwrap_or_else(|status| panic!("key-{number}: {status}"));
        assert!(answer.into_inner().allowed, "key-{number}");
    }

    let answers: Vec<_> = answers.map(|answer| answer.unwrap()).collect().await;
    assert_eq!(answers.len() as u64, SENT);
    for answer in answers {
        let result = answer.result.unwrap().result.unwrap();
        assert!(matches!(&result, Answer::Quota(quota) if quota.allowed), "{result:?}");
    }
    let calls = current_key(&cluster.world, "acme", "calls").await;
    cluster.wait_until_ledger_has(&calls, SENT as i64).await;
    sidecar.process.stop();
}
