//! When jobs are due, and how long they remember.

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{cleanup, overages, rollover, schedule::Schedule};
use crate::domain::invalid::Invalid;

/// Settings of the worker's jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobsConfig {
    /// IANA name of the zone that the schedules are read in.
    pub zone: String,
    /// When overages are charged, as a cron pattern: minute, hour, day of month, month, weekday.
    pub overages: String,
    /// When unused parts of recurring grants are carried over, as a cron pattern.
    pub rollover: String,
    /// When old data is cleaned up, as a cron pattern.
    pub cleanup: String,
    /// How long the history of runs is kept, in days; the latest run of each job stays.
    pub history_days: u32,
    /// How long idempotency keys are kept at least, in days: a retry that comes later counts again.
    pub usage_keys_days: u32,
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            zone: "UTC".to_owned(),
            overages: overages::SCHEDULE.to_owned(),
            rollover: rollover::SCHEDULE.to_owned(),
            cleanup: cleanup::SCHEDULE.to_owned(),
            history_days: 90,
            usage_keys_days: 35,
        }
    }
}

impl JobsConfig {
    /// Checks the settings; the error names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        let zone = self.time_zone()?;
        for (field, pattern) in
            [("overages", &self.overages), ("rollover", &self.rollover), ("cleanup", &self.cleanup)]
        {
            Schedule::new(pattern, zone.clone())
                .map_err(|invalid| Invalid { field: field.to_owned(), ..invalid })?;
        }
        for (field, days) in
            [("history_days", self.history_days), ("usage_keys_days", self.usage_keys_days)]
        {
            if !(1..=3_650).contains(&days) {
                let problem = format!("is {days}");
                return Err(Invalid::new(field, problem, "give 1 to 3650 days"));
            }
        }
        Ok(())
    }

    /// The zone of the schedules.
    pub fn time_zone(&self) -> Result<TimeZone, Invalid> {
        TimeZone::get(&self.zone).map_err(|_| {
            Invalid::new(
                "zone",
                format!("{:?} is not a zone", self.zone),
                "give an IANA name such as UTC or Europe/London",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_is_named() {
        let field = |config: JobsConfig| config.check().unwrap_err().field;
        assert!(JobsConfig::default().check().is_ok());
        assert_eq!(field(JobsConfig { zone: "Mars".into(), ..JobsConfig::default() }), "zone");
        let daily = "daily at two".to_owned();
        assert_eq!(field(JobsConfig { cleanup: daily, ..JobsConfig::default() }), "cleanup");
        let forever = JobsConfig { usage_keys_days: 0, ..JobsConfig::default() };
        assert_eq!(field(forever), "usage_keys_days");
    }
}
