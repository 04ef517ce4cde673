//! Rates: may this happen once more now?
//!
//! [`check`] answers one rate, and [`admission`] several together with other limits. Each rate of each tenant,
//! and of each subject where the rate holds per subject, has a [`key::RateKey`] in
//! [`tenant_rates::TenantRates`].

mod admission;
mod check;
mod key;
mod metrics;
pub mod tenant_rates;

use self::{metrics::RateMetrics, tenant_rates::SubjectBudget};
use super::config::EnforcementConfig;

pub use self::admission::{RateAdmission, RatesAsked};

/// What all rates of a sidecar share.
pub struct Rates {
    subjects: SubjectBudget,
    metrics: RateMetrics,
}

impl Rates {
    /// No rate used yet.
    pub fn new(config: &EnforcementConfig) -> Self {
        Self {
            subjects: SubjectBudget::new(config.rate_subjects_max, config.rate_subjects_total_max),
            metrics: RateMetrics::register(),
        }
    }

    /// The subjects that are live.
    pub fn subjects(&self) -> &SubjectBudget {
        &self.subjects
    }
}
