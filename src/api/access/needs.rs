//! What each request needs of its caller. Every request has to say, so that none is forgotten.

use crate::{
    domain::token::Need,
    proto::{
        calls,
        v1::{
            self, Mode,
            any_check::Check::{Feature, Operation, Quota, RateLimit},
        },
    },
};

/// A request that says what it needs.
pub trait Needs {
    /// What every such request needs, whatever it says.
    const LEAST: Need = Need::Look;

    /// What may answer it.
    fn need(&self) -> Need;
}

/// HTTP's other paths of calls that take.
const ALSO_USE: [&str; 2] = ["/v1/usage", "/v1/events"];

macro_rules! least_by_path {
    ($($kind:ident {$($name:ident $call:ident $request:ident $response:ident $path:literal;)*})*) => {
        fn of_call(path: &str) -> Option<Need> {
            match path {
                $($(
                    concat!("/tollgate.v1.TollgateService/", stringify!($name)) | $path => {
                        Some(<v1::$request as Needs>::LEAST)
                    }
                )*)*
                _ => None,
            }
        }
    };
}
calls!(least_by_path);

/// The least that a call of either face needs, by its path alone.
pub fn least(path: &str) -> Need {
    match of_call(path) {
        None if ALSO_USE.contains(&path) => Need::Use,
        need => need.unwrap_or(Need::Look),
    }
}

/// A look takes nothing; what is not known to be a look is none.
fn of_mode(mode: Mode) -> Need {
    if mode == Mode::Check { Need::Look } else { Need::Use }
}

macro_rules! needs {
    ($($request:ident: $need:ident;)*) => {
        $(impl Needs for v1::$request {
            const LEAST: Need = Need::$need;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_always_takes_is_known_by_its_path_on_both_faces() {
        for path in [
            "/tollgate.v1.TollgateService/RecordUsage",
            "/tollgate.v1.TollgateService/RecordUsageStream",
            "/tollgate.v1.TollgateService/ReleaseReservation",
            "/tollgate.v1.TollgateService/RequestEmergencyUsage",
            "/v1/record-usage",
            "/v1/usage",
            "/v1/events",
        ] {
            assert_eq!(least(path), Need::Use, "{path}");
        }
        for path in ["/tollgate.v1.TollgateService/CheckQuota", "/v1/check-batch", "/v1/get-usage"]
        {
            assert_eq!(least(path), Need::Look, "{path}");
        }
    }
}
