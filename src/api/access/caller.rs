//! One caller: a token, as its calls are compared with it.

use std::{sync::Arc, time::Duration};

use governor::clock::{Clock as _, DefaultClock};
use tonic::Code;

use super::{super::refusal::Refusal, book::Known, unauthenticated};
use crate::{
    clock::Clock,
    domain::{ids::TenantId, token::Need},
    proto::NamesTenants,
};

/// Longest sleep until a token's end is looked at again: clocks may be set.
const EXPIRY_LOOK_MAX: Duration = Duration::from_secs(60);

/// Who calls, as far as a token says it. Travels in the request's extensions.
#[derive(Clone, Debug)]
pub struct Caller {
    known: Arc<Known>,
    clock: Clock,
}

impl Caller {
    pub(super) fn new(known: Arc<Known>, clock: Clock) -> Self {
        Self { known, clock }
    }

    /// The only tenant that the token is for; `None` = any.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.known.token.tenant.as_ref()
    }

    /// Fails when the token was revoked or has expired meanwhile.
    pub fn check_lives(&self) -> Result<(), Box<Refusal>> {
        let token = &self.known.token;
        if self.known.is_revoked() {
            return Err(unauthenticated("UNKNOWN_TOKEN", "the token is unknown or was revoked"));
        }
        if token.expires_at.is_some() && token.is_expired(self.clock.now()) {
            return Err(unauthenticated("EXPIRED_TOKEN", "the token has expired; use a new one"));
        }
        Ok(())
    }

    /// Fails when the token's role may not do what needs `need`.
    pub fn check_role(&self, need: Need) -> Result<(), Box<Refusal>> {
        let token = &self.known.token;
        if token.role.may(need) {
            return Ok(());
        }
        Err(forbidden(
            "ROLE",
            format!(
                "the token {:?} has the role {}, which may only look; use one of the role service",
                token.name, token.role
            ),
        ))
    }

    /// Fails when the request names a tenant that the token is not for.
    pub fn check_tenants(&self, request: &impl NamesTenants) -> Result<(), Box<Refusal>> {
        let Some(scope) = &self.known.token.tenant else { return Ok(()) };
        match request.other_than(scope.as_str()) {
            None => Ok(()),
            Some(other) => Err(self.other_tenant(other)),
        }
    }

    /// Fails when the token is not for `tenant`; for protocols whose messages are not ours.
    pub fn check_tenant(&self, tenant: &str) -> Result<(), Box<Refusal>> {
        match &self.known.token.tenant {
            Some(scope) if scope.as_str() != tenant => Err(self.other_tenant(tenant)),
            _ => Ok(()),
        }
    }

    fn other_tenant(&self, other: &str) -> Box<Refusal> {
        let token = &self.known.token;
        let scope = token.tenant.as_ref().map_or("", |scope| scope.as_str());
        let told = other.chars().take(128).collect::<String>();
        forbidden(
            "OTHER_TENANT",
            format!(
                "the token {:?} is for the tenant {scope} alone, and the request names {told:?}",
                token.name
            ),
        )
    }

    /// Counts a call against the token's rate.
    pub(super) fn count_call(&self) -> Result<(), Box<Refusal>> {
        let Some(rate) = &self.known.rate else { return Ok(()) };
        rate.check().map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            Box::new(Refusal {
                retry_after: Some(wait.max(Duration::from_millis(1))),
                ..Refusal::new(
                    Code::ResourceExhausted,
                    "TOO_MANY_CALLS",
                    format!(
                        "the token {:?} calls more often than access.calls_per_token_s allows",
                        self.known.token.name
                    ),
                )
            })
        })
    }

    /// Counts a message of a stream against the token's rate, once it is its turn: what is read
    /// late slows its sender down, and none of what was sent before is lost.
    pub(super) async fn count_message(&self) {
        let Some(rate) = &self.known.rate else { return };
        let Err(mut early) = rate.check() else { return };
        metrics::counter!("tollgate_access_slowed_total").increment(1);
        loop {
            let wait = early.wait_time_from(DefaultClock::default().now());
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
            match rate.check() {
                Ok(()) => return,
                Err(still) => early = still,
            }
        }
    }

    /// Waits until the token does not hold any more, and says why.
    pub async fn ended(self) -> Box<Refusal> {
        loop {
            if let Err(ended) = self.check_lives() {
                return ended;
            }
            let left = self.known.token.expires_at.map_or(EXPIRY_LOOK_MAX, |end| {
                let left = end.duration_since(self.clock.now());
                Duration::try_from(left).unwrap_or_default().min(EXPIRY_LOOK_MAX)
            });
            tokio::select! {
                () = self.known.revoked.cancelled() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

fn forbidden(reason: &'static str, message: String) -> Box<Refusal> {
    Box::new(Refusal::new(Code::PermissionDenied, reason, message))
}
