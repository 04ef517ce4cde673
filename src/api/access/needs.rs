//! What each request needs of its caller. Every request has to say, so that none is forgotten.

use crate::{
    domain::token::Need,
    proto::v1::{
        self, Mode,
        any_check::Check::{Feature, Operation, Quota, RateLimit},
    },
};

/// A request that says what it needs.
pub trait Needs {
    /// What may answer it.
    fn need(&self) -> Need;
}

/// A look takes nothing; what is not known to be a look is none.
fn of_mode(mode: Mode) -> Need {
    if mode == Mode::Check { Need::Look } else { Need::Use }
}

macro_rules! needs {
    ($($request:ident: $need:ident;)*) => {
        $(impl Needs for v1::$request {
            fn need(&self) -> Need {
                Need::$need
            }
        })*
    };
}

needs! {
    GetUsageRequest: Look;
    WatchUsageRequest: Look;
    CheckFeatureRequest: Look;
    ListFeaturesRequest: Look;
    RecordUsageRequest: Use;
    RecordUsageStreamRequest: Use;
    ReleaseReservationRequest: Use;
    RequestEmergencyUsageRequest: Use;
}

macro_rules! needs_by_mode {
    ($($request:ident;)*) => {
        $(impl Needs for v1::$request {
            fn need(&self) -> Need {
                of_mode(self.mode())
            }
        })*
    };
}

needs_by_mode! {
    CheckQuotaRequest;
    CheckRateLimitRequest;
    CheckRequest;
}

impl Needs for v1::AnyCheck {
    fn need(&self) -> Need {
        match &self.check {
            Some(Quota(check)) => check.need(),
            Some(RateLimit(check)) => check.need(),
            Some(Feature(check)) => check.need(),
            Some(Operation(check)) => check.need(),
            None => Need::Look,
        }
    }
}

impl Needs for v1::CheckBatchRequest {
    fn need(&self) -> Need {
        match self.checks.iter().any(|check| check.need() == Need::Use) {
            true => Need::Use,
            false => Need::Look,
        }
    }
}

impl Needs for v1::CheckStreamRequest {
    fn need(&self) -> Need {
        self.check.as_ref().map_or(Need::Look, Needs::need)
    }
}
