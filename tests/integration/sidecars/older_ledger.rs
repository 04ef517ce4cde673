//! A Postgres that comes back with less than it had committed: a replica that had not heard of
//! everything took over, or a backup was restored.

use std::path::Path;

use tokio::task::block_in_place;
use tollgate::{dev::Postgres, proto::v1::Mode};

use super::{
    CATALOG,
    cluster::{Cluster, current_key},
};

const LIMIT: i64 = 10_000;
/// Consumed before, and after the ledger was copied.
const BEFORE: i64 = 100;
const AFTER: i64 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_ledger_lost_is_flushed_again_from_the_journal() {
    let (cluster, mut postgres) = Cluster::with_own_postgres("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let key = current_key(&cluster.world, "acme", "calls").await;
    let sidecar = cluster.start("a").await;
    assert!(sidecar.check(Mode::Consume, "acme", "calls", BEFORE).await.unwrap().allowed);
    cluster.wait_until_ledger_has(&key, BEFORE).await;
    let older = tempfile::tempdir().unwrap();
    block_in_place(|| {
        postgres.stop().unwrap();
        copy(&data(&postgres), older.path());
        postgres.start_again().unwrap();
    });
    assert!(sidecar.check(Mode::Consume, "acme", "calls", AFTER).await.unwrap().allowed);
    cluster.wait_until_ledger_has(&key, BEFORE + AFTER).await;

    block_in_place(|| {
        postgres.stop().unwrap();
        std::fs::remove_dir_all(data(&postgres)).unwrap();
        copy(older.path(), &data(&postgres));
        postgres.start_again().unwrap();
    });
    // It has nothing to flush, and finds out all the same.
    assert!(!sidecar.process.ended().success(), "{}", cluster.logged("a"));
    let told = "the ledger's mark of run";
    assert!(cluster.logged("a").contains(told), "{}", cluster.logged("a"));

    let again = cluster.start("a").await;
    cluster.wait_until_ledger_has(&key, BEFORE + AFTER).await;
    assert_eq!(again.spend_all("acme", "calls").await, LIMIT - BEFORE - AFTER);
    cluster.wait_until_ledger_has(&key, LIMIT).await;
    again.process.stop();
}

fn data(postgres: &Postgres) -> std::path::PathBuf {
    postgres.dir().join("data")
}

/// Copies a cluster with its owner, without whom Postgres refuses it.
fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-aT").args([from, to]).status().unwrap();
    assert!(status.success());
}
