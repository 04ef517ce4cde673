//! One descriptor: what it asks, and what came of it.

use jiff::Timestamp;

use super::answer::Told;
use crate::{
    api::{
        limits::Limited, operation::operation_response, quota::quota_response, rate::rate_response,
    },
    domain::{
        amount::AMOUNT_MAX,
        catalog::{
            envoy::{EnvoyRuleDef, EnvoyTarget, TENANT_KEY},
            names::{OperationName, RateName},
        },
        features::compiled::Attributes,
        ids::{MeterName, Subject, TenantId},
        operation::OperationRequest,
        properties::Properties,
        quota::{QuotaMode, QuotaRequest},
        rate::{RateMode, RateRequest},
    },
    enforcement::{
        engine::Engine,
        error::{EngineError, Unknown, UnknownName},
    },
};

/// A descriptor, as it was sent.
pub struct Descriptor<'m> {
    pub entries: Vec<(&'m str, &'m str)>,
    /// 0 = it only looks.
    pub hits: u64,
}

/// Whom it is about, with what is left to find out.
struct Asked {
    tenant: TenantId,
    subject: Option<Subject>,
    hits: u64,
}

impl Descriptor<'_> {
    /// The tenant that it names, as it was sent.
    pub fn tenant(&self) -> Option<&str> {
        let mut named = self.entries.iter().filter(|(key, _)| *key == TENANT_KEY);
        match (named.next(), named.next()) {
            (Some((_, tenant)), None) => Some(tenant),
            _ => None,
        }
    }

    /// Decides it, and counts its hits if they are allowed.
    pub async fn decide(
        &self,
        engine: &Engine,
        domain: &str,
        now: Timestamp,
    ) -> Result<Told, EngineError> {
        let Some(tenant) = self.tenant() else { return Ok(Told::Unmapped) };
        // What cannot be a tenant's id is not one. Whoever may choose the value must not choose to
        // be without limits.
        let Ok(tenant) = TenantId::new(tenant) else { return Ok(Told::DENIED) };
        let found = engine.envoy_rule(&tenant, domain, &self.entries).await;
        let rule = match found {
            Err(error) if names(&error, |name| matches!(name, UnknownName::Tenant(_))) => {
                return Ok(Told::DENIED);
            }
            found => found?,
        };
        let Some((rule, target)) = rule.as_ref().and_then(|rule| Some((rule, rule.target()?)))
        else {
            return Ok(Told::Unmapped);
        };
        let asked = self.of(tenant, rule);
        match target {
            EnvoyTarget::Rate(rate) => asked.rate(engine, rate, now).await,
            EnvoyTarget::Meter(meter) => asked.meter(engine, meter, now).await,
            EnvoyTarget::Operation(operation) => asked.operation(engine, operation, now).await,
        }
    }

    fn of(&self, tenant: TenantId, rule: &EnvoyRuleDef) -> Asked {
        Asked { tenant, subject: rule.subject_of(&self.entries), hits: self.hits }
    }
}

impl Asked {
    async fn rate(
        self,
        engine: &Engine,
        rate: RateName,
        now: Timestamp,
    ) -> Result<Told, EngineError> {
        let request = RateRequest {
            tenant: self.tenant,
            rate: rate.clone(),
            subject: self.subject,
            // More than any burst has.
            permits: u32::try_from(self.hits.max(1)).unwrap_or(u32::MAX),
            mode: if self.hits == 0 { RateMode::Check } else { RateMode::Consume },
        };
        match engine.check_rate(request).await {
            // Newer than the tenant's version of its plan, which therefore does not limit it.
            Err(error) if names(&error, |name| matches!(name, UnknownName::Rate { .. })) => {
                Ok(Told::Decided { allowed: true, limits: vec![] })
            }
            answer => {
                let answer = rate_response(answer?);
                let limits = answer.limits(rate.as_str(), now);
                Ok(Told::Decided { allowed: answer.allowed, limits })
            }
        }
    }

    async fn meter(
        self,
        engine: &Engine,
        meter: MeterName,
        now: Timestamp,
    ) -> Result<Told, EngineError> {
        let request = QuotaRequest {
            tenant: self.tenant,
            meter: meter.clone(),
            subject: self.subject,
            amount: self.hits.clamp(1, AMOUNT_MAX).cast_signed(),
            mode: if self.hits == 0 { QuotaMode::Check } else { QuotaMode::Consume },
            idempotency_key: None,
            durability: None,
            properties: Properties::default(),
        };
        match engine.check_quota(request).await {
            // Newer than the tenant's version of its plan, which therefore does not have it.
            Err(error) if names(&error, |name| matches!(name, UnknownName::Meter { .. })) => {
                Ok(Told::DENIED)
            }
            answer => {
                let answer = quota_response(answer?);
                let limits = answer.limits(meter.as_str(), now);
                Ok(Told::Decided { allowed: answer.allowed, limits })
            }
        }
    }
}

impl Asked {
    async fn operation(
        self,
        engine: &Engine,
        operation: OperationName,
        now: Timestamp,
    ) -> Result<Told, EngineError> {
        let amount = self.hits.clamp(1, AMOUNT_MAX).cast_signed();
        let open = engine.open_meters(&self.tenant, &operation).await?;
        let request = OperationRequest {
            tenant: self.tenant,
            operation,
            subject: self.subject,
            amounts: open.into_iter().map(|meter| (meter, amount)).collect(),
            mode: if self.hits == 0 { QuotaMode::Check } else { QuotaMode::Consume },
            idempotency_key: None,
            durability: None,
            properties: Properties::default(),
            attributes: Attributes::default(),
        };
        match engine.check_operation(&request).await {
            Err(error) if names(&error, |name| matches!(name, UnknownName::Operation { .. })) => {
                Ok(Told::DENIED)
            }
            answer => {
                let answer = operation_response(answer?);
                let limits = answer.limits("", now);
                Ok(Told::Decided { allowed: answer.allowed, limits })
            }
        }
    }
}

/// Whether it is all about something that nobody knows.
fn names(error: &EngineError, is: fn(&UnknownName) -> bool) -> bool {
    match error {
        EngineError::Unknown(unknown) => unknown.iter().all(|Unknown { name, .. }| is(name)),
        _ => false,
    }
}
