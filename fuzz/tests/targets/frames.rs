//! gRPC calls as bytes: messages in their frames.

use std::path::Path;

use prost::Message;
use serde::de::DeserializeOwned;
use tollgate::proto::v1;

/// The product's calls begin with this.
pub const SERVICE: &str = "/tollgate.v1.TollgateService/";

/// A message in its frame: no compression, its length, itself.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// The body of a request of HTTP's corpus, as the message that it is the JSON of.
fn message<M: DeserializeOwned>(file: &str) -> M {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/http");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let (_, body) = text.split_once("\n\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A real call of each kind: its path, and its frames.
pub fn calls() -> Vec<(String, Vec<u8>)> {
    let call = |name: &str, frames: Vec<u8>| (format!("{SERVICE}{name}"), frames);
    let one = |message: Vec<u8>| framed(&message);
    let quota: v1::CheckQuotaRequest = message("check-quota.http");
    let usage: v1::RecordUsageRequest = message("record-usage.http");
    let check = |id| v1::CheckStreamRequest {
        id,
        check: Some(v1::AnyCheck { check: Some(v1::any_check::Check::Quota(quota.clone())) }),
    };
    let sent = |sequence| v1::RecordUsageStreamRequest {
        sequence,
        events: usage.events.clone(),
        durability: 0,
    };
    let streamed = (1..4).flat_map(|id| framed(&check(id).encode_to_vec())).collect();
    let recorded = (1..4).flat_map(|number| framed(&sent(number).encode_to_vec())).collect();
    vec![
        call("CheckQuota", one(quota.encode_to_vec())),
        call("CheckQuota", one(message::<v1::CheckQuotaRequest>("reserve.http").encode_to_vec())),
        call(
            "ReleaseReservation",
            one(message::<v1::ReleaseReservationRequest>("release.http").encode_to_vec()),
        ),
        call("RecordUsage", one(usage.encode_to_vec())),
        call("RecordUsageStream", recorded),
        call("GetUsage", one(message::<v1::GetUsageRequest>("get-usage.http").encode_to_vec())),
        call(
            "WatchUsage",
            one(message::<v1::WatchUsageRequest>("watch-usage.http").encode_to_vec()),
        ),
        call(
            "CheckRateLimit",
            one(message::<v1::CheckRateLimitRequest>("check-rate-limit.http").encode_to_vec()),
        ),
        call(
            "CheckFeature",
            one(message::<v1::CheckFeatureRequest>("check-feature.http").encode_to_vec()),
        ),
        call(
            "ListFeatures",
            one(message::<v1::ListFeaturesRequest>("list-features.http").encode_to_vec()),
        ),
        call("Check", one(message::<v1::CheckRequest>("check.http").encode_to_vec())),
        call(
            "CheckBatch",
            one(message::<v1::CheckBatchRequest>("check-batch.http").encode_to_vec()),
        ),
        call("CheckStream", streamed),
        call(
            "RequestEmergencyUsage",
            one(message::<v1::RequestEmergencyUsageRequest>("emergency.http").encode_to_vec()),
        ),
        ("/grpc.health.v1.Health/Check".into(), framed(&[])),
        // `list_services`, in both versions.
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".into(),
            framed(&[0x3a, 1, b'*']),
        ),
        (
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo".into(),
            framed(&[0x22, 8, b't', b'o', b'l', b'l', b'g', b'a', b't', b'e']),
        ),
    ]
}
