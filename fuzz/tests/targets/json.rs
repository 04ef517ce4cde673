//! Proto's JSON mapping: what is read is written and read again as the same message.

use serde::{Serialize, de::DeserializeOwned};
use tollgate::proto::v1;
use tollgate_fuzz::{Answer, Target};

fn through<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &[u8]) -> bool {
    let Ok(message) = serde_json::from_slice::<M>(text) else { return false };
    let written = serde_json::to_vec(&message).expect("what was read can be written");
    let again: M = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, message, "{}", written.escape_ascii());
    true
}

macro_rules! every {
    ($text:expr; $($message:ident)*) => {
        [$((stringify!($message), through::<v1::$message>($text))),*]
    };
}

fn read(text: &[u8]) -> Answer {
    let read = every!(text;
        AnyCheck AnyCheckResult CallError CheckBatchRequest CheckFeatureRequest
        CheckFeatureResponse CheckQuotaRequest CheckQuotaResponse CheckRateLimitRequest
        CheckRateLimitResponse CheckRequest CheckResponse FeatureValue GetUsageRequest
        GetUsageResponse ListFeaturesRequest MeterUsage RecordUsageRequest RecordUsageResponse
        ReleaseReservationRequest RequestEmergencyUsageRequest UsageEvent WatchUsageRequest);
    let names: Vec<_> = read.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    names.join(" ")
}

#[test]
fn messages_as_json() {
    // The numbers of a list of enums or durations take more than their digits.
    let memory_max = (1 << 20, 4 << 10);
    Target { name: "json", inputs: 6_000, bytes_max: 16 << 10, memory_max }.run(vec![], read);
}
