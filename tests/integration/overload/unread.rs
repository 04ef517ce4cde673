//! A client that sends, and never reads what it is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use tollgate::proto::v1::{Mode, RecordUsageStreamRequest, WatchUsageRequest};
use tonic::transport::Endpoint;

use super::served::{PATIENCE, Served};
use crate::sidecars::cluster::{Client, event, quota};

/// More than what may be on its way before it is asked for.
const BATCHES: u64 = 10_000;
/// What such a client may take of the sidecar's memory, bytes.
const MEMORY_MAX: usize = 100 << 20;
/// Streams that watch usage, on one connection.
const WATCHERS: usize = 100;
/// Changes that they do not read of: many times what is on its way before it is asked for.
const CHANGES: i64 = 60;
/// How long nothing may be taken of the client before it is taken for held back.
const STANDSTILL: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_that_nobody_reads_hold_their_sender_back_and_nobody_else() {
    let served = Served::start(&[]).await;
    served.expect_others_served().await;
    let before = served.memory();
    let endpoint = Endpoint::from_shared(format!("http://{}", served.grpc)).unwrap();
    // Room for few answers, as a client has that is in trouble.
    let mut client = Client::new(endpoint.initial_stream_window_size(1 << 10).connect_lazy());
    let taken = Arc::new(AtomicU64::new(0));
    let counted = taken.clone();
    let batches = futures::stream::iter(1..=BATCHES).map(move |sequence| {
        counted.store(sequence, Ordering::Relaxed);
        let events = vec![event("acme", "calls", 1, &format!("{sequence:0>240}"))];
        RecordUsageStreamRequest { sequence, events, durability: 0 }
    });
    let answers = client.record_usage_stream(batches).await.unwrap().into_inner();
    let mut seen = 0;
    let standstill = async {
        while seen == 0 || taken.load(Ordering::Relaxed) != seen {
            seen = taken.load(Ordering::Relaxed);
            tokio::time::sleep(STANDSTILL).await;
        }
    };
    tokio::time::timeout(PATIENCE, standstill).await.expect("it goes on and on");
    let grown = served.memory().saturating_sub(before);
    eprintln!("{seen} batches of {BATCHES} were taken, unread: {} MiB more", grown >> 20);
    assert!(grown < MEMORY_MAX, "{grown} bytes");
    served.expect_others_served().await;

    let sequences: Vec<u64> = answers.map(|answer| answer.unwrap().sequence).collect().await;
    assert!(sequences.iter().copied().eq(1..=BATCHES), "each is acknowledged, in order");
    served.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_that_do_not_read_cost_little_and_then_learn_what_is_so() {
    let served = Served::start(&[]).await;
    served.expect_others_served().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", served.grpc)).unwrap();
    // Room for the first message and little more.
    let mut watching = Client::new(endpoint.initial_stream_window_size(1 << 8).connect_lazy());
    let often = Duration::from_millis(100);
    let mut unread = vec![];
    for _ in 0..WATCHERS {
        let request = WatchUsageRequest {
            tenant: "acme".into(),
            interval_min: Some(often.into()),
            ..WatchUsageRequest::default()
        };
        unread.push(watching.watch_usage(request).await.unwrap().into_inner());
    }
    let before = served.memory();
    let mut client = served.client();
    for _ in 0..CHANGES {
        client.check_quota(quota(Mode::Consume, "acme", "calls", 1)).await.unwrap();
        tokio::time::sleep(often).await;
    }
    let grown = served.memory().saturating_sub(before);
    eprintln!("{WATCHERS} watchers that read nothing: {} KiB more", grown >> 10);
    assert!(grown < MEMORY_MAX, "{grown} bytes");
    served.expect_others_served().await;

    for stream in &mut unread {
        let mut messages = 0;
        let told = async {
            loop {
                let message = stream.message().await.unwrap().expect("it goes on");
                messages += 1;
                if message.meters.iter().any(|meter| meter.used == CHANGES) {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("it never learns what is so");
        assert!(messages < CHANGES / 2, "{messages} messages were kept for who did not read them");
    }
    served.stop();
}
