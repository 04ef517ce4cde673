//! Metrics in Prometheus' form.
//!
//! Names are `tollgate_<part>_<what>_<unit>`, counters end in `_total`. The number of series is
//! bounded: a label's values come from the code or from configuration, never from a caller, so that
//! neither tenants nor keys nor paths make series.

use std::time::Duration;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use super::described;

/// Upper bounds in seconds for everything that takes time: from a check in memory (a microsecond)
/// over a sync (a millisecond) to a job (minutes).
const SECONDS_BUCKETS: [f64; 20] = [
    0.000_001, 0.000_003, 0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.002, 0.005, 0.01, 0.02,
    0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0,
];
/// Upper bounds for everything that is counted per batch.
const COUNT_BUCKETS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 8_192.0, 131_072.0];
/// Upper bounds in bytes.
const BYTES_BUCKETS: [f64; 8] = [64.0, 256.0, 1e3, 4e3, 16e3, 64e3, 1e6, 16e6];

/// How often samples that nobody has scraped are folded into their buckets.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The process's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    recorder: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Installs the recorder; once per process.
    pub fn install() -> Result<Self> {
        let recorder = builder()?.install_recorder().context("installing the metrics recorder")?;
        let process = Collector::default();
        process.describe();
        ::metrics::gauge!("tollgate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        described::describe_all();
        Ok(Self { recorder, process })
    }

    /// All metrics in Prometheus' text format, those of the process itself as of now.
    pub fn render(&self) -> String {
        self.process.collect();
        self.recorder.render()
    }

    /// Folds samples into their buckets; without it, they would pile up while nobody scrapes.
    pub fn run_upkeep(&self) {
        self.recorder.run_upkeep();
    }
}

fn builder() -> Result<PrometheusBuilder> {
    let suffixes: [(&str, &[f64]); 3] = [
        ("_seconds", &SECONDS_BUCKETS),
        ("_bytes", &BYTES_BUCKETS),
        ("_count_per_batch", &COUNT_BUCKETS),
    ];
    let mut builder = PrometheusBuilder::new();
    for (suffix, buckets) in suffixes {
        builder = builder.set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets)?;
    }
    // Whatever is not named by its unit counts something; quantile summaries cannot be added up
    // across processes.
    Ok(builder.set_buckets(&COUNT_BUCKETS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_counts_get_buckets_and_never_quantiles() {
        let recorder = builder().unwrap().build_recorder();
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::histogram!("tollgate_test_seconds").record(0.000_002);
            ::metrics::histogram!("tollgate_test_events").record(100.0);
        });
        let text = recorder.handle().render();
        assert!(text.contains("tollgate_test_seconds_bucket{le=\"0.000003\"} 1"), "{text}");
        assert!(text.contains("tollgate_test_events_bucket{le=\"128\"} 1"), "{text}");
        assert!(!text.contains("quantile"), "{text}");
    }
}
