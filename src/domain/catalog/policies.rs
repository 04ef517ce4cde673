//! How a catalog's subscriptions are run: trials, renewals, changes, alerts, jobs, retention.

use std::collections::BTreeMap;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    canonical::is_default,
    decimal::{Percent, Price, Rate},
    names::{RuleName, Zone},
};
use crate::domain::ids::PlanName;

/// Trials of all plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrialPolicy {
    /// Days before the end on which a reminder goes out.
    pub reminder_days_before: Vec<u16>,
    /// Trials that one tenant may have in its life.
    pub trials_per_tenant: u16,
    /// Most days that an operator may extend a trial by.
    pub extension_days_max: u16,
}

impl Default for TrialPolicy {
    fn default() -> Self {
        // The customary figures: a week, three days and the day before; a quarter at most.
        Self { reminder_days_before: vec![7, 3, 1], trials_per_tenant: 1, extension_days_max: 90 }
    }
}

/// Renewals of all plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RenewalPolicy {
    /// Days before a renewal on which a reminder goes out.
    pub reminder_days_before: Vec<u16>,
}

impl Default for RenewalPolicy {
    fn default() -> Self {
        Self { reminder_days_before: vec![7, 3] }
    }
}

/// Changes of plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanChangePolicy {
    /// How a change to a higher plan is charged.
    #[serde(skip_serializing_if = "is_default")]
    pub upgrade: Proration,
    /// How a change to a lower plan is charged; at the period's end unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downgrade: Option<Proration>,
    /// Whether usage starts again at zero with the new plan.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: UsageOnChange,
    /// Whether a downgrade back within the cycle is refunded only for what was not used: the guard
    /// against upgrade, spend, refund.
    #[serde(skip_serializing_if = "is_default")]
    pub refund_unused_only: bool,
}

/// When a change of plan takes effect, and what it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proration {
    /// At once, by the time left in the cycle.
    #[default]
    Prorated,
    /// At once, the new price in full.
    Now,
    /// At the end of the cycle.
    NextPeriod,
    /// At once, charged from the next cycle on.
    None,
}

/// What a change of plan does to what was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageOnChange {
    /// The window goes on.
    #[default]
    Keep,
    /// A new window starts.
    Reset,
}

/// Usage alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertPolicy {
    /// Percent of a limit at which an alert is raised, once per period.
    pub thresholds: Vec<Percent>,
    /// What is recommended when a limit comes near.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approaching_action: Option<String>,
    /// What is recommended when a limit is passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exceeded_action: Option<String>,
}

impl Default for AlertPolicy {
    fn default() -> Self {
        let percent = |text: &str| text.parse().unwrap_or_default();
        Self {
            thresholds: vec![percent("80"), percent("100")],
            approaching_action: None,
            exceeded_action: None,
        }
    }
}

/// Suggestions to change the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecommendationPolicy {
    /// An upgrade is suggested above this usage.
    pub upgrade_above_percent: Percent,
    /// A downgrade is suggested below this usage.
    pub downgrade_below_percent: Percent,
    /// Days of usage that are looked at.
    pub over_days: u16,
    /// Days after which a suggestion lapses.
    pub expires_after_days: u16,
}

impl Default for RecommendationPolicy {
    fn default() -> Self {
        let percent = |text: &str| text.parse().unwrap_or_default();
        Self {
            upgrade_above_percent: percent("80"),
            downgrade_below_percent: percent("30"),
            over_days: 30,
            expires_after_days: 30,
        }
    }
}

/// A figure that the SaaS reports each day (uptime, attacks blocked).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SuccessMetricDef {
    pub name: RuleName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is counted in.
    pub unit: String,
}

/// An award: exactly one of `tenure_months`, and `metric` with `total` or `streak_days`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MilestoneDef {
    pub name: RuleName,
    pub title: String,
    /// Given after this many months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenure_months: Option<u16>,
    /// The success metric that it goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<RuleName>,
    /// Given when the metric's total reaches this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Given when the metric was at least `at_least` on this many days in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streak_days: Option<u16>,
    /// The value that each day of a streak must reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Rate>,
}

/// A comparison of variants on tenants that are assigned to them by their id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentDef {
    pub name: RuleName,
    /// The plan that the variants change.
    pub plan: PlanName,
    /// First day, in the catalog's zone (YYYY-MM-DD).
    #[schemars(with = "String", extend("format" = "date"))]
    pub from: Date,
    /// Last day, that day included (YYYY-MM-DD).
    #[schemars(with = "String", extend("format" = "date"))]
    pub through: Date,
    pub variants: Vec<ExperimentVariant>,
}

/// One variant; what it does not name stays as the plan has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentVariant {
    pub name: RuleName,
    /// Share of the tenants, relative to the other variants' weights.
    pub weight: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly: Option<Price>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yearly_discount_percent: Option<Percent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_days: Option<u16>,
    /// Add-ons that come with the plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bundled_addons: Vec<RuleName>,
}

/// How dates are written for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DateDisplay {
    /// The zone that people see.
    pub zone: Zone,
    /// DD, MM, YYYY, HH, mm and ss in any order, such as `DD/MM/YYYY HH:mm:ss`.
    pub format: String,
}

/// When the worker's jobs run for this catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobPolicy {
    /// The zone of the schedules; UTC unless given.
    #[serde(skip_serializing_if = "is_default")]
    pub zone: Zone,
    /// Cron expressions (minute hour day month weekday) of jobs that run at other times than usual.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<JobName, String>,
}

/// A scheduled job.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum JobName {
    ExpiringTrials,
    ConvertTrials,
    Renewals,
    RenewalReminders,
    Overages,
    Dunning,
    PaymentRetries,
    Loyalty,
    Recommendations,
    SuccessMetrics,
    Milestones,
    UsageSnapshot,
    TrialExpiry,
    Cleanup,
}

/// How long tables keep their rows, in days; absent = the product's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly_rollup_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_rollup_days: Option<u32>,
    /// Keys that make retries recognisable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_run_days: Option<u32>,
}
