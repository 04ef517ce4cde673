//! Who may call: tokens, what each may do, and which tenant it may name.
//!
//! A face hands the request's head to [`Access::let_in`] before it reads the body, and keeps
//! the [`Caller`] with the request; [`guarded::Guarded`] stands around the calls themselves and
//! compares what is asked with what the caller may. Both faces go through the same `Guarded`, and a
//! call that is added to the proto is in it from the start.
//!
//! Where access is open, and on the Unix socket, whose file permissions say who may open it,
//! nothing of this is done.

mod book;
mod caller;
pub mod config;
pub mod follow;
pub mod guarded;
mod needs;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, header::AUTHORIZATION};
use tonic::Code;

use self::config::{AccessConfig, AccessMode};
pub use self::{book::Book, caller::Caller};
use super::refusal::Refusal;
use crate::{
    clock::Clock,
    domain::token::{Secret, TokenHash},
};

/// How long callers are asked to wait while the tokens are not known yet.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);
const SCHEME: &str = "bearer ";
/// Longest secret that is looked up, bytes; one of ours has half of that.
const SECRET_BYTES_MAX: usize = 128;

/// The tokens that this sidecar knows, and how it treats those who come without.
#[derive(Debug)]
pub struct Access {
    pub config: AccessConfig,
    pub book: Book,
    clock: Clock,
}

impl Access {
    /// Knows no token yet.
    pub fn new(config: AccessConfig, clock: Clock) -> Arc<Self> {
        let open = if config.mode == AccessMode::Open { 1.0 } else { 0.0 };
        metrics::gauge!("tollgate_access_open").set(open);
        let book = Book::new(config.calls_per_token_s);
        Arc::new(Self { config, book, clock })
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.config.mode == AccessMode::Open
    }

    /// Finds out who makes the call with this path, of whichever face, and refuses whom its role
    /// keeps from it whatever the message says. Looks at nothing but the head.
    pub fn let_in(&self, path: &str, headers: &HeaderMap) -> Result<Caller, Box<Refusal>> {
        let caller = self.authenticate(headers)?;
        caller.check_role(needs::least(path)).inspect_err(|refusal| count(refusal))?;
        Ok(caller)
    }

    /// Finds out who calls, and counts the call against the caller's rate.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Box<Refusal>> {
        let caller = self.find(headers).inspect_err(|refusal| count(refusal))?;
        caller.count_call().inspect_err(|refusal| count(refusal))?;
        Ok(caller)
    }

    fn find(&self, headers: &HeaderMap) -> Result<Caller, Box<Refusal>> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return Err(unauthenticated(
                "NO_TOKEN",
                "there is no token; send `authorization: Bearer tg_…` (`tollgate token create` \
                 makes one)",
            ));
        };
        let secret = value.to_str().ok().and_then(|text| {
            let (scheme, secret) = text.split_at_checked(SCHEME.len())?;
            scheme.eq_ignore_ascii_case(SCHEME).then(|| secret.trim())
        });
        let Some(secret) = secret else {
            return Err(unauthenticated("NO_TOKEN", "the authorization is not `Bearer tg_…`"));
        };
        // A hash costs as much as what is hashed is long.
        if secret.len() > SECRET_BYTES_MAX {
            return Err(unauthenticated("UNKNOWN_TOKEN", "this is no token of Tollgate: too long"));
        }
        match self.book.find(&TokenHash::of(secret.as_bytes())) {
            Some(known) => {
                let caller = Caller::new(known, self.clock.clone());
                caller.check_lives()?;
                Ok(caller)
            }
            None if !self.book.is_known() => Err(Box::new(Refusal {
                retry_after: Some(UNKNOWN_RETRY),
                ..Refusal::new(
                    Code::Unavailable,
                    "TOKENS_UNKNOWN",
                    "the tokens are not known yet: Postgres has not been reached since the start",
                )
            })),
            None if Secret::is_well_formed(secret) => {
                Err(unauthenticated("UNKNOWN_TOKEN", "the token is unknown or was revoked"))
            }
            None => Err(unauthenticated(
                "UNKNOWN_TOKEN",
                "this is no token of Tollgate: its checksum is wrong; was it cut or mistyped?",
            )),
        }
    }
}

fn unauthenticated(reason: &'static str, message: &str) -> Box<Refusal> {
    Box::new(Refusal::new(Code::Unauthenticated, reason, message))
}

/// Counts a refusal by its reason, which is one of a few.
pub fn count(refusal: &Refusal) {
    metrics::counter!("tollgate_access_refused_total", "reason" => refusal.reason).increment(1);
}

#[cfg(test)]
mod tests;
