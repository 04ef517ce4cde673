//! Requests of Envoy's rate limit protocol, as a proxy sends them.

use envoy_types::pb::{
    envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
        service::ratelimit::v3::RateLimitRequest,
    },
    google::protobuf::UInt64Value,
};
use prost::Message;

use super::frames::framed;

pub const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

fn descriptor(entries: &[(&str, &str)], hits: Option<u64>) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
    RateLimitDescriptor {
        entries: entries.iter().map(entry).collect(),
        hits_addend: hits.map(|value| UInt64Value { value }),
        ..RateLimitDescriptor::default()
    }
}

/// Bodies of calls: one that each rule of the catalog is for, and some that none is for.
pub fn requests() -> Vec<Vec<u8>> {
    let all = [
        descriptor(&[("tenant", "acme")], None),
        descriptor(&[("tenant", "acme"), ("remote_address", "10.0.0.1")], Some(2)),
        descriptor(&[("route", "chat"), ("tenant", "acme")], Some(0)),
        descriptor(&[("tenant", "acme"), ("route", "export"), ("user", "u 1~2")], None),
        descriptor(&[("tenant", "nobody")], None),
        descriptor(&[("tenant", "acme"), ("tenant", "globex")], Some(u64::MAX)),
    ];
    let request = |descriptors: Vec<_>, hits_addend| {
        let request = RateLimitRequest { domain: "edge".into(), descriptors, hits_addend };
        framed(&request.encode_to_vec())
    };
    let mut requests: Vec<_> = all.iter().map(|one| request(vec![one.clone()], 0)).collect();
    requests.push(request(all.to_vec(), 3));
    requests
}
