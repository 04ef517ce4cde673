//! More calls than are let in at a time.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tollgate::proto::v1::{CheckQuotaRequest, Mode};
use tonic::Code;
use tonic_types::StatusExt;

use super::served::Served;
use crate::sidecars::cluster::{Client, quota};

/// Calls that the sidecar lets in at a time.
const CALLS_MAX: usize = 64;
const CONNECTIONS: usize = 8;
/// How long each part of the storm lasts.
const PART: Duration = Duration::from_secs(3);
/// What the sidecar may have taken in the end, bytes: many times what it does.
const MEMORY_MAX: usize = 600 << 20;

fn consume() -> CheckQuotaRequest {
    quota(Mode::Consume, "acme", "calls", 1)
}

/// What became of calls, and how long each took.
#[derive(Default)]
struct Tally {
    admitted: Vec<Duration>,
    refused: Vec<Duration>,
}

impl Tally {
    /// One call. It is admitted, or refused as overload; nothing else may come of it.
    async fn call(mut client: Client) -> (bool, Duration) {
        let began = Instant::now();
        match client.check_quota(consume()).await {
            Ok(answer) => assert!(answer.into_inner().allowed),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                let reason = status.get_details_error_info().map(|info| info.reason);
                assert_eq!(reason.as_deref(), Some("OVERLOADED"), "{status}");
                return (false, began.elapsed());
            }
        }
        (true, began.elapsed())
    }

    fn note(&mut self, (is_admitted, took): (bool, Duration)) {
        if is_admitted { self.admitted.push(took) } else { self.refused.push(took) }
    }

    fn told(&mut self, what: &str) {
        let total = self.admitted.len() + self.refused.len();
        let share = 100.0 * self.refused.len() as f64 / total.max(1) as f64;
        let ((a50, a99), (r50, r99)) = (at(&mut self.admitted), at(&mut self.refused));
        eprintln!(
            "{what}: {total} calls, {share:.0} % refused; admitted p50 {a50:?} p99 {a99:?}, refused \
             p50 {r50:?} p99 {r99:?}"
        );
    }
}

/// The median and the 99th percentile.
fn at(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    (at(50), at(99))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_bound_are_refused_at_once_and_it_recovers() {
    let served = Served::start(&["--grpc-calls-max", &CALLS_MAX.to_string()]).await;
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| served.client()).collect();

    // As much as it can: as many callers as are let in, each with one call at a time.
    let began = Instant::now();
    let callers = (0..CALLS_MAX / 2).map(|number| {
        let client = clients[number % CONNECTIONS].clone();
        async move {
            let mut tally = Tally::default();
            while began.elapsed() < PART {
                tally.note(Tally::call(client.clone()).await);
            }
            tally
        }
    });
    let mut calm = Tally::default();
    for part in join_all(callers).await {
        calm.admitted.extend(part.admitted);
        calm.refused.extend(part.refused);
    }
    let each_second = calm.admitted.len() as f64 / PART.as_secs_f64();
    calm.told(&format!("1x ({each_second:.0} calls a second)"));
    assert!(calm.refused.is_empty(), "as many as are let in are let in");

    // Twice as much, whether it is answered or not, in gusts of several times what is let in.
    let gust = CALLS_MAX * 8;
    let pause = Duration::from_secs_f64(gust as f64 / (2.0 * each_second));
    let (began, mut calls) = (Instant::now(), vec![]);
    while began.elapsed() < PART {
        let ready = clients.iter().cycle().take(gust).cloned();
        calls.extend(ready.map(|client| tokio::spawn(Tally::call(client))));
        tokio::time::sleep(pause).await;
    }
    served.expect_alive();
    let mut storm = Tally::default();
    for call in calls {
        storm.note(call.await.unwrap());
    }
    storm.told("2x");
    let memory = served.memory();
    eprintln!("memory after the storm: {} MiB", memory >> 20);
    assert!(!storm.refused.is_empty(), "nothing was refused");
    assert!(!storm.admitted.is_empty(), "nothing was admitted");
    assert!(memory < MEMORY_MAX, "{memory} bytes");
    let told = served.metric("tollgate_grpc_calls_shed_total");
    assert!((told - storm.refused.len() as f64).abs() < 0.5, "{told} are told");

    // Afterwards it is as before.
    for _ in 0..100 {
        assert!(Tally::call(clients[0].clone()).await.0);
    }
    served.stop();
}
