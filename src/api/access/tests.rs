use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        ids::TenantId,
        token::{Need, Role, Token},
    },
    proto::v1,
};

fn secret(number: u8) -> Secret {
    Secret::of([number; 32])
}

fn token(number: u8, role: Role) -> Token {
    Token {
        id: Uuid::from_u128(number.into()),
        name: format!("token-{number}"),
        role,
        tenant: None,
        expires_at: None,
        hash: secret(number).hash(),
    }
}

fn access(calls_per_token_s: u32) -> Arc<Access> {
    let clock = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
    Access::new(AccessConfig { calls_per_token_s, ..AccessConfig::default() }, clock)
}

fn headers(authorization: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().unwrap())])
}

fn bearer(number: u8) -> HeaderMap {
    headers(&format!("Bearer {}", secret(number).as_str()))
}

fn reason(result: Result<Caller, Box<Refusal>>) -> (Code, &'static str) {
    let refusal = result.unwrap_err();
    (refusal.code, refusal.reason)
}

#[test]
fn who_comes_without_a_live_token_is_not_let_in() {
    let access = access(0);
    assert_eq!(reason(access.authenticate(&bearer(1))), (Code::Unavailable, "TOKENS_UNKNOWN"));
    access.book.replace([token(1, Role::Service)]);
    assert!(access.authenticate(&bearer(1)).is_ok());
    let lower = headers(&format!("bearer {}", secret(1).as_str()));
    assert!(access.authenticate(&lower).is_ok(), "schemes have no case");
    let none = access.authenticate(&HeaderMap::new());
    assert_eq!(reason(none), (Code::Unauthenticated, "NO_TOKEN"));
    let other = access.authenticate(&headers("Basic dXNlcjpwYXNz"));
    assert_eq!(reason(other), (Code::Unauthenticated, "NO_TOKEN"));
    assert_eq!(reason(access.authenticate(&bearer(2))), (Code::Unauthenticated, "UNKNOWN_TOKEN"));
}

#[test]
fn what_is_too_long_for_a_token_is_not_looked_up() {
    let access = access(0);
    let long = "x".repeat(SECRET_BYTES_MAX + 1);
    let hash = TokenHash::of(long.as_bytes());
    access.book.replace([Token { hash, ..token(1, Role::Service) }]);
    let refused = access.authenticate(&headers(&format!("Bearer {long}")));
    assert_eq!(reason(refused), (Code::Unauthenticated, "UNKNOWN_TOKEN"));
}

#[test]
fn a_token_that_stands_in_two_places_lives_until_it_has_left_both() {
    let access = access(0);
    let (in_ledger, in_file) = (token(1, Role::Service), token(1, Role::Viewer));
    access.book.replace([in_ledger.clone(), in_file.clone()]);
    access.book.replace([in_ledger, in_file.clone()]);
    access.book.replace([in_file]);
    assert!(access.authenticate(&bearer(1)).is_ok());
    access.book.replace([]);
    assert!(access.authenticate(&bearer(1)).is_err());
}

#[test]
fn whose_role_is_too_small_is_refused_by_the_path_alone() {
    let access = access(0);
    access.book.replace([token(1, Role::Viewer), token(2, Role::Service)]);
    for path in ["/tollgate.v1.TollgateService/RecordUsage", "/v1/usage", "/v1/events"] {
        assert_eq!(reason(access.let_in(path, &bearer(1))), (Code::PermissionDenied, "ROLE"));
        assert!(access.let_in(path, &bearer(2)).is_ok());
    }
    assert!(access.let_in("/v1/check-quota", &bearer(1)).is_ok());
}

#[test]
fn a_token_that_expires_ends_in_the_midst_of_its_work() {
    let clock = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
    let access = Access::new(AccessConfig::default(), clock.clone());
    let end = jiff::Timestamp::from_second(10).unwrap();
    access.book.replace([Token { expires_at: Some(end), ..token(1, Role::Service) }]);
    let caller = access.authenticate(&bearer(1)).unwrap();
    clock.set(end);
    assert_eq!(caller.check_lives().unwrap_err().reason, "EXPIRED_TOKEN");
    assert_eq!(reason(access.authenticate(&bearer(1))), (Code::Unauthenticated, "EXPIRED_TOKEN"));
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_its_streams_and_leaves_the_others() {
    let access = access(0);
    access.book.replace([token(1, Role::Service), token(2, Role::Service)]);
    let (first, second) =
        (access.authenticate(&bearer(1)).unwrap(), access.authenticate(&bearer(2)).unwrap());
    access.book.replace([token(2, Role::Service)]);
    assert_eq!(first.ended().await.code, Code::Unauthenticated);
    assert!(second.check_lives().is_ok());
}

#[test]
fn a_token_for_one_tenant_may_name_no_other_wherever_it_stands() {
    let access = access(0);
    let acme = TenantId::new("acme").unwrap();
    access.book.replace([Token { tenant: Some(acme), ..token(1, Role::Service) }]);
    let caller = access.authenticate(&bearer(1)).unwrap();
    let event = |tenant: &str| v1::UsageEvent { tenant: tenant.into(), ..Default::default() };
    let batch = |tenants: &[&str]| v1::RecordUsageRequest {
        events: tenants.iter().map(|tenant| event(tenant)).collect(),
        ..Default::default()
    };
    assert!(caller.check_tenants(&batch(&["acme", "acme"])).is_ok());
    let refused = caller.check_tenants(&batch(&["acme", "globex"])).unwrap_err();
    assert_eq!((refused.code, refused.reason), (Code::PermissionDenied, "OTHER_TENANT"));
    assert!(caller.check_tenants(&batch(&[""])).is_err(), "no tenant is not its own");
    let check = |tenant: &str| v1::CheckStreamRequest {
        id: 1,
        check: Some(v1::AnyCheck {
            check: Some(v1::any_check::Check::Feature(v1::CheckFeatureRequest {
                tenant: tenant.into(),
                ..Default::default()
            })),
        }),
    };
    assert!(caller.check_tenants(&check("acme")).is_ok());
    assert!(caller.check_tenants(&check("globex")).is_err());
}

#[test]
fn who_may_only_look_takes_nothing() {
    let access = access(0);
    access.book.replace([token(1, Role::Viewer)]);
    let viewer = access.authenticate(&bearer(1)).unwrap();
    assert!(viewer.check_role(Need::Look).is_ok());
    assert_eq!(viewer.check_role(Need::Use).unwrap_err().reason, "ROLE");
}

#[test]
fn a_token_that_calls_too_often_is_told_to_wait() {
    let access = access(1);
    access.book.replace([token(1, Role::Service), token(2, Role::Service)]);
    assert!(access.authenticate(&bearer(1)).is_ok());
    let refusal = access.authenticate(&bearer(1)).unwrap_err();
    assert_eq!((refusal.code, refusal.reason), (Code::ResourceExhausted, "TOO_MANY_CALLS"));
    assert!(refusal.retry_after.is_some_and(|wait| wait <= Duration::from_secs(1)));
    assert!(access.authenticate(&bearer(2)).is_ok(), "others have a rate of their own");
    // What is read again is the same token still.
    access.book.replace([token(1, Role::Service)]);
    assert!(access.authenticate(&bearer(1)).is_err());
}
