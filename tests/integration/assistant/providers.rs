//! OpenFeature's providers for OFREP, as they are published, evaluate every flag.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    matrix::{FEATURES, features_of},
    sidecar::{AssistantSidecar, PLANS},
};
use crate::fixture::{are_out_of_reach, node, python};

/// The job of the scripts.
fn job(sidecar: &AssistantSidecar, dir: &tempfile::TempDir) -> String {
    let flags = FEATURES.map(|(feature, _)| feature);
    let url = format!("http://{}", sidecar.http);
    let job = json!({ "url": url, "token": null, "tenants": PLANS, "flags": flags });
    let path = dir.path().join("job.json");
    std::fs::write(&path, job.to_string()).unwrap();
    path.display().to_string()
}

fn assert_is_the_matrix(values: &Value, provider: &str) {
    for (rank, plan) in PLANS.into_iter().enumerate() {
        let values: BTreeMap<String, bool> = serde_json::from_value(values[plan].clone()).unwrap();
        assert_eq!(values, features_of(rank), "{provider} {plan}");
    }
}

fn assert_failures_are_told(told: &Value) {
    assert_eq!(told["no_flag"], "FLAG_NOT_FOUND");
    assert_eq!(told["no_tenant"], "INVALID_CONTEXT");
    assert_eq!(told["no_key"], "TARGETING_KEY_MISSING");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_python_evaluates_every_flag() {
    if tokio::task::block_in_place(are_out_of_reach) {
        return;
    }
    let (sidecar, dir) = (AssistantSidecar::start().await, tempfile::tempdir().unwrap());
    let job = job(&sidecar, &dir);
    let told = tokio::task::block_in_place(|| python("evaluate_flags.py", &[&job]));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_is_the_matrix(&told["values"], "python");
    assert_failures_are_told(&told);
    sidecar.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_of_javascript_evaluate_every_flag() {
    if tokio::task::block_in_place(are_out_of_reach) {
        return;
    }
    let (sidecar, dir) = (AssistantSidecar::start().await, tempfile::tempdir().unwrap());
    let job = job(&sidecar, &dir);
    let told = tokio::task::block_in_place(|| node("evaluate_flags.cjs", &[&job]));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_is_the_matrix(&told["server"]["values"], "server");
    assert_failures_are_told(&told["server"]);
    assert_is_the_matrix(&told["page"]["values"], "page");
    // Who asks again is told that nothing has changed.
    assert_eq!(told["page"]["statuses"], json!([200, 304]));
    sidecar.stop();
}
