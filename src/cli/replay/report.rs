//! What a replay came to.

use std::collections::BTreeMap;

use serde::Serialize;

/// Sums over the calls of a replay; those of several drivers are added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Calls of the recording that were carried out, whatever their answers.
    pub calls: u64,
    /// Requests that were repeated because their fate was unknown or the sidecar was away.
    pub retries: u64,
    /// Calls that were given up after the last retry, with nothing known of their fate.
    pub given_up: u64,
    /// Why the first of them was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_up_because: Option<String>,
    /// Per meter.
    pub meters: BTreeMap<String, MeterReport>,
}

/// One meter's part of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeterReport {
    /// Events acknowledged.
    pub events: u64,
    /// Units of the acknowledged events.
    pub units: i64,
    /// Checks that were denied.
    pub denied: u64,
    /// Units of the denied checks.
    pub units_denied: i64,
}

impl Report {
    /// Adds an acknowledged event.
    pub fn acknowledge(&mut self, meter: &str, units: i64) {
        let report = self.meter(meter);
        report.events += 1;
        report.units += units;
    }

    /// Adds a denied check.
    pub fn deny(&mut self, meter: &str, units: i64) {
        let report = self.meter(meter);
        report.denied += 1;
        report.units_denied += units;
    }

    /// Adds another driver's sums.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.retries += other.retries;
        self.given_up += other.given_up;
        self.given_up_because = self.given_up_because.take().or(other.given_up_because);
        for (meter, part) in other.meters {
            let report = self.meter(&meter);
            report.events += part.events;
            report.units += part.units;
            report.denied += part.denied;
            report.units_denied += part.units_denied;
        }
    }

    fn meter(&mut self, meter: &str) -> &mut MeterReport {
        self.meters.entry(meter.to_owned()).or_default()
    }
}
