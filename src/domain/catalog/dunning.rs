//! Dunning: what happens, day by day, after a payment has failed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::RuleName;

/// A timetable of steps after a failed payment. A payment at any point ends it and restores the
/// subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DunningPolicy {
    pub name: RuleName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Steps in the order of their days.
    pub steps: Vec<DunningStep>,
}

/// What happens on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DunningStep {
    /// Days since the payment failed, at least 1.
    pub day: u16,
    /// What is done, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<DunningAction>,
    /// What the customer is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<DunningNotice>,
}

/// A step's deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DunningAction {
    /// Try the payment again.
    Retry,
    /// Suspend the subscription: checks are denied from now on.
    Suspend,
    /// Close the subscription for good.
    Close,
}

/// A step's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DunningNotice {
    PaymentFailed,
    Reminder,
    Warning,
    SuspensionWarning,
    Suspended,
    DeletionWarning,
    Closed,
}
