//! Records to messages, without the messages: their fields are written as they lie.
//!
//! The numbers of fields are those of `proto/tollgate/journal/v1/journal.proto`. What is read back is
//! what was written, as `decode` tests.

use std::{collections::HashMap, hash::Hash};

use jiff::Timestamp;

use super::{
    convert::aggregation_to_wire,
    frame::Kind,
    record::{PlainEvent, RecordRef},
};
use crate::{
    domain::{
        cell_key::{CellKey, KeyParts},
        meter::Aggregation,
        reservation::ReservationId,
        usage::{Part, UsageEvent},
    },
    proto::fields::Fields,
};

/// Appends the record's body to `body` and says its kind.
pub fn encode(record: RecordRef<'_>, body: &mut Vec<u8>) -> Kind {
    let mut fields = Fields(body);
    match record {
        RecordRef::CellOpened { key } => {
            fields.message(1, |fields| write_cell_key(key.parts(), fields));
            Kind::CellOpened
        }
        RecordRef::Usage(events) => {
            usage(&events, &mut fields);
            Kind::Usage
        }
        RecordRef::Plain(events) => {
            plain(events, &mut fields);
            Kind::Usage
        }
    }
}

/// What events have in common is written when it is first met, and has a number from then on.
fn usage(events: &[&UsageEvent], fields: &mut Fields<'_>) {
    let mut counters = Numbers::default();
    let mut covering = Numbers::default();
    let mut parts = vec![];
    for &event in events {
        let profile = Profile::of(event);
        let counter = counters.of(profile, || fields.message(1, |fields| profile.write(fields)));
        parts.clear();
        for part in &event.parts {
            let key = || fields.message(3, |fields| write_cell_key(part.key.parts(), fields));
            parts.push((covering.of(&part.key, key), part));
        }
        fields.message(2, |fields| write_event(counter, event, &parts, fields));
    }
}

/// As [`usage`] of the same events, of which less is to be asked.
fn plain(events: &[PlainEvent<'_>], fields: &mut Fields<'_>) {
    for (counter, event) in (0..).zip(events) {
        let PlainEvent { key, meter, amount, from_lease, time, idempotency_key, operation } =
            *event;
        let (group_by, event_retention_days) = (&*meter.group_by, meter.event_retention_days);
        let aggregation = meter.aggregation;
        let profile = Profile { key, aggregation, group_by, event_retention_days };
        fields.message(1, |fields| profile.write(fields));
        fields.message(2, |fields| {
            fields.uint(1, counter);
            write_units(amount, from_lease, time, fields);
            if !idempotency_key.is_empty() {
                fields.text(6, idempotency_key);
            }
            if let Some(operation) = operation {
                fields.text(11, operation.as_str());
            }
        });
    }
}

/// What many events have in common: a counter, and what the ledger has to know of its meter.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Profile<'e> {
    key: &'e CellKey,
    aggregation: Aggregation,
    group_by: &'e [String],
    event_retention_days: u16,
}

impl<'e> Profile<'e> {
    fn of(event: &'e UsageEvent) -> Self {
        let UsageEvent { key, aggregation, group_by, event_retention_days, .. } = event;
        let (aggregation, event_retention_days) = (*aggregation, *event_retention_days);
        Self { key, aggregation, group_by, event_retention_days }
    }

    fn write(self, fields: &mut Fields<'_>) {
        fields.message(1, |fields| write_cell_key(self.key.parts(), fields));
        fields.uint(2, aggregation_to_wire(self.aggregation) as u64);
        self.group_by.iter().for_each(|property| fields.text(3, property));
        fields.uint(4, self.event_retention_days.into());
    }
}

/// Kinds that are looked through rather than looked up.
const FEW_MAX: usize = 8;

/// Numbers in the order of first use. Most records have few of a kind, which need no map.
enum Numbers<K> {
    Few(Vec<K>),
    Many { numbers: HashMap<K, u32, ahash::RandomState>, last: (K, u32) },
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self::Few(vec![])
    }
}

impl<K: Copy + Eq + Hash> Numbers<K> {
    /// The number of `key`, for which `is_new` is called when it has none yet.
    fn of(&mut self, key: K, is_new: impl FnOnce()) -> u32 {
        match self {
            Self::Few(known) => {
                if let Some(number) = known.iter().position(|known| *known == key) {
                    return number as u32;
                }
                is_new();
                let next = known.len() as u32;
                known.push(key);
                if known.len() > FEW_MAX {
                    let numbers = known.drain(..).zip(0..).collect();
                    *self = Self::Many { numbers, last: (key, next) };
                }
                next
            }
            Self::Many { last: (last, number), .. } if *last == key => *number,
            Self::Many { numbers, last } => {
                // A record's size bounds what is in it far below 2^32.
                let next = numbers.len() as u32;
                let number = *numbers.entry(key).or_insert(next);
                if number == next {
                    is_new();
                }
                *last = (key, number);
                number
            }
        }
    }
}

fn write_event(counter: u32, event: &UsageEvent, parts: &[(u32, &Part)], fields: &mut Fields<'_>) {
    fields.uint(1, counter.into());
    write_units(event.amount, event.from_lease, event.time, fields);
    if let Some(key) = &event.idempotency_key {
        fields.text(6, key.as_str());
    }
    if let Some(value) = &event.distinct_value {
        fields.text(7, value);
    }
    for (name, value) in event.properties.iter() {
        fields.message(8, |fields| {
            fields.text(1, name);
            fields.text(2, value);
        });
    }
    if let Some(ReservationId { run, number }) = event.reservation {
        fields.message(9, |fields| {
            fields.bytes(1, run.0.as_bytes());
            fields.uint(2, number);
        });
    }
    for (covering, part) in parts {
        fields.message(10, |fields| {
            fields.uint(1, (*covering).into());
            fields.uint(2, part.units);
            fields.uint(3, part.recorded);
        });
    }
    if let Some(operation) = &event.operation {
        fields.text(11, operation.as_str());
    }
}

fn write_units(amount: i64, from_lease: u64, time: Timestamp, fields: &mut Fields<'_>) {
    fields.sint(2, amount);
    fields.uint(3, from_lease);
    fields.sint(4, time.as_second());
    fields.sint(5, time.subsec_nanosecond().into());
}

/// A `CellKey`.
pub fn write_cell_key(key: KeyParts<'_>, fields: &mut Fields<'_>) {
    fields.text(1, key.tenant);
    fields.text(2, key.meter);
    if let Some(subject) = key.subject {
        fields.text(3, subject);
    }
    fields.message(4, |fields| {
        match key.label.period.name() {
            Some(name) => fields.text(1, name),
            None => fields.displayed(1, key.label.period),
        }
        fields.sint(2, key.label.start);
        fields.uint(3, key.label.anchor_version.into());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            catalog::names::OperationName,
            meter::{Meter, MeterKind},
        },
        journal::{
            decode::{Decode, Decoder},
            record::Record,
            samples,
        },
    };

    fn meter(event: &UsageEvent) -> Meter {
        Meter {
            name: event.key.meter.clone(),
            kind: MeterKind::Counter,
            aggregation: event.aggregation,
            unit: "token".into(),
            distinct_property: None,
            group_by: event.group_by.clone(),
            event_retention_days: event.event_retention_days,
        }
    }

    #[test]
    fn plain_events_are_written_as_any_are() {
        let of = |tenant: &str, key: Option<&str>, group_by: &[&str]| UsageEvent {
            group_by: group_by.iter().map(ToString::to_string).collect(),
            event_retention_days: 7,
            from_lease: 3,
            ..samples::event(tenant, key, 1 << 40)
        };
        let operation = OperationName::new("ask").unwrap();
        let part = |tenant: &str| UsageEvent {
            operation: Some(operation.clone()),
            ..of(tenant, Some("of-both"), &[])
        };
        let records = [
            vec![of("acme", None, &[])],
            vec![of("acme", Some("k"), &["model", "zone"])],
            vec![part("acme"), part("shop")],
        ];
        for events in records {
            let meters: Vec<_> = events.iter().map(meter).collect();
            let plain: Vec<_> = events
                .iter()
                .zip(&meters)
                .map(|(event, meter)| PlainEvent {
                    key: &event.key,
                    meter,
                    amount: event.amount,
                    from_lease: event.from_lease,
                    time: event.time,
                    idempotency_key: event.idempotency_key.as_ref().map_or("", |key| key.as_str()),
                    operation: event.operation.as_ref(),
                })
                .collect();
            let (mut as_plain, mut as_any) = (vec![], vec![]);
            let kind = encode(RecordRef::Plain(&plain), &mut as_plain);
            encode(RecordRef::Usage(events.iter().collect()), &mut as_any);
            assert_eq!(as_plain, as_any);
            let read = Decoder::default().decode(kind, &as_plain).unwrap();
            assert_eq!(read, Some(Record::Usage(events)));
        }
    }

    #[test]
    fn numbers_are_given_in_the_order_of_first_use_and_each_is_new_once() {
        let mut numbers = Numbers::default();
        let mut new = vec![];
        let all = 3 * FEW_MAX;
        // Each is met again at once, and once more when there are many.
        let met = (0..all).flat_map(|key| [key, key, key / 2]);
        for key in met.chain(0..all) {
            let given = numbers.of(key, || new.push(key));
            assert_eq!(given, key as u32);
        }
        assert_eq!(new, Vec::from_iter(0..all));
    }
}
