//! Where all metrics are registered: the exporter's recorder, with counters and histograms that
//! threads write to beside each other.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_exporter_prometheus::{
    PrometheusHandle, PrometheusRecorder,
    formatting::{sanitize_label_key, sanitize_label_value, write_help_line, write_type_line},
};

use super::{
    histogram::{BucketHistogram, Snapshot},
    laned_counter::LanedCounter,
};

/// Upper bounds of the buckets of a histogram, by its name.
pub type Bounds = fn(&str) -> &'static [f64];

/// Registers metrics.
pub struct Recorder {
    exporter: PrometheusRecorder,
    bounds: Bounds,
    registered: Arc<Registered>,
}

/// What was registered, but for gauges, which the exporter keeps.
#[derive(Default)]
struct Registered {
    /// Held to look up or add one.
    counters: Mutex<HashMap<Key, Arc<LanedCounter>>>,
    /// By name; held to look up or add one, or to copy the list.
    histograms: Mutex<BTreeMap<String, Family>>,
}

/// Histograms of one name.
#[derive(Clone, Default)]
struct Family {
    description: Option<SharedString>,
    /// By their labels, in Prometheus' form.
    by_labels: BTreeMap<String, Arc<BucketHistogram>>,
}

/// Shows what was registered.
#[derive(Clone)]
pub struct Shown {
    exporter: PrometheusHandle,
    registered: Arc<Registered>,
}

impl Recorder {
    /// Counters and gauges are shown by `exporter`.
    pub fn new(exporter: PrometheusRecorder, bounds: Bounds) -> Self {
        Self { exporter, bounds, registered: Arc::default() }
    }

    /// What shows all that is registered here.
    pub fn shown(&self) -> Shown {
        Shown { exporter: self.exporter.handle(), registered: self.registered.clone() }
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_counter(name, unit, description);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_gauge(name, unit, description);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        let mut histograms = lock(&self.registered.histograms);
        histograms.entry(name.as_str().to_owned()).or_default().description = Some(description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let mut counters = lock(&self.registered.counters);
        let new = || Arc::new(LanedCounter::new(self.exporter.register_counter(key, metadata)));
        let counter = match counters.get(key) {
            Some(known) => known.clone(),
            None => counters.entry(key.to_retained()).or_insert_with(new).clone(),
        };
        Counter::from_arc(counter)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut histograms = lock(&self.registered.histograms);
        let family = histograms.entry(key.name().to_owned()).or_default();
        let new = || Arc::new(BucketHistogram::new((self.bounds)(key.name())));
        Histogram::from_arc(family.by_labels.entry(labels(key)).or_insert_with(new).clone())
    }
}

impl Shown {
    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        lock(&self.registered.counters).values().for_each(|counter| counter.tell());
        let mut text = self.exporter.render();
        // Copied: whoever registers one meanwhile does not wait until all are written.
        let histograms = lock(&self.registered.histograms).clone();
        for (name, family) in &histograms {
            family.write(name, &mut text);
        }
        text
    }
}

impl Family {
    fn write(&self, name: &str, text: &mut String) {
        if self.by_labels.is_empty() {
            return;
        }
        if let Some(description) = &self.description {
            write_help_line(text, name, None, None, description);
        }
        write_type_line(text, name, None, None, "histogram");
        for (labels, histogram) in &self.by_labels {
            // A string takes whatever is written to it.
            let _ = write_histogram(text, name, labels, &histogram.snapshot());
        }
        text.push('\n');
    }
}

fn write_histogram(
    text: &mut String,
    name: &str,
    labels: &str,
    snapshot: &Snapshot,
) -> std::fmt::Result {
    let Snapshot { cumulative, count, sum } = snapshot;
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, up_to) in cumulative {
        writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {up_to}")?;
    }
    writeln!(text, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
    let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    writeln!(text, "{name}_sum{labels} {sum}")?;
    writeln!(text, "{name}_count{labels} {count}")
}

/// A key's labels in Prometheus' form.
fn labels(key: &Key) -> String {
    let label = |label: &metrics::Label| {
        format!("{}=\"{}\"", sanitize_label_key(label.key()), sanitize_label_value(label.value()))
    };
    key.labels().map(label).collect::<Vec<_>>().join(",")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is registered is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
