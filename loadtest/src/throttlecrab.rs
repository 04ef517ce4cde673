//! throttlecrab's gRPC messages (`throttlecrab.proto` of throttlecrab-server 0.4), as far as a rate's
//! check needs them. The server is somebody else's, and is installed by `scripts/peers`.

use prost::Message;

/// Path of its only call.
pub const PATH: &str = "/throttlecrab.RateLimiter/Throttle";

/// As many as `catalog.yaml` allows a second, so that neither server ever denies.
const PER_SECOND: i32 = 1_000_000;

/// Takes from a key's rate.
#[derive(Clone, PartialEq, Message)]
pub struct ThrottleRequest {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(int32, tag = "2")]
    pub max_burst: i32,
    #[prost(int32, tag = "3")]
    pub count_per_period: i32,
    /// In seconds.
    #[prost(int32, tag = "4")]
    pub period: i32,
    #[prost(int32, tag = "5")]
    pub quantity: i32,
}

impl ThrottleRequest {
    /// Takes one from the rate of `tenant`.
    pub fn of(tenant: &str) -> Self {
        Self {
            key: tenant.to_owned(),
            max_burst: PER_SECOND,
            count_per_period: PER_SECOND,
            period: 1,
            quantity: 1,
        }
    }
}

/// Whether it was taken, and what is left.
#[derive(Clone, PartialEq, Message)]
pub struct ThrottleResponse {
    #[prost(bool, tag = "1")]
    pub allowed: bool,
    #[prost(int32, tag = "2")]
    pub limit: i32,
    #[prost(int32, tag = "3")]
    pub remaining: i32,
    /// In seconds.
    #[prost(int32, tag = "4")]
    pub retry_after: i32,
    /// In seconds.
    #[prost(int32, tag = "5")]
    pub reset_after: i32,
}
