//! What callers get wrong: each told with its code, its reason and its field, and nothing counted.

use tollgate::proto::time::{Duration, Timestamp};
use tollgate::proto::v1::{
    CheckQuotaRequest, Durability, GetUsageRequest, Mode, RecordUsageRequest,
    ReleaseReservationRequest, UsageEvent,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    CATALOG,
    cluster::{Cluster, Sidecar, event, quota},
};

const INVALID: (Code, &str) = (Code::InvalidArgument, "INVALID_ARGUMENT");
const NO_TENANT: (Code, &str) = (Code::NotFound, "UNKNOWN_TENANT");
const NO_METER: (Code, &str) = (Code::NotFound, "UNKNOWN_METER");

/// The smallest amount that is too large.
const TOO_MUCH: i64 = 1 << 53;

/// What is expected of a refusal: code and reason, the first field, and words of its description.
type Expected = ((Code, &'static str), &'static str, &'static str);

/// Checks a refusal against what is expected of it.
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, expected: Expected, what: &str) {
    let ((code, reason), field, says) = expected;
    let status = answer.expect_err(what);
    assert_eq!(status.code(), code, "{what}: {status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, reason, "{what}: {status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let first = &violations[0];
    assert_eq!(first.field, field, "{what}: {status:?}");
    assert!(first.description.contains(says), "{what}: {:?}", first.description);
    // What is wrong, and then what to do about it.
    assert!(first.description.contains("; "), "{what}: {:?}", first.description);
}

fn consume(amount: i64) -> CheckQuotaRequest {
    quota(Mode::Consume, "acme", "calls", amount)
}

fn keyed(key: &str) -> CheckQuotaRequest {
    CheckQuotaRequest { idempotency_key: key.into(), ..consume(1) }
}

fn with_property(name: &str, value: &str) -> CheckQuotaRequest {
    CheckQuotaRequest { properties: [(name.into(), value.into())].into(), ..consume(1) }
}

fn ttl(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn bad_checks() -> Vec<(CheckQuotaRequest, Expected)> {
    let reserve = |seconds| CheckQuotaRequest {
        reservation_ttl: ttl(seconds),
        ..quota(Mode::Reserve, "acme", "calls", 1)
    };
    let properties = (0..33).map(|number| (format!("p{number}"), String::new())).collect();
    let mode = |mode| CheckQuotaRequest { mode, ..consume(1) };
    let tenant = |tenant: &str| quota(Mode::Consume, tenant, "calls", 1);
    let subject = |subject: &str| CheckQuotaRequest { subject: subject.into(), ..consume(1) };
    vec![
        (tenant("nobody"), (NO_TENANT, "tenant", "no tenant nobody")),
        (tenant(""), (INVALID, "tenant", "")),
        (tenant(&"t".repeat(129)), (INVALID, "tenant", "128")),
        (tenant("acmé"), (INVALID, "tenant", "")),
        (tenant("ac me"), (INVALID, "tenant", "")),
        (quota(Mode::Consume, "acme", "call", 1), (NO_METER, "meter", "no meter call")),
        (quota(Mode::Consume, "acme", "", 1), (INVALID, "meter", "")),
        (quota(Mode::Consume, "acme", "Calls", 1), (INVALID, "meter", "")),
        (mode(0), (INVALID, "mode", "is missing")),
        (mode(7), (INVALID, "mode", "7 is not a mode")),
        (consume(-1), (INVALID, "amount", "is negative (-1)")),
        (quota(Mode::Reserve, "acme", "seats", -1), (INVALID, "amount", "is negative (-1)")),
        (quota(Mode::Check, "acme", "seats", -1), (INVALID, "amount", "is negative (-1)")),
        (quota(Mode::Consume, "acme", "seats", -TOO_MUCH), (INVALID, "amount", "out of range")),
        (consume(TOO_MUCH), (INVALID, "amount", "2^53 - 1")),
        (consume(i64::MAX), (INVALID, "amount", "out of range")),
        (consume(i64::MIN), (INVALID, "amount", "out of range")),
        (CheckQuotaRequest { amount: None, ..consume(1) }, (INVALID, "amount", "is missing")),
        (keyed(&"k".repeat(257)), (INVALID, "idempotency_key", "256")),
        (keyed("clé"), (INVALID, "idempotency_key", "ASCII")),
        (keyed("two words"), (INVALID, "idempotency_key", "ASCII")),
        (subject("é"), (INVALID, "subject", "")),
        (subject(&"s".repeat(129)), (INVALID, "subject", "128")),
        (
            CheckQuotaRequest { durability: 9, ..consume(1) },
            (INVALID, "durability", "9 is not a durability"),
        ),
        (
            CheckQuotaRequest { durability: Durability::Memory.into(), ..consume(1) },
            (INVALID, "durability", "hard limit"),
        ),
        (reserve(3_601), (INVALID, "reservation_ttl", "3600")),
        (reserve(0), (INVALID, "reservation_ttl", "")),
        (
            CheckQuotaRequest { reservation_ttl: ttl(5), ..consume(1) },
            (INVALID, "reservation_ttl", "without MODE_RESERVE"),
        ),
        (CheckQuotaRequest { properties, ..consume(1) }, (INVALID, "properties", "32")),
        (with_property("p", &"v".repeat(257)), (INVALID, "properties[\"p\"]", "256")),
        (with_property("p", "a\nb"), (INVALID, "properties[\"p\"]", "")),
    ]
}

fn used() -> UsageEvent {
    event("acme", "calls", 1, "")
}

/// An event that happened that long after now; before, if negative.
fn shifted(seconds: i64) -> UsageEvent {
    #[allow(clippy::disallowed_methods)] // The sidecar asks the real clock too.
    let now = jiff::Timestamp::now().as_second();
    UsageEvent { time: Some(Timestamp { seconds: now + seconds, nanos: 0 }), ..used() }
}

fn timed(seconds: i64, nanos: i32) -> UsageEvent {
    UsageEvent { time: Some(Timestamp { seconds, nanos }), ..used() }
}

/// Batches; those of several events have good ones in them too.
fn bad_batches() -> Vec<(Vec<UsageEvent>, Expected)> {
    const DAY: i64 = 86_400;
    let settling = |id: &str| UsageEvent { reservation_id: id.into(), ..used() };
    vec![
        (vec![], (INVALID, "events", "is empty")),
        (vec![used(); 100_001], (INVALID, "events", "100001")),
        (vec![used(), event("nobody", "calls", 1, "")], (NO_TENANT, "events[1].tenant", "nobody")),
        (
            vec![used(), event("acme", "call", 1, "")],
            (NO_METER, "events[1].meter", "no meter call"),
        ),
        (
            vec![used(), event("acme", "calls", -1, ""), used()],
            (INVALID, "events[1].amount", "is negative (-1)"),
        ),
        (vec![event("acme", "calls", TOO_MUCH, "")], (INVALID, "events[0].amount", "2^53 - 1")),
        (vec![event("acme", "seats", i64::MIN, "")], (INVALID, "events[0].amount", "out of range")),
        (vec![UsageEvent { amount: None, ..used() }], (INVALID, "events[0].amount", "is missing")),
        (
            vec![event("acme", "calls", 1, &"k".repeat(257))],
            (INVALID, "events[0].idempotency_key", "256"),
        ),
        (
            vec![used(), event("acme", "calls", 1, "clé")],
            (INVALID, "events[1].idempotency_key", "ASCII"),
        ),
        (
            vec![event("acme", "calls", 1, "one"), event("acme", "calls", 2, "one")],
            (
                (Code::AlreadyExists, "IDEMPOTENCY_CONFLICT"),
                "events[1].idempotency_key",
                "used before for 1 of calls",
            ),
        ),
        (vec![used(), shifted(-36 * DAY)], (INVALID, "events[1].time", "far in the past")),
        (vec![used(), shifted(600)], (INVALID, "events[1].time", "far in the future")),
        (vec![timed(-62_135_596_800, 0)], (INVALID, "events[0].time", "far in the past")),
        (vec![timed(i64::MAX, 0)], (INVALID, "events[0].time", "not an instant")),
        (vec![timed(0, -1)], (INVALID, "events[0].time", "not an instant")),
        (vec![used(), settling("nonsense")], (INVALID, "events[1].reservation_id", "")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_input_is_told_its_field_and_nothing_is_counted() {
    let cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let sidecar = cluster.start("a").await;
    for (request, expected) in bad_checks() {
        let what = format!("{request:?}");
        assert_refused(sidecar.client.clone().check_quota(request).await, expected, &what);
    }
    for (events, expected) in bad_batches() {
        let what = format!("{} events, the last {:?}", events.len(), events.last());
        assert_refused(sidecar.record(events).await, expected, &what);
    }
    let durability = RecordUsageRequest { events: vec![used()], durability: -1 };
    let refused = sidecar.client.clone().record_usage(durability).await;
    assert_refused(refused, (INVALID, "durability", "-1"), "a durability of -1");
    refuses_bad_releases(&sidecar).await;
    refuses_bad_questions(&sidecar).await;

    // The journal is flushed in order: had anything above been counted, it would be there first.
    let answer = sidecar.check(Mode::Consume, "acme", "calls", 3).await.unwrap();
    assert!(answer.allowed && answer.used == 3, "{answer:?}");
    sidecar.record(vec![event("acme", "seats", 2, "")]).await.unwrap();
    sidecar.wait_until_used("acme", "calls", 3).await;
    sidecar.wait_until_used("acme", "seats", 2).await;
    sidecar.process.stop();
    let totals = sqlx::query_as::<_, (String, i64, i64)>(
        "SELECT meter, used, events FROM window_totals WHERE tenant = 'acme' ORDER BY meter",
    );
    let totals = totals.fetch_all(&cluster.world.pool).await.unwrap();
    assert_eq!(totals, [("calls".to_owned(), 3, 1), ("seats".to_owned(), 2, 1)]);
}

async fn refuses_bad_releases(sidecar: &Sidecar) {
    let elsewhere = format!("{}-1", uuid::Uuid::from_u128(7).simple());
    let no_reservation = (Code::NotFound, "UNKNOWN_RESERVATION");
    let release = |tenant: &str, id: &str| {
        let request =
            ReleaseReservationRequest { tenant: tenant.into(), reservation_id: id.into() };
        let mut client = sidecar.client.clone();
        async move { client.release_reservation(request).await }
    };
    let refused = release("acme", "nonsense").await;
    assert_refused(refused, (INVALID, "reservation_id", ""), "a nonsensical reservation");
    let refused = release("acme", &elsewhere).await;
    assert_refused(refused, (no_reservation, "reservation_id", ""), "an unknown reservation");
    // Another tenant's.
    let held = sidecar.check(Mode::Reserve, "acme", "calls", 5).await.unwrap().reservation.unwrap();
    let refused = release("probe", &held.id).await;
    assert_refused(refused, (no_reservation, "reservation_id", ""), "another's reservation");
    assert_eq!(release("acme", &held.id).await.unwrap().into_inner().released, 5);
}

async fn refuses_bad_questions(sidecar: &Sidecar) {
    let ask = |tenant: &str, meter: &str| {
        let request = GetUsageRequest {
            tenant: tenant.into(),
            meters: vec![meter.into()],
            ..Default::default()
        };
        let mut client = sidecar.client.clone();
        async move { client.get_usage(request).await }
    };
    let nobody = (NO_TENANT, "tenant", "no tenant nobody");
    assert_refused(ask("nobody", "calls").await, nobody, "usage of nobody");
    let refused = ask("acme", "call").await;
    assert_refused(refused, (NO_METER, "meters[0]", "no meter call"), "usage of no meter");
}
