//! What a run found, as JSON and as a table.

use std::time::Duration;

use serde::Serialize;

use crate::plan::Tally;

/// One run's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// What was measured.
    pub name: String,
    pub requests: u64,
    pub denied: u64,
    pub failed: u64,
    pub failure: Option<String>,
    pub seconds: f64,
    pub requests_per_second: f64,
    pub events_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// CPU time of the server's process by request; absent when its process is not known.
    pub server_cpu_us_per_request: Option<f64>,
    pub client_cpu_us_per_request: f64,
}

/// CPU time used while measuring.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub server: Option<Duration>,
    pub client: Duration,
}

impl Figures {
    /// Figures of what was tallied in `elapsed`.
    pub fn new(name: &str, tally: &Tally, elapsed: Duration, events: u64, cpu: Cpu) -> Self {
        let seconds = elapsed.as_secs_f64();
        let requests_per_second = tally.answered as f64 / seconds;
        let us = |ns: u64| ns as f64 / 1_000.0;
        let per_request = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (tally.answered.max(1)) as f64;
        Self {
            name: name.to_owned(),
            requests: tally.answered,
            denied: tally.denied,
            failed: tally.failed,
            failure: tally.failure.clone(),
            seconds,
            requests_per_second,
            events_per_second: requests_per_second * events as f64,
            p50_us: us(tally.latency_ns.value_at_quantile(0.5)),
            p99_us: us(tally.latency_ns.value_at_quantile(0.99)),
            p999_us: us(tally.latency_ns.value_at_quantile(0.999)),
            max_us: us(tally.latency_ns.max()),
            server_cpu_us_per_request: cpu.server.map(per_request),
            client_cpu_us_per_request: per_request(cpu.client),
        }
    }
}

/// A markdown table, one row for each run.
pub fn table(rows: &[Figures]) -> String {
    let mut text = String::from(
        "| | requests/s | events/s | p50 µs | p99 µs | p99.9 µs | server CPU µs/request | denied \
         | failed |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for row in rows {
        let cpu = row.server_cpu_us_per_request.map_or("?".to_owned(), |cpu| format!("{cpu:.1}"));
        text += &format!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {cpu} | {} | {} |\n",
            row.name,
            row.requests_per_second,
            row.events_per_second,
            row.p50_us,
            row.p99_us,
            row.p999_us,
            row.denied,
            row.failed,
        );
    }
    text
}
