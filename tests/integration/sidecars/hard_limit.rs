//! I1 and I2, through the public interface: never over, and nothing stranded.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use futures::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tollgate::{
    domain::cell_key::CellKey,
    proto::v1::{Mode, QuotaReason},
};

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key, quota},
};

const LIMIT: i64 = 10_000;
const CLIENTS: u64 = 64;

/// Longer than any hiccup of a busy machine: whoever holds something unspent is heard, so that a
/// denial is a proof.
const RECALL_WAIT_MS: &str = "5000";

/// Three sidecars, and the counter that is hammered.
struct Hammered {
    cluster: Arc<Cluster>,
    sidecars: [Sidecar; 3],
    key: CellKey,
    admitted: Arc<AtomicI64>,
}

impl Hammered {
    async fn start() -> Self {
        let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
        cluster.flag("--enforcement-recall-wait-ms", RECALL_WAIT_MS);
        cluster.world.tenant("acme", "basic").await;
        let sidecars =
            [cluster.start("a").await, cluster.start("b").await, cluster.start("c").await];
        let key = current_key(&cluster.world, "acme", "calls").await;
        Self { cluster: Arc::new(cluster), sidecars, key, admitted: Arc::default() }
    }

    /// Has every client consume amounts up to `amount_max` until it is denied; the smallest amount
    /// that was denied.
    ///
    /// At every denial's return, what is neither taken nor held is less than what was asked for.
    async fn hammer(&self, amount_max: i64) -> i64 {
        let clients = (0..CLIENTS).map(|number| {
            let mut client = self.sidecars[number as usize % 3].client.clone();
            let (cluster, key) = (self.cluster.clone(), self.key.clone());
            let admitted = self.admitted.clone();
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(number);
                loop {
                    let amount = random.random_range(1..=amount_max);
                    let request = quota(Mode::Consume, "acme", "calls", amount);
                    let answer = client.check_quota(request).await.unwrap().into_inner();
                    if !answer.allowed {
                        assert_eq!(answer.reason(), QuotaReason::LimitExceeded);
                        let counter = cluster.inspect(&key).await.unwrap();
                        let free = LIMIT - counter.taken();
                        assert!(0 <= free && free < amount, "{amount} denied: {counter:?}");
                        return amount;
                    }
                    admitted.fetch_add(amount, Ordering::SeqCst);
                }
            })
        });
        let denied = join_all(clients.collect::<Vec<_>>()).await;
        denied.into_iter().map(|denied| denied.unwrap()).min().unwrap()
    }

    fn admitted(&self) -> i64 {
        self.admitted.load(Ordering::SeqCst)
    }

    /// Everywhere the same is told as the clients know.
    async fn all_agree(&self) {
        let admitted = self.admitted();
        self.cluster.wait_until_ledger_has(&self.key, admitted).await;
        self.cluster.wait_until_redis_has(&self.key, admitted).await;
        for sidecar in &self.sidecars {
            sidecar.wait_until_used("acme", "calls", admitted).await;
        }
    }

    fn stop(self) {
        self.sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_limit_is_admitted_through_three_sidecars() {
    let hammered = Hammered::start().await;
    hammered.hammer(1).await;
    assert_eq!(hammered.admitted(), LIMIT);
    hammered.all_agree().await;
    hammered.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_varied_amounts_what_remains_is_less_than_what_was_denied_last() {
    let hammered = Hammered::start().await;
    let smallest_denied = hammered.hammer(50).await;
    let remains = LIMIT - hammered.admitted();
    assert!(remains >= 0, "{} admitted", hammered.admitted());
    assert!(remains < smallest_denied, "{remains} remain, {smallest_denied} was denied");
    hammered.all_agree().await;
    // Whatever remains can still be had in one piece, wherever it is asked for, and nothing beyond.
    let [first, rest @ ..] = &hammered.sidecars;
    if remains > 0 {
        let answer = first.check(Mode::Consume, "acme", "calls", remains).await.unwrap();
        assert!(answer.allowed, "{answer:?}");
    }
    for sidecar in rest {
        let answer = sidecar.check(Mode::Consume, "acme", "calls", 1).await.unwrap();
        assert!(!answer.allowed, "{answer:?}");
    }
    hammered.stop();
}
