//! Records usage over the wire until there is enough of it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tollgate::proto::{
    time,
    v1::{Durability, RecordUsageRequest, UsageEvent},
};
use uuid::Uuid;

use super::{sidecar::Client, stage::tenant};

/// Events in one RecordUsage.
pub const BATCH_EVENTS: u64 = 1_000;
/// Who send, each one batch after the other.
const SENDERS: usize = 8;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What is recorded: each batch goes round all tenants, and lies in one hour.
#[derive(Clone, Debug)]
pub struct Recording {
    pub meter: &'static str,
    /// A divisor of [`BATCH_EVENTS`], so that all get the same.
    pub tenants: u64,
    /// Each event has a UUID of version 7 as its idempotency key.
    pub is_keyed: bool,
    /// When the batches are, by turns.
    pub times: Vec<Timestamp>,
}

impl Recording {
    /// Batches lie in the present hour and so many before it, by turns.
    pub fn hours_until(now: Timestamp, hours: u32) -> Vec<Timestamp> {
        (0..hours).map(|back| now - HOUR * back.cast_signed()).collect()
    }

    fn batch(&self, number: u64) -> RecordUsageRequest {
        let time = self.times.get(number as usize % self.times.len().max(1)).map(wire_time);
        let event = |place| UsageEvent {
            tenant: tenant((place % self.tenants) as usize),
            meter: self.meter.to_owned(),
            amount: Some(1),
            idempotency_key: if self.is_keyed { Uuid::now_v7().to_string() } else { String::new() },
            time,
            ..Default::default()
        };
        let events = (0..BATCH_EVENTS).map(event).collect();
        // It need not survive the host, only what is done to the processes.
        RecordUsageRequest { events, durability: Durability::Written.into() }
    }
}

fn wire_time(at: &Timestamp) -> time::Timestamp {
    time::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// Records batches until `is_enough` of so many acknowledged events; says how many these were when
/// nothing was in flight any more.
pub async fn record(
    client: &Client,
    recording: &Recording,
    is_enough: impl Fn(u64) -> bool + Send + Sync + 'static,
) -> anyhow::Result<u64> {
    let (next, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let is_enough = Arc::new(is_enough);
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let (mut client, recording) = (client.clone(), recording.clone());
        let (next, acknowledged) = (next.clone(), acknowledged.clone());
        let is_enough = is_enough.clone();
        senders.spawn(async move {
            while !is_enough(acknowledged.load(Ordering::Relaxed)) {
                let batch = recording.batch(next.fetch_add(1, Ordering::Relaxed));
                client.record_usage(batch).await?;
                acknowledged.fetch_add(BATCH_EVENTS, Ordering::Relaxed);
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender?.context("recording")?;
    }
    Ok(acknowledged.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_batch_gives_every_tenant_the_same_and_every_event_a_key_of_its_own() {
        let times = Recording::hours_until(Timestamp::UNIX_EPOCH + HOUR * 5, 2);
        let recording = Recording { meter: "calls", tenants: 100, is_keyed: true, times };
        let (first, second) = (recording.batch(0), recording.batch(1));
        let of = |number: usize| {
            let is_its = |event: &&UsageEvent| event.tenant == tenant(number);
            first.events.iter().filter(is_its).count()
        };
        assert_eq!((of(0), of(99), of(100)), (10, 10, 0));
        let all = first.events.iter().chain(&second.events);
        let keys: BTreeSet<_> = all.map(|event| &event.idempotency_key).collect();
        assert_eq!(keys.len(), 2_000);
        let second_of = |batch: &RecordUsageRequest| batch.events[0].time.map(|time| time.seconds);
        assert_eq!((second_of(&first), second_of(&second)), (Some(18_000), Some(14_400)));
    }
}
