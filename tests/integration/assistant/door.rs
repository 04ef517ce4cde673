//! The ways in. Each answers the same questions in its own words; the tests ask all of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate::proto::v1::{
    CheckFeatureRequest, CheckQuotaRequest, CheckRequest, DeniedBy, FeatureReason,
    ListFeaturesRequest, Mode, QuotaReason,
};

use super::sidecar::AssistantSidecar;
use crate::fixture::post;

/// A way in.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    Grpc,
    /// The same calls as JSON.
    Http,
    /// Features as OpenFeature's flags.
    Ofrep,
}

/// A look at a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    pub allowed: bool,
    /// -1 = unlimited.
    pub limit: i64,
    pub is_exceeded: bool,
}

/// A look at an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedAtOperation {
    pub denied_by: Option<String>,
    /// Each feature that it needs, and whether the tenant has it.
    pub features: BTreeMap<String, bool>,
    /// The limit of each meter that it takes from; -1 = unlimited.
    pub limits: BTreeMap<String, i64>,
}

impl Door {
    /// Those that answer about limits.
    pub const WITH_LIMITS: [Self; 2] = [Self::Grpc, Self::Http];
    /// Those that answer about features.
    pub const WITH_FEATURES: [Self; 3] = [Self::Grpc, Self::Http, Self::Ofrep];

    /// May the tenant use so much of the meter?
    pub async fn look(
        self,
        sidecar: &AssistantSidecar,
        tenant: &str,
        meter: &str,
        amount: i64,
    ) -> Looked {
        match self {
            Self::Grpc => {
                let request = CheckQuotaRequest {
                    tenant: tenant.into(),
                    meter: meter.into(),
                    amount: Some(amount),
                    mode: Mode::Check.into(),
                    ..Default::default()
                };
                let answer = sidecar.grpc.clone().check_quota(request).await.unwrap().into_inner();
                Looked {
                    allowed: answer.allowed,
                    limit: answer.limit,
                    is_exceeded: answer.reason() == QuotaReason::LimitExceeded,
                }
            }
            Self::Http => {
                let asked = json!({
                    "tenant": tenant, "meter": meter, "amount": amount, "mode": "MODE_CHECK",
                });
                let answer = call(sidecar, "check-quota", &asked);
                // Proto's JSON leaves out what is 0 or false, and writes 64 bits as text.
                let limit = answer["limit"].as_str().map_or(0, |limit| limit.parse().unwrap());
                Looked {
                    allowed: answer["allowed"] == true,
                    limit,
                    is_exceeded: answer["reason"] == "QUOTA_REASON_LIMIT_EXCEEDED",
                }
            }
            Self::Ofrep => panic!("OFREP knows no limits"),
        }
    }

    /// May the tenant do the operation with these amounts?
    pub async fn look_at_operation(
        self,
        sidecar: &AssistantSidecar,
        tenant: &str,
        operation: &str,
        amounts: &[(&str, i64)],
    ) -> LookedAtOperation {
        match self {
            Self::Grpc => {
                let amounts = amounts.iter().map(|(meter, amount)| ((*meter).into(), *amount));
                let request = CheckRequest {
                    tenant: tenant.into(),
                    operation: operation.into(),
                    amounts: amounts.collect(),
                    mode: Mode::Check.into(),
                    ..Default::default()
                };
                let answer = sidecar.grpc.clone().check(request).await.unwrap().into_inner();
                let denied_by = match answer.denied_by() {
                    DeniedBy::Unspecified => None,
                    part => Some(format!("{} {}", part.as_str_name(), answer.denied_name)),
                };
                assert_eq!(answer.allowed, denied_by.is_none(), "{answer:?}");
                let features = answer.features.into_iter();
                let quotas = answer.quotas.into_iter();
                LookedAtOperation {
                    denied_by,
                    features: features.map(|one| (one.feature, one.enabled)).collect(),
                    limits: quotas.map(|(meter, quota)| (meter, quota.limit)).collect(),
                }
            }
            Self::Http => {
                let amounts: BTreeMap<_, _> = amounts.iter().copied().collect();
                let asked = json!({
                    "tenant": tenant, "operation": operation, "amounts": amounts,
                    "mode": "MODE_CHECK",
                });
                let answer = call(sidecar, "check", &asked);
                let part = answer["deniedBy"].as_str();
                let denied_by = part.filter(|part| *part != "DENIED_BY_UNSPECIFIED").map(|part| {
                    format!("{part} {}", answer["deniedName"].as_str().unwrap_or_default())
                });
                assert_eq!(answer["allowed"] == true, denied_by.is_none(), "{answer}");
                let features = answer["features"].as_array().cloned().unwrap_or_default();
                let name = |feature: &Value| feature["feature"].as_str().unwrap().to_owned();
                let quotas = answer["quotas"].as_object().cloned().unwrap_or_default();
                let limit = |quota: &Value| {
                    quota["limit"].as_str().map_or(0, |limit| limit.parse().unwrap())
                };
                LookedAtOperation {
                    denied_by,
                    features: features
                        .iter()
                        .map(|feature| (name(feature), feature["enabled"] == true))
                        .collect(),
                    limits: quotas
                        .iter()
                        .map(|(meter, quota)| (meter.clone(), limit(quota)))
                        .collect(),
                }
            }
            Self::Ofrep => panic!("knows no operations"),
        }
    }

    /// Whether the tenant has the feature.
    pub async fn feature(self, sidecar: &AssistantSidecar, tenant: &str, feature: &str) -> bool {
        match self {
            Self::Grpc => {
                let request = CheckFeatureRequest {
                    tenant: tenant.into(),
                    feature: feature.into(),
                    ..Default::default()
                };
                let answer = sidecar.grpc.clone().check_feature(request).await.unwrap();
                let access = answer.into_inner().feature.unwrap();
                let reason = match access.enabled {
                    true => FeatureReason::InPlan,
                    false => FeatureReason::NotInPlan,
                };
                assert_eq!(access.reason(), reason, "{tenant} {feature}");
                access.enabled
            }
            Self::Http => {
                let asked = json!({ "tenant": tenant, "feature": feature });
                call(sidecar, "check-feature", &asked)["feature"]["enabled"] == true
            }
            Self::Ofrep => {
                let flag = evaluate(sidecar, &format!("/{feature}"), tenant);
                let value = flag["value"].as_bool().unwrap();
                let reason = if value { "STATIC" } else { "DISABLED" };
                assert_eq!((&flag["key"], &flag["reason"]), (&json!(feature), &json!(reason)));
                value
            }
        }
    }

    /// Every feature, and whether the tenant has it.
    pub async fn features(
        self,
        sidecar: &AssistantSidecar,
        tenant: &str,
    ) -> BTreeMap<String, bool> {
        match self {
            Self::Grpc => {
                let request = ListFeaturesRequest { tenant: tenant.into(), ..Default::default() };
                let answer = sidecar.grpc.clone().list_features(request).await.unwrap();
                let features = answer.into_inner().features.into_iter();
                features.map(|access| (access.feature, access.enabled)).collect()
            }
            Self::Http => {
                let answer = call(sidecar, "list-features", &json!({ "tenant": tenant }));
                let features = answer["features"].as_array().unwrap().iter();
                let name = |access: &Value| access["feature"].as_str().unwrap().to_owned();
                features.map(|access| (name(access), access["enabled"] == true)).collect()
            }
            Self::Ofrep => {
                let answer = evaluate(sidecar, "", tenant);
                let flags = answer["flags"].as_array().unwrap().iter();
                let name = |flag: &Value| flag["key"].as_str().unwrap().to_owned();
                flags.map(|flag| (name(flag), flag["value"].as_bool().unwrap())).collect()
            }
        }
    }
}

/// Flags by OFREP.
fn evaluate(sidecar: &AssistantSidecar, flag: &str, tenant: &str) -> Value {
    let asked = json!({ "context": { "targetingKey": tenant } }).to_string();
    let (status, body) = post(sidecar.http, &format!("/ofrep/v1/evaluate/flags{flag}"), &asked);
    assert_eq!(status, 200, "{flag} {asked}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// One call as JSON.
fn call(sidecar: &AssistantSidecar, name: &str, asked: &Value) -> Value {
    let (status, body) = post(sidecar.http, &format!("/v1/{name}"), &asked.to_string());
    assert_eq!(status, 200, "{name} {asked}: {body}");
    serde_json::from_str(&body).unwrap()
}
