//! Follows what changes in the ledger: plans, subscriptions, clocks.
//!
//! NOTIFY brings a change at once; the poll brings it surely.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{enforcement::engine::Engine, ledger::Ledger};

/// Pause before a lost listener is set up again.
const LISTEN_RETRY: Duration = Duration::from_secs(1);

/// Follows until `stop`.
pub async fn follow(engine: Arc<Engine>, ledger: Ledger, poll: Duration, stop: CancellationToken) {
    let (hint, mut hinted) = tokio::sync::watch::channel(());
    let listener = listen(ledger, hint);
    let follower = async {
        loop {
            take_in(&engine).await;
            tokio::select! {
                () = sleep(poll) => {}
                _ = hinted.changed() => {}
            }
        }
    };
    tokio::select! {
        () = listener => {}
        () = follower => {}
        () = stop.cancelled() => {}
    }
}

async fn take_in(engine: &Engine) {
    loop {
        match engine.directory.follow().await {
            Ok((counters, has_more)) => {
                // A lowered ceiling has to be told, so that escrow comes back.
                counters.iter().for_each(|counter| {
                    counter.slow().holder.look();
                    engine.leasing.wake(counter);
                });
                engine.alerts.look_at(counters.iter().map(|counter| counter.key.clone()));
                if !has_more {
                    metrics::gauge!("tollgate_changes_stale").set(0.0);
                    return;
                }
            }
            Err(error) => {
                metrics::gauge!("tollgate_changes_stale").set(1.0);
                tracing::debug!(%error, "cannot follow changes now");
                return;
            }
        }
    }
}

async fn listen(ledger: Ledger, hint: tokio::sync::watch::Sender<()>) {
    loop {
        if let Ok(mut listener) = ledger.listen_changes().await {
            while listener.next().await.is_ok() {
                hint.send_replace(());
            }
        }
        sleep(LISTEN_RETRY).await;
    }
}
