//! Metrics in Prometheus' form.
//!
//! Names are `tollgate_<part>_<what>_<unit>`, counters end in `_total`. The number of series is
//! bounded: a label's values come from the code or from configuration, never from a caller, so that
//! neither tenants nor keys nor paths make series.

use std::fmt;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_process::Collector;

use super::{
    described,
    recorder::{Recorder, Shown},
};

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

/// The process's metrics.
#[derive(Clone)]
pub struct Metrics {
    registered: Shown,
    process: Collector,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Installs the recorder; once per process.
    pub fn install() -> Result<Self> {
        let recorder = recorder();
        let registered = recorder.shown();
        ::metrics::set_global_recorder(recorder).context("installing the metrics recorder")?;
        let process = Collector::default();
        process.describe();
        ::metrics::gauge!("tollgate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        described::describe_all();
        Ok(Self { registered, process })
    }

    /// All metrics in Prometheus' text format, those of the process itself as of now.
    pub fn render(&self) -> String {
        self.process.collect();
        self.registered.render()
    }
}

fn recorder() -> Recorder {
    Recorder::new(PrometheusBuilder::new().build_recorder(), bounds)
}

/// Upper bounds of a histogram's buckets: by its unit, which ends its name. Whatever is not named by
/// a unit counts something.
fn bounds(name: &str) -> &'static [f64] {
    match name.rsplit('_').next() {
        Some("seconds") => &SECONDS_BUCKETS,
        Some("bytes") => &BYTES_BUCKETS,
        _ => &COUNT_BUCKETS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_counts_get_buckets_and_never_quantiles() {
        let recorder = recorder();
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::histogram!("tollgate_test_seconds").record(0.000_002);
            ::metrics::histogram!("tollgate_test_events", "kind" => "a\"b").record(100.0);
        });
        let text = recorder.shown().render();
        assert!(text.contains("tollgate_test_seconds_bucket{le=\"0.000003\"} 1\n"), "{text}");
        assert!(text.contains("tollgate_test_seconds_sum 0.000002\n"), "{text}");
        assert!(text.contains("# TYPE tollgate_test_events histogram\n"), "{text}");
        let labelled = r#"tollgate_test_events_bucket{kind="a\"b",le="128"} 1"#;
        assert!(text.contains(labelled), "{text}");
        assert!(text.contains(r#"tollgate_test_events_count{kind="a\"b"} 1"#), "{text}");
        assert!(!text.contains("quantile"), "{text}");
    }

    #[test]
    fn a_counter_is_one_wherever_and_whenever_it_is_registered() {
        let recorder = recorder();
        let count = |by| {
            ::metrics::with_local_recorder(&recorder, || {
                ::metrics::counter!("tollgate_test_total", "kind" => "a").increment(by);
            });
        };
        count(1);
        std::thread::scope(|scope| {
            scope.spawn(|| count(2));
        });
        let shown = recorder.shown();
        assert!(shown.render().contains(r#"tollgate_test_total{kind="a"} 3"#));
        count(4);
        assert!(shown.render().contains(r#"tollgate_test_total{kind="a"} 7"#));
    }
}
