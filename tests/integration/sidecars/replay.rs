//! Recorded usage through two sidecars, as fast as it goes: at quiet all of it has arrived, once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;
use tollgate::{
    domain::{cell_key::CellKey, ids::TenantId},
    store::keys::counter_name,
};

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, current_key},
};
use crate::{fixture::Processes, overages::world::at};

/// Where the accounts' clocks stand: just behind the end of each recording.
const LLM_CLOCK: &str = "2023-11-16T19:15:00Z";
pub(super) const WEB_CLOCK: &str = "2015-05-20T21:06:00Z";

/// The tenant of the model's calls.
const MODEL: &str = "replay-llm";

/// Documented totals of the recordings.
const CALLS: i64 = 8_819;
const TOKENS: i64 = 18_305_870;
pub(super) const REQUESTS: i64 = 10_000;
const REQUESTS_OF_0_BYTES: usize = 669;
pub(super) const BYTES: i64 = 2_747_282_740;

const QUIET_MAX: Duration = Duration::from_secs(60);

/// What one client of the access log asked for.
#[derive(Default)]
struct WebClient {
    requests: i64,
    bytes: i64,
}

#[derive(serde::Deserialize)]
struct WebRow {
    client: String,
    bytes: i64,
}

pub(super) fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn shipped_catalog(name: &str) -> String {
    let path = format!("{}/deploy/catalogs/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// The access log, by client.
fn web_clients() -> BTreeMap<String, WebClient> {
    let mut clients: BTreeMap<String, WebClient> = BTreeMap::new();
    let mut empty = 0;
    for row in csv::Reader::from_path(data("web-access.csv")).unwrap().into_deserialize() {
        let WebRow { client, bytes } = row.unwrap();
        let client = clients.entry(client).or_default();
        client.requests += 1;
        client.bytes += bytes;
        empty += usize::from(bytes == 0);
    }
    assert_eq!(empty, REQUESTS_OF_0_BYTES);
    clients
}

/// Stores with the clients on *hosting* and the model's caller on *assistant*, each at its time.
async fn cluster(hosting: &str, assistant: &str, clients: &BTreeMap<String, WebClient>) -> Cluster {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.apply("hosting", hosting).await;
    let clients = clients.keys().map(|client| (client.as_str(), "starter"));
    cluster.world.tenants_at(Some(at(WEB_CLOCK)), clients).await;
    cluster.world.apply("assistant", assistant).await;
    cluster.world.tenants_at(Some(at(LLM_CLOCK)), [(MODEL, "starter")]).await;
    cluster
}

/// `tollgate replay` against all of `sidecars`; its report.
pub(super) async fn replay(kind: &str, file: &str, sidecars: &[Sidecar], more: &[&str]) -> Value {
    let mut command = Processes::tollgate(&["replay", kind, &data(file), "--tenant", MODEL]);
    for sidecar in sidecars {
        command.args(["--endpoint", &sidecar.endpoint]);
    }
    command.args(more);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// (events, units, checks denied, units denied) of one meter in a report.
pub(super) fn reported(report: &Value, meter: &str) -> (i64, i64, i64, i64) {
    let of = |field: &str| report["meters"][meter][field].as_i64().unwrap();
    (of("events"), of("units"), of("denied"), of("units_denied"))
}

/// (units, events) of one meter in the ledger, over all tenants.
async fn ledger_has(cluster: &Cluster, meter: &str) -> (i64, i64) {
    let totals = cluster.world.ledger.meter_totals().await.unwrap();
    let found = totals.iter().find(|totals| totals.meter.as_str() == meter);
    found.map_or((0, 0), |totals| (totals.amount_sum, i64::try_from(totals.events).unwrap()))
}

/// Waits until the ledger has (units, events) of each meter, and fails if it ends elsewhere.
pub(super) async fn wait_until_ledger_has(cluster: &Cluster, expected: &[(&str, (i64, i64))]) {
    let started = Instant::now();
    for (meter, expected) in expected {
        loop {
            let now = ledger_has(cluster, meter).await;
            if now == *expected {
                break;
            }
            assert!(started.elapsed() < QUIET_MAX, "{meter}: {now:?}, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The counters in Redis.
struct Shared(redis::aio::MultiplexedConnection);

impl Shared {
    async fn of(cluster: &Cluster) -> Self {
        let client = redis::Client::open(cluster.redis.url()).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    /// What has been used of one counter by closed and by open runs.
    async fn used(&mut self, key: &CellKey) -> i64 {
        let mut command = redis::cmd("HMGET");
        command.arg(counter_name(key)).arg("b").arg("u");
        let (closed, open): (Option<i64>, Option<i64>) =
            command.query_async(&mut self.0).await.unwrap();
        closed.unwrap_or(0) + open.unwrap_or(0)
    }

    /// Waits until one counter has `used`, and fails if it ends elsewhere.
    async fn wait_until_used(&mut self, key: &CellKey, used: i64) {
        let started = Instant::now();
        loop {
            let now = self.used(key).await;
            if now == used {
                return;
            }
            assert!(started.elapsed() < QUIET_MAX, "{key}: Redis has {now}, not {used}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_usage_arrives_exactly_once_through_two_sidecars() {
    let clients = web_clients();
    let (hosting, assistant) = (shipped_catalog("hosting"), shipped_catalog("assistant"));
    let cluster = cluster(&hosting, &assistant, &clients).await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];

    let web = replay("web", "web-access.csv", &sidecars, &[]).await;
    let llm = replay("llm", "llm-code-trace.csv", &sidecars, &[]).await;
    assert_eq!(reported(&web, "requests"), (REQUESTS, REQUESTS, 0, 0), "{web}");
    assert_eq!(reported(&web, "bandwidth"), (REQUESTS, BYTES, 0, 0), "{web}");
    assert_eq!(reported(&llm, "tokens"), (CALLS, TOKENS, 0, 0), "{llm}");

    let totals = [
        ("tokens", (TOKENS, CALLS)),
        ("requests", (REQUESTS, REQUESTS)),
        ("bandwidth", (BYTES, REQUESTS)),
    ];
    wait_until_ledger_has(&cluster, &totals).await;
    counters_agree(&cluster, &clients).await;
    usage_answers_agree(&sidecars, &clients).await;

    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
    for (meter, expected) in totals {
        assert_eq!(ledger_has(&cluster, meter).await, expected, "{meter}, after the stop");
    }
    counters_agree(&cluster, &clients).await;
}

/// Every client's counter of a meter. All are on one schedule, so their windows have one label.
async fn client_keys(
    cluster: &Cluster,
    clients: &BTreeMap<String, WebClient>,
    meter: &str,
) -> Vec<CellKey> {
    let first = clients.keys().next().unwrap();
    let key = current_key(&cluster.world, first, meter).await;
    let of = |client: &String| CellKey { tenant: TenantId::new(client).unwrap(), ..key.clone() };
    clients.keys().map(of).collect()
}

/// Every client's counters in the ledger and in Redis have what the recording says.
async fn counters_agree(cluster: &Cluster, clients: &BTreeMap<String, WebClient>) {
    let mut redis = Shared::of(cluster).await;
    for (meter, of_client) in [
        ("requests", (|client| client.requests) as fn(&WebClient) -> i64),
        ("bandwidth", |client| client.bytes),
    ] {
        let keys = client_keys(cluster, clients, meter).await;
        let ledger = cluster.world.ledger.window_totals(&keys).await.unwrap();
        for ((key, client), totals) in keys.iter().zip(clients.values()).zip(ledger) {
            assert_eq!(totals.map(|totals| totals.used), Some(of_client(client)), "{key}");
            redis.wait_until_used(key, of_client(client)).await;
        }
    }
    let tokens = current_key(&cluster.world, MODEL, "tokens").await;
    redis.wait_until_used(&tokens, TOKENS).await;
}

/// Both sidecars answer what the recording says, for the busiest client and every fiftieth.
async fn usage_answers_agree(sidecars: &[Sidecar], clients: &BTreeMap<String, WebClient>) {
    let busiest = clients.iter().max_by_key(|(_, client)| client.bytes);
    for sidecar in sidecars {
        for (name, client) in clients.iter().step_by(50).chain(busiest) {
            sidecar.wait_until_used(name, "requests", client.requests).await;
            sidecar.wait_until_used(name, "bandwidth", client.bytes).await;
        }
        sidecar.wait_until_used(MODEL, "tokens", TOKENS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_limits_in_the_way_what_is_admitted_and_denied_adds_up() {
    const BYTES_MAX: i64 = 10_000_000;
    const TOKENS_MAX: i64 = 5_000_000;
    /// Beyond what any call of the recording generated, so that no call exceeds its hold.
    const RESERVE_GENERATED: &str = "4096";
    let clients = web_clients();
    let hosting = limited(
        "hosting",
        "      bandwidth: # 100 GB included: our choice
        limit: 100 GB
        enforcement: soft
        overage: 0.05
",
        &format!("      bandwidth: {BYTES_MAX}\n"),
    );
    let assistant = limited("assistant", "tokens: -1", &format!("tokens: {TOKENS_MAX}"));
    let cluster = cluster(&hosting, &assistant, &clients).await;
    let sidecars = [cluster.start("a").await, cluster.start("b").await];

    let web = replay("web", "web-access.csv", &sidecars, &["--verb", "consume"]).await;
    let more = ["--reserve-generated", RESERVE_GENERATED];
    let llm = replay("llm", "llm-code-trace.csv", &sidecars, &more).await;

    assert_eq!(reported(&web, "requests"), (REQUESTS, REQUESTS, 0, 0), "{web}");
    let (events, bytes, denied, bytes_denied) = reported(&web, "bandwidth");
    assert!(denied > 0, "{web}");
    assert_eq!((events + denied, bytes + bytes_denied), (REQUESTS, BYTES), "{web}");
    let (calls, tokens, calls_denied, _) = reported(&llm, "tokens");
    assert!(calls_denied > 0, "{llm}");
    assert_eq!(calls + calls_denied, CALLS, "{llm}");
    assert!(tokens <= TOKENS_MAX, "{llm}");

    let totals = [
        ("tokens", (tokens, calls)),
        ("requests", (REQUESTS, REQUESTS)),
        ("bandwidth", (bytes, events)),
    ];
    wait_until_ledger_has(&cluster, &totals).await;
    let keys = client_keys(&cluster, &clients, "bandwidth").await;
    for totals in cluster.world.ledger.window_totals(&keys).await.unwrap().into_iter().flatten() {
        assert!(totals.used <= BYTES_MAX, "{totals:?}");
    }
    for sidecar in &sidecars {
        sidecar.wait_until_used(MODEL, "tokens", tokens).await;
    }
    sidecars.into_iter().for_each(|sidecar| sidecar.process.stop());
    for (meter, expected) in totals {
        assert_eq!(ledger_has(&cluster, meter).await, expected, "{meter}, after the stop");
    }
}

/// A shipped catalog in which every `from` reads `to`.
fn limited(catalog: &str, from: &str, to: &str) -> String {
    let shipped = shipped_catalog(catalog);
    let limited = shipped.replace(from, to);
    assert_ne!(limited, shipped, "{catalog} has no {from:?}");
    limited
}
