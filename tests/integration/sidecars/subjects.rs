//! Limits that hold for each subject of a tenant.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tollgate::proto::v1::{CheckQuotaRequest, Mode, QuotaReason};

use super::cluster::{Cluster, quota};

const SUBJECTS: usize = 1_000;
const LIMIT: i64 = 5;
/// Subjects asked for at a time.
const AT_ONCE: usize = 32;
const QUIET_MAX: Duration = Duration::from_secs(60);

const CATALOG: &str = r"
catalog: listed
title: Listed
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: photos, title: Photos, kind: level, unit: photo, subject: listing }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits: { calls: 100, photos: { limit: 5, per_subject: true } }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_subjects_of_one_tenant_each_have_exactly_their_limit() {
    let mut cluster = Cluster::with_catalog("listed", CATALOG).await;
    cluster.flag("--enforcement-recall-wait-ms", "8000");
    cluster.world.tenant("acme", "basic").await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
    let admitted: Vec<i64> = stream::iter(0..SUBJECTS)
        .map(|number| {
            // All sidecars at once, each until it denies.
            let asking = sidecars.iter().map(|sidecar| {
                let mut client = sidecar.client.clone();
                async move {
                    let (mut admitted, began) = (0, Instant::now());
                    loop {
                        let request = CheckQuotaRequest {
                            subject: format!("listing-{number}"),
                            ..quota(Mode::Consume, "acme", "photos", 1)
                        };
                        let answer = client.check_quota(request).await.unwrap().into_inner();
                        match answer.reason() {
                            QuotaReason::WithinLimit => admitted += 1,
                            QuotaReason::LimitExceeded => return admitted,
                            // A thousand counters at once on a busy machine: not a proof, ask again.
                            QuotaReason::DeniedByOutagePolicy => {
                                assert!(began.elapsed() < QUIET_MAX, "the counters are away");
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
            });
            let asking = futures::future::join_all(asking.collect::<Vec<_>>());
            async move { asking.await.into_iter().sum::<i64>() }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    assert_eq!(admitted, [LIMIT; SUBJECTS]);
    // The ledger has each of them as well.
    let started = Instant::now();
    loop {
        let (subjects, least, most): (i64, Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT count(*), min(used), max(used) FROM window_totals
             WHERE tenant = 'acme' AND meter = 'photos'",
        )
        .fetch_one(&cluster.world.pool)
        .await
        .unwrap();
        if (subjects, least, most) == (1_000, Some(LIMIT), Some(LIMIT)) {
            break;
        }
        assert!(started.elapsed() < QUIET_MAX, "{subjects} subjects, {least:?} to {most:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
}
