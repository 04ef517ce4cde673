//! Envoy's rate limit protocol: `envoy.service.ratelimit.v3.RateLimitService`.
//!
//! A descriptor names the tenant in its entry `tenant`; the tenant's catalog says what it asks
//! ([`crate::domain::catalog::envoy`]). Each descriptor is decided and counted by itself, as Envoy's
//! reference service does it, and one that no rule is for is OK. What cannot be decided is
//! UNAVAILABLE, so that the proxy's own policy for failures applies.

mod answer;
mod decide;

use std::sync::Arc;

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::RateLimitDescriptor,
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
    },
};
use metrics::{Counter, counter};
use tonic::{Code, Request, Response, Status};

use self::{
    answer::{Told, response},
    decide::Descriptor,
};
use crate::{
    api::{
        access::{self, Caller},
        refusal::Refusal,
        status::status,
    },
    clock::Clock,
    domain::{invalid::Invalid, token::Need},
    enforcement::{engine::Engine, error::EngineError},
};

/// Descriptors that one request may have.
pub const DESCRIPTORS_MAX: usize = 100;
/// Longest request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The service, for Envoy and whoever speaks its protocol.
pub struct RateLimits {
    engine: Arc<Engine>,
    clock: Clock,
    access: Asking,
    metrics: Outcomes,
}

/// Whether callers are compared with what they ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Everybody may ask for every tenant.
    Nobody,
    /// A call without a [`Caller`] in its extensions is refused.
    Everybody,
}

/// Descriptors by what became of them.
struct Outcomes {
    ok: Counter,
    over_limit: Counter,
    unmapped: Counter,
}

impl RateLimits {
    /// Serves `engine`.
    pub fn server(
        engine: Arc<Engine>,
        clock: Clock,
        access: Asking,
    ) -> RateLimitServiceServer<Self> {
        let outcome = |outcome| counter!("tollgate_envoy_descriptors_total", "outcome" => outcome);
        let metrics = Outcomes {
            ok: outcome("ok"),
            over_limit: outcome("over_limit"),
            unmapped: outcome("unmapped"),
        };
        RateLimitServiceServer::new(Self { engine, clock, access, metrics })
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// Fails unless the caller may ask all of it.
    fn admit(&self, caller: Option<&Caller>, asked: &[Descriptor<'_>]) -> Result<(), Status> {
        let caller = match (caller, self.access) {
            (_, Asking::Nobody) => return Ok(()),
            (Some(caller), Asking::Everybody) => caller,
            // A face that let a call in without asking who makes it.
            (None, Asking::Everybody) => {
                return Err(Status::unauthenticated("nobody has asked who makes this call"));
            }
        };
        let need = match asked.iter().any(|one| one.hits > 0) {
            true => Need::Use,
            false => Need::Look,
        };
        let tenants = asked.iter().filter_map(|one| one.tenant());
        let checked = caller
            .check_lives()
            .and_then(|()| caller.check_role(need))
            .and_then(|()| tenants.into_iter().try_for_each(|tenant| caller.check_tenant(tenant)));
        checked.inspect_err(|refusal| access::count(refusal)).map_err(|refusal| status(*refusal))
    }

    fn count(&self, told: &Told) {
        match told {
            Told::Unmapped => self.metrics.unmapped.increment(1),
            Told::Decided { allowed: true, .. } => self.metrics.ok.increment(1),
            Told::Decided { allowed: false, .. } => self.metrics.over_limit.increment(1),
        }
    }
}

#[tonic::async_trait]
impl RateLimitService for RateLimits {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let message = request.into_inner();
        let asked = descriptors(&message).map_err(|invalid| status(invalid.into()))?;
        self.admit(caller.as_ref(), &asked)?;
        let mut told = Vec::with_capacity(asked.len());
        for descriptor in &asked {
            let one = descriptor.decide(&self.engine, &message.domain, self.clock.now()).await;
            let one = one.map_err(trouble)?;
            self.count(&one);
            told.push(one);
        }
        Ok(Response::new(response(&told)))
    }
}

fn descriptors(message: &RateLimitRequest) -> Result<Vec<Descriptor<'_>>, Invalid> {
    if message.domain.is_empty() {
        return Err(Invalid::new("domain", "is empty", "set it in Envoy's filter"));
    }
    let count = message.descriptors.len();
    if !(1..=DESCRIPTORS_MAX).contains(&count) {
        let remedy = format!("give 1 to {DESCRIPTORS_MAX}");
        return Err(Invalid::new("descriptors", format!("are {count}"), remedy));
    }
    // 0 is what a request has that says nothing.
    let hits = u64::from(message.hits_addend.max(1));
    let numbered = message.descriptors.iter().enumerate();
    numbered.map(|(index, one)| descriptor(index, one, hits)).collect()
}

fn descriptor(
    index: usize,
    one: &RateLimitDescriptor,
    hits: u64,
) -> Result<Descriptor<'_>, Invalid> {
    if one.is_negative_hits {
        return Err(Invalid::new(
            format!("descriptors[{index}].is_negative_hits"),
            "is set",
            "remove it: what was counted cannot be given back",
        ));
    }
    let entries = one.entries.iter();
    let entries = entries.map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
    // Said by the descriptor itself, 0 is meant: it looks.
    let own = one.hits_addend.as_ref().map(|own| own.value);
    Ok(Descriptor { entries, hits: own.unwrap_or(hits) })
}

/// Overload too is UNAVAILABLE: to a proxy it is a service that cannot answer.
fn trouble(error: EngineError) -> Status {
    let refusal = Refusal::from(error);
    let code = match refusal.code {
        Code::ResourceExhausted | Code::Internal | Code::Unknown => Code::Unavailable,
        code => code,
    };
    status(Refusal { code, ..refusal })
}
