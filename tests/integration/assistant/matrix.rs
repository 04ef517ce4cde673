//! Every limit and every feature, as the published matrix has them.

use std::collections::BTreeMap;

use super::{
    door::{Door, Looked},
    sidecar::{AssistantSidecar, PLANS},
};

pub const UNLIMITED: i64 = -1;

/// By meter, the limits of the plans in their order.
pub const LIMITS: [(&str, [i64; 5]); 8] = [
    ("queries", [100, 2_000, 10_000, 50_000, UNLIMITED]),
    ("locations", [1, 1, 5, 25, UNLIMITED]),
    ("conversation_days", [7, 30, 90, 365, UNLIMITED]),
    ("api_calls", [50, 500, 2_000, 10_000, UNLIMITED]),
    ("team_members", [1, 3, 10, 50, UNLIMITED]),
    ("custom_templates", [0, 5, 25, 100, UNLIMITED]),
    ("integrations", [0, 2, 10, 50, UNLIMITED]),
    ("tokens", [UNLIMITED; 5]),
];

/// By feature, the lowest plan that has it.
pub const FEATURES: [(&str, &str); 20] = [
    ("basic_queries", "free"),
    ("conversation_history", "starter"),
    ("advanced_analytics", "pro"),
    ("batch_processing", "business"),
    ("custom_ai_training", "enterprise"),
    ("api_access", "pro"),
    ("webhooks", "business"),
    ("crm_integrations", "business"),
    ("white_label_branding", "enterprise"),
    ("custom_domains", "enterprise"),
    ("email_support", "starter"),
    ("phone_support", "pro"),
    ("priority_support", "business"),
    ("dedicated_manager", "enterprise"),
    ("sla_guarantees", "enterprise"),
    ("basic_dashboard", "free"),
    ("advanced_reports", "pro"),
    ("custom_reports", "business"),
    ("data_export", "business"),
    ("api_analytics", "enterprise"),
];

/// What the plan at `rank` has of the matrix.
pub fn features_of(rank: usize) -> BTreeMap<String, bool> {
    let has = |from: &str| PLANS.iter().position(|plan| *plan == from).unwrap() <= rank;
    FEATURES.iter().map(|(feature, from)| ((*feature).to_owned(), has(from))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_of_every_plan_is_the_same_through_every_door() {
    let sidecar = AssistantSidecar::start().await;
    for door in Door::WITH_LIMITS {
        for (rank, plan) in PLANS.into_iter().enumerate() {
            for (meter, limits) in LIMITS {
                let limit = limits[rank];
                let look = |amount| door.look(&sidecar, plan, meter, amount);
                let place = format!("{door:?} {plan} {meter}");
                let within = Looked { allowed: true, limit, is_exceeded: false };
                if limit == UNLIMITED {
                    assert_eq!(look(1_000_000_000).await, within, "{place}");
                } else {
                    assert_eq!(look(limit).await, within, "{place}");
                    let beyond = Looked { allowed: false, limit, is_exceeded: true };
                    assert_eq!(look(limit + 1).await, beyond, "{place}");
                }
            }
        }
    }
    sidecar.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_feature_of_every_plan_is_the_same_through_every_door() {
    let sidecar = AssistantSidecar::start().await;
    for door in Door::WITH_FEATURES {
        for (rank, plan) in PLANS.into_iter().enumerate() {
            let expected = features_of(rank);
            assert_eq!(door.features(&sidecar, plan).await, expected, "{door:?} {plan}");
            for (feature, is_on) in expected {
                let answer = door.feature(&sidecar, plan, &feature).await;
                assert_eq!(answer, is_on, "{door:?} {plan} {feature}");
            }
        }
    }
    sidecar.stop();
}
