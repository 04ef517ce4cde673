//! Recall hints by pub/sub. Hints may be lost: every answer says the same.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    connection::Connections,
    error::StoreError,
    keys::{RECALL_CHANNEL, counter_of_name},
};
use crate::{domain::cell_key::CellKey, leases::message::Recall};

/// Pause between attempts to subscribe.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_millis(200);

/// Hands every hint to `on_recall` until `token` is cancelled.
pub(super) async fn listen(
    connections: &Connections,
    token: &CancellationToken,
    on_recall: impl Fn(CellKey, Recall),
) {
    let listening = async {
        loop {
            if let Err(error) = subscription(connections, &on_recall).await {
                tracing::debug!(%error, "cannot listen for recalls");
            }
            sleep(RESUBSCRIBE_PAUSE).await;
        }
    };
    token.run_until_cancelled(listening).await;
}

/// One subscription, until its connection ends.
async fn subscription(
    connections: &Connections,
    on_recall: &impl Fn(CellKey, Recall),
) -> Result<(), StoreError> {
    let patience_ms = connections.config().connect_timeout_ms;
    let patience = Duration::from_millis(patience_ms);
    let heartbeat = Duration::from_millis(connections.config().heartbeat_ms);
    let subscribe = async {
        let mut pubsub = connections.client().get_async_pubsub().await?;
        pubsub.subscribe(RECALL_CHANNEL).await?;
        Ok::<_, StoreError>(pubsub)
    };
    let timed_out = || StoreError::Timeout(patience_ms);
    let pubsub = timeout(patience, subscribe).await.unwrap_or_else(|_| Err(timed_out()))?;
    let (mut sink, mut messages) = pubsub.split();
    loop {
        let message = match timeout(heartbeat, messages.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(_) => {
                // A connection that died silently would be listened to for ever.
                let pong = timeout(patience, sink.ping::<redis::Value>()).await;
                pong.map_err(|_| timed_out())??;
                continue;
            }
        };
        connections.metrics.hints.increment(1);
        let payload: String = message.get_payload()?;
        // Another program's message, or one of another version: not ours to judge.
        if let Some((key, recall)) = read(&payload) {
            on_recall(key, recall);
        }
    }
}

fn read(payload: &str) -> Option<(CellKey, Recall)> {
    let mut parts = payload.splitn(4, ' ');
    let ticket = parts.next()?.parse().ok()?;
    let first = match parts.next()? {
        "-" => None,
        run => Some(run.parse().ok()?),
    };
    let by = parts.next()?.parse().ok()?;
    let key = counter_of_name(parts.next()?)?;
    Some((key, Recall { ticket, first, by }))
}
