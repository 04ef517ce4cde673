//! Records for tests.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::record::Record;
use crate::domain::{
    amount::AMOUNT_MAX,
    catalog::names::OperationName,
    cell_key::CellKey,
    ids::{GrantId, IdempotencyKey, MeterName, RunId, Subject, TenantId},
    meter::Aggregation,
    period::Period,
    properties::Properties,
    reservation::ReservationId,
    usage::{Part, UsageEvent},
    window::WindowLabel,
};

/// A run told by its number.
pub fn run(number: u128) -> RunId {
    RunId(Uuid::from_u128(number))
}

/// A counter of `tenant`.
pub fn cell_key(tenant: &str) -> CellKey {
    CellKey {
        tenant: TenantId::new(tenant).unwrap(),
        meter: MeterName::new("tokens").unwrap(),
        subject: None,
        label: WindowLabel { period: Period::Month, start: 1_790_812_800, anchor_version: 1 },
    }
}

/// An event of `amount`, as plain as they come.
pub fn event(tenant: &str, key: Option<&str>, amount: i64) -> UsageEvent {
    UsageEvent {
        key: cell_key(tenant),
        aggregation: Aggregation::Sum,
        amount,
        distinct_value: None,
        time: Timestamp::from_second(1_791_000_000).unwrap(),
        idempotency_key: key.map(|key| IdempotencyKey::new(key).unwrap()),
        properties: Properties::default(),
        group_by: vec![],
        event_retention_days: 0,
        from_lease: 0,
        reservation: None,
        parts: vec![],
        operation: None,
    }
}

/// A record that is recognised by its number; about `padding` bytes long.
pub fn numbered(number: i64, padding: usize) -> Record {
    let mut event = event("acme", None, number);
    event.distinct_value = Some("x".repeat(padding));
    Record::Usage(vec![event])
}

/// The number of a [`numbered`] record.
pub fn number(record: &Record) -> i64 {
    match record {
        Record::Usage(events) => events[0].amount,
        _ => panic!("not a numbered record: {record:?}"),
    }
}

fn any_key() -> impl Strategy<Value = CellKey> {
    let period = prop_oneof![
        Just(Period::Minute),
        Just(Period::BillingCycle),
        Just(Period::Lifetime),
        any::<u64>().prop_map(|id| Period::Grant { id: GrantId(id) }),
        (1u32..).prop_map(|seconds| Period::Interval { seconds }),
    ];
    let subject = proptest::option::of("[A-Za-z0-9._:@/+=~-]{1,20}");
    ("[A-Za-z0-9._:@/+=~-]{1,128}", "[a-z][a-z0-9_.-]{0,63}", subject, period, any::<(i64, u32)>())
        .prop_map(|(tenant, meter, subject, period, (start, anchor_version))| CellKey {
            tenant: TenantId::new(tenant).unwrap(),
            meter: MeterName::new(meter).unwrap(),
            subject: subject.map(|subject| Subject::new(subject).unwrap()),
            label: WindowLabel { period, start, anchor_version },
        })
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    let seconds = Timestamp::MIN.as_second() + 1..Timestamp::MAX.as_second();
    (seconds, -999_999_999i32..=999_999_999)
        .prop_map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap())
}

fn any_properties() -> impl Strategy<Value = Properties> {
    proptest::collection::btree_map("[a-zé]{1,16}", "\\PC{0,20}", 0..4)
        .prop_map(|properties: BTreeMap<String, String>| Properties::new(properties).unwrap())
}

fn any_reservation() -> impl Strategy<Value = ReservationId> {
    any::<(u128, u64)>().prop_map(|(id, number)| ReservationId { run: run(id), number })
}

fn any_idempotency_key() -> impl Strategy<Value = Option<IdempotencyKey>> {
    proptest::option::of("[!-~]{1,256}")
        .prop_map(|key| key.map(|key| IdempotencyKey::new(key).unwrap()))
}

fn any_aggregation() -> impl Strategy<Value = Aggregation> {
    prop_oneof![
        Just(Aggregation::Sum),
        Just(Aggregation::Count),
        Just(Aggregation::Max),
        Just(Aggregation::Last),
        Just(Aggregation::DistinctCount),
    ]
}

fn any_event(keys: Vec<CellKey>) -> impl Strategy<Value = UsageEvent> {
    let meter = (
        proptest::sample::select(keys),
        any_aggregation(),
        proptest::collection::vec("[a-z]{1,8}", 0..3),
        any::<u16>(),
    );
    let largest = AMOUNT_MAX as i64;
    let amounts = (-largest..=largest, 0..=AMOUNT_MAX);
    let rest = (
        amounts,
        proptest::option::of("\\PC{0,12}"),
        any_time(),
        any_idempotency_key(),
        any_properties(),
        proptest::option::of(any_reservation()),
        proptest::collection::vec((any_key(), 0..=AMOUNT_MAX), 0..3),
        proptest::option::of("[a-z][a-z0-9_.-]{0,63}"),
    );
    (meter, rest).prop_map(|(meter, rest)| {
        let (key, aggregation, group_by, event_retention_days) = meter;
        let ((amount, from_lease), distinct_value, time, idempotency_key, properties, ..) = rest;
        let (reservation, parts, operation) = (rest.5, rest.6, rest.7);
        UsageEvent {
            key,
            aggregation,
            amount,
            distinct_value,
            time,
            idempotency_key,
            properties,
            group_by,
            event_retention_days,
            from_lease,
            reservation,
            parts: parts
                .into_iter()
                .map(|(key, units)| Part { key, units, recorded: units / 2 })
                .collect(),
            operation: operation.map(|name| OperationName::new(name).unwrap()),
        }
    })
}

/// Usage of which some events, often all, have nothing but units, and others one of two keys.
pub fn mostly_plain_usage() -> impl Strategy<Value = Vec<UsageEvent>> {
    let events = proptest::collection::vec(any_key(), 1..4)
        .prop_flat_map(|keys| proptest::collection::vec(any_event(keys), 0..6));
    let keys = prop_oneof![8 => Just(None), 1 => Just(Some("first")), 1 => Just(Some("second"))];
    let keys = proptest::collection::vec((keys, proptest::bool::weighted(0.9)), 6);
    (events, keys).prop_map(|(events, keys)| {
        let one = |(event, (key, is_plain)): (UsageEvent, (Option<&str>, bool))| {
            // Of one tenant, so that keys are used again, and of few amounts: for the same.
            let key_of = CellKey { tenant: TenantId::new("acme").unwrap(), ..event.key.clone() };
            let idempotency_key = key.map(|key| IdempotencyKey::new(key).unwrap());
            let event = UsageEvent { key: key_of, idempotency_key, ..event };
            match is_plain {
                true => UsageEvent {
                    amount: event.amount.abs() % 2,
                    distinct_value: None,
                    parts: vec![],
                    operation: None,
                    ..event
                },
                false => event,
            }
        };
        events.into_iter().zip(keys).map(one).collect()
    })
}

/// Any record that the domain allows.
pub fn any_record() -> impl Strategy<Value = Record> {
    let usage = proptest::collection::vec(any_key(), 1..4)
        .prop_flat_map(|keys| proptest::collection::vec(any_event(keys), 0..12))
        .prop_map(Record::Usage);
    prop_oneof![any_key().prop_map(|key| Record::CellOpened { key }), usage,]
}
