//! Hands recall hints to the holders that they concern.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    domain::cell_key::CellKey,
    enforcement::{directory::Directory, leasing::Leasing},
    leases::message::Recall,
};

/// Listens until `stop`. A hint that is lost costs time, never correctness.
pub async fn listen(directory: Arc<Directory>, leasing: Arc<Leasing>, stop: CancellationToken) {
    let on_recall = |key: CellKey, recall: Recall| {
        let state = directory.known(&key.tenant);
        if let Some(counter) = state.and_then(|state| state.counter(&key)) {
            counter.slow().holder.hint(leasing.seed.run, &recall);
            leasing.wake(&counter);
        }
    };
    leasing.counters.listen(stop, on_recall).await;
}
