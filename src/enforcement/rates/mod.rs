//! Rates: may this happen once more now?
//!
//! [`check`] answers one rate, and [`admission`] several together with other limits. Each rate of
//! each tenant, and of each subject where the rate holds per subject, has a [`key::RateKey`] in
//! [`tenant_rates::TenantRates`].

mod admission;
mod check;
mod decided;
mod key;
mod metrics;
mod shared_key;
pub mod tenant_rates;

use std::sync::Arc;

use self::{
    key::RateKey,
    metrics::RateMetrics,
    shared_key::{Lender, SharedKey},
    tenant_rates::SubjectBudget,
};
use super::{config::EnforcementConfig, leasing::Leasing};
use crate::{
    clock::Clock,
    domain::{
        catalog::{compiled_plan::PlanRate, operations::RateScope},
        ids::{RunId, Subject},
        rate::RateKeyName,
        tenant::Tenant,
    },
    leases::rate::{message::RateTerms, stack::RateStack},
    store::counters::Counters,
};

pub use self::admission::{RateAdmission, RatesAsked, RatesInHand};

/// What all rates of a sidecar share.
pub struct Rates {
    subjects: SubjectBudget,
    lender: Arc<Lender>,
    metrics: RateMetrics,
}

impl Rates {
    /// No rate used yet.
    pub fn new(
        config: &EnforcementConfig,
        run: RunId,
        leasing: &Arc<Leasing>,
        clock: &Clock,
    ) -> Self {
        let redis = match &leasing.counters {
            Counters::Redis(redis) => Some(redis.clone()),
            Counters::Local(_) => None,
        };
        Self {
            subjects: SubjectBudget::new(config.rate_subjects_max, config.rate_subjects_total_max),
            lender: Arc::new(Lender {
                run,
                redis,
                tasks: leasing.tasks.clone(),
                clock: clock.clone(),
            }),
            metrics: RateMetrics::register(),
        }
    }

    /// The subjects that are live.
    pub fn subjects(&self) -> &SubjectBudget {
        &self.subjects
    }

    /// A key that nothing was used of. Without a Redis there is nobody to share it with.
    fn fresh(&self, tenant: &Tenant, rate: &PlanRate, subject: Option<&Subject>) -> RateKey {
        match (rate.rate.scope, &self.lender.redis) {
            (RateScope::Global, Some(_)) => {
                let name = RateKeyName {
                    tenant: tenant.id.clone(),
                    rate: rate.rate.name.clone(),
                    subject: subject.cloned(),
                };
                let terms = RateTerms { version: tenant.version, windows: rate.windows.clone() };
                RateKey::Shared(Arc::new(SharedKey::new(name, terms, self.lender.clone())))
            }
            (RateScope::Global, None) | (RateScope::Sidecar, _) => RateKey::Own {
                stack: Arc::new(RateStack::new(rate.windows.clone())),
                clock: self.lender.clock.clone(),
            },
        }
    }
}
