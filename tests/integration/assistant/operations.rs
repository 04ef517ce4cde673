//! The shipped operations: what each plan may do, and what a denied tenant is told.

use std::collections::BTreeMap;

use tollgate::proto::v1::{
    CheckQuotaRequest, CheckRequest, CheckResponse, DeniedBy, Mode, Remedy, RemedyKind,
};

use super::{
    door::{Door, LookedAtOperation},
    matrix::{LIMITS, UNLIMITED, features_of},
    sidecar::{AssistantSidecar, PLANS},
};

/// Each operation with the meters that the caller has to say, and the lowest plan that may do it.
const OPERATIONS: [(&str, &[&str], &str); 5] = [
    ("chat_query", &["tokens"], "free"),
    ("api_call", &[], "pro"),
    ("embedding", &["tokens"], "pro"),
    ("batch_job", &["queries", "tokens"], "business"),
    ("analytics_page", &[], "pro"),
];

async fn check(
    sidecar: &AssistantSidecar,
    tenant: &str,
    operation: &str,
    amounts: BTreeMap<String, i64>,
) -> CheckResponse {
    let request = CheckRequest {
        tenant: tenant.into(),
        operation: operation.into(),
        amounts,
        mode: Mode::Consume.into(),
        ..Default::default()
    };
    sidecar.grpc.clone().check(request).await.unwrap().into_inner()
}

fn kinds(remedies: &[Remedy]) -> Vec<RemedyKind> {
    remedies.iter().map(Remedy::kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_plan_may_do_the_operations_whose_features_it_has() {
    let sidecar = AssistantSidecar::start().await;
    for (operation, open, from) in OPERATIONS {
        let lowest = PLANS.iter().position(|plan| *plan == from).unwrap();
        for (rank, plan) in PLANS.into_iter().enumerate() {
            let amounts = open.iter().map(|meter| ((*meter).to_owned(), 3)).collect();
            let answer = check(&sidecar, plan, operation, amounts).await;
            assert_eq!(answer.allowed, rank >= lowest, "{plan} {operation}: {answer:?}");
            if !answer.allowed {
                assert_eq!(answer.denied_by(), DeniedBy::Feature);
                assert_eq!(kinds(&answer.remedies), [RemedyKind::Upgrade]);
                assert_eq!(answer.remedies[0].plan, from, "{plan} {operation}");
                assert!(answer.quotas.is_empty(), "{answer:?}");
            }
        }
    }
    sidecar.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_tenant_is_told_what_it_can_do() {
    let sidecar = AssistantSidecar::start().await;
    let used_up = CheckQuotaRequest {
        tenant: "business".into(),
        meter: "queries".into(),
        amount: Some(50_000),
        mode: Mode::Consume.into(),
        ..Default::default()
    };
    assert!(sidecar.grpc.clone().check_quota(used_up).await.unwrap().into_inner().allowed);
    let tokens = || [("tokens".to_owned(), 10)].into();
    let answer = check(&sidecar, "business", "chat_query", tokens()).await;
    assert_eq!((answer.denied_by(), answer.denied_name.as_str()), (DeniedBy::Quota, "queries"));
    let expected = [
        RemedyKind::WaitUntil,
        RemedyKind::RequestEmergencyUsage,
        RemedyKind::TopUp,
        RemedyKind::ContactSales,
    ];
    assert_eq!(kinds(&answer.remedies), expected);
    assert_eq!(answer.remedies[0].wait_until, answer.quotas["queries"].resets_at);
    assert_eq!(answer.remedies[1].name, "extra_queries");
    let top_up = &answer.remedies[2];
    assert_eq!((top_up.name.as_str(), top_up.amount), ("query_pack", 1_000));
    assert_eq!((top_up.price.as_str(), top_up.currency.as_str()), ("9", "USD"));
    assert_eq!(answer.remedies[3].plan, "enterprise");

    // Free has 5 chats a minute.
    let mut allowed = 0;
    let denied = loop {
        let answer = check(&sidecar, "free", "chat_query", tokens()).await;
        if !answer.allowed {
            break answer;
        }
        allowed += 1;
        assert!(allowed < 100, "the rate does not deny");
    };
    assert!(allowed >= 5, "{allowed}");
    assert_eq!((denied.denied_by(), denied.denied_name.as_str()), (DeniedBy::RateLimit, "chat"));
    assert_eq!(kinds(&denied.remedies), [RemedyKind::WaitUntil, RemedyKind::Upgrade]);
    assert_eq!(denied.remedies[1].plan, "starter");
    sidecar.stop();
}

/// Each operation with the features that it needs and the meters that it takes from.
const NEEDS: [(&str, &str, &[&str]); 5] = [
    ("chat_query", "basic_queries", &["queries", "tokens"]),
    ("api_call", "api_access", &["api_calls"]),
    ("embedding", "api_access", &["api_calls", "tokens"]),
    ("batch_job", "batch_processing", &["queries", "tokens"]),
    ("analytics_page", "advanced_analytics", &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_says_the_same_of_limits_and_features_as_the_matrix_through_every_door() {
    let sidecar = AssistantSidecar::start().await;
    for door in Door::WITH_LIMITS {
        for (rank, plan) in PLANS.into_iter().enumerate() {
            for ((operation, feature, meters), (_, open, _)) in NEEDS.into_iter().zip(OPERATIONS) {
                let place = format!("{door:?} {plan} {operation}");
                let has_it = features_of(rank)[feature];
                let limit =
                    |meter: &str| LIMITS.iter().find(|(name, _)| *name == meter).unwrap().1[rank];
                let limits: BTreeMap<_, _> =
                    meters.iter().map(|meter| ((*meter).to_owned(), limit(meter))).collect();
                let expected = LookedAtOperation {
                    denied_by: (!has_it).then(|| format!("DENIED_BY_FEATURE {feature}")),
                    features: [(feature.to_owned(), has_it)].into(),
                    limits: if has_it { limits } else { BTreeMap::new() },
                };
                // As much as fits where the caller says how much.
                let fits = |meter: &&'static str| match limit(meter) {
                    UNLIMITED => (*meter, 1_000_000_000),
                    limit => (*meter, limit),
                };
                let mut amounts: Vec<_> = open.iter().map(fits).collect();
                let look = door.look_at_operation(&sidecar, plan, operation, &amounts).await;
                assert_eq!(look, expected, "{place}");
                let is_limited = |(meter, _): &&mut (&str, i64)| limit(meter) != UNLIMITED;
                let Some(limited) = amounts.iter_mut().find(is_limited).filter(|_| has_it) else {
                    continue;
                };
                limited.1 += 1;
                let denied_by = Some(format!("DENIED_BY_QUOTA {}", limited.0));
                let look = door.look_at_operation(&sidecar, plan, operation, &amounts).await;
                assert_eq!(look, LookedAtOperation { denied_by, ..expected }, "{place}");
            }
        }
    }
    sidecar.stop();
}
