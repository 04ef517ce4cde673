//! Records to messages, without the messages: their fields are written as they lie.
//!
//! The numbers of fields are those of `proto/tollgate/journal/v1/journal.proto`. What is read back is
//! what was written, as `convert` tests.

use std::{collections::HashMap, hash::Hash};

use jiff::Timestamp;

use super::{
    convert::aggregation_to_wire,
    fields::Fields,
    frame::Kind,
    record::{PlainEvent, RecordRef},
};
use crate::domain::{
    cell_key::CellKey,
    meter::Aggregation,
    reservation::ReservationId,
    usage::{Part, UsageEvent},
};

/// Appends the record's body to `body` and says its kind.
pub fn encode(record: RecordRef<'_>, body: &mut Vec<u8>) -> Kind {
    let mut fields = Fields(body);
    match record {
        RecordRef::CellOpened { key } => {
            fields.message(1, |fields| write_cell_key(key, fields));
            Kind::CellOpened
        }
        RecordRef::Usage(events) => {
            usage(&events, &mut fields);
            Kind::Usage
        }
        RecordRef::Plain(event) => {
            plain(event, &mut fields);
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
            let key = || fields.message(3, |fields| write_cell_key(&part.key, fields));
            parts.push((covering.of(&part.key, key), part));
        }
        fields.message(2, |fields| write_event(counter, event, &parts, fields));
    }
}

/// As [`usage`] of the same event, of which less is to be asked.
fn plain(event: PlainEvent<'_>, fields: &mut Fields<'_>) {
    let PlainEvent { key, meter, amount, from_lease, time, idempotency_key } = event;
    let (group_by, event_retention_days) = (&*meter.group_by, meter.event_retention_days);
    let profile = Profile { key, aggregation: meter.aggregation, group_by, event_retention_days };
    fields.message(1, |fields| profile.write(fields));
    fields.message(2, |fields| {
        write_units(amount, from_lease, time, fields);
        if !idempotency_key.is_empty() {
            fields.text(6, idempotency_key);
        }
    });
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
        fields.message(1, |fields| write_cell_key(self.key, fields));
        fields.uint(2, aggregation_to_wire(self.aggregation) as u64);
        self.group_by.iter().for_each(|property| fields.text(3, property));
        fields.uint(4, self.event_retention_days.into());
    }
}

/// Numbers in the order of first use. Most records have one of a kind, which needs no map.
#[derive(Default)]
enum Numbers<K> {
    #[default]
    None,
    One(K),
    Many {
        numbers: HashMap<K, u32, ahash::RandomState>,
        last: (K, u32),
    },
}

impl<K: Copy + Eq + Hash> Numbers<K> {
    /// The number of `key`, for which `is_new` is called when it has none yet.
    fn of(&mut self, key: K, is_new: impl FnOnce()) -> u32 {
        match self {
            Self::None => {
                is_new();
                *self = Self::One(key);
                0
            }
            Self::One(first) if *first == key => 0,
            Self::One(first) => {
                is_new();
                let numbers = HashMap::from_iter([(*first, 0), (key, 1)]);
                *self = Self::Many { numbers, last: (key, 1) };
                1
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
pub fn write_cell_key(key: &CellKey, fields: &mut Fields<'_>) {
    fields.text(1, key.tenant.as_str());
    fields.text(2, key.meter.as_str());
    if let Some(subject) = &key.subject {
        fields.text(3, subject.as_str());
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
            ids::MeterName,
            meter::{Meter, MeterKind},
        },
        journal::{decode::Decoder, record::Record, samples},
    };

    #[test]
    fn a_plain_event_is_written_as_any_is() {
        let of = |key: Option<&str>, group_by: &[&str], amount: i64, from_lease: u64| UsageEvent {
            group_by: group_by.iter().map(ToString::to_string).collect(),
            event_retention_days: 7,
            from_lease,
            ..samples::event("acme", key, amount)
        };
        let events = [
            of(None, &[], 5, 5),
            of(Some("k"), &["model", "zone"], 1 << 40, 0),
            of(None, &[], 0, 0),
        ];
        for event in events {
            let meter = Meter {
                name: MeterName::new("tokens").unwrap(),
                aggregation: event.aggregation,
                group_by: event.group_by.clone(),
                event_retention_days: event.event_retention_days,
                kind: MeterKind::Counter,
                unit: "token".into(),
                distinct_property: None,
            };
            let plain = PlainEvent {
                key: &event.key,
                meter: &meter,
                amount: event.amount,
                from_lease: event.from_lease,
                time: event.time,
                idempotency_key: event.idempotency_key.as_ref().map_or("", |key| key.as_str()),
            };
            let (mut as_plain, mut as_any) = (vec![], vec![]);
            let kind = encode(RecordRef::Plain(plain), &mut as_plain);
            encode(RecordRef::Usage(vec![&event]), &mut as_any);
            assert_eq!(as_plain, as_any);
            let read = Decoder::default().decode(kind, &as_plain).unwrap();
            assert_eq!(read, Some(Record::Usage(vec![event])));
        }
    }

    #[test]
    fn numbers_are_given_in_the_order_of_first_use_and_each_is_new_once() {
        let mut numbers = Numbers::default();
        let mut new = vec![];
        let given: Vec<_> = ["a", "a", "b", "a", "c", "c", "b"]
            .into_iter()
            .map(|key| numbers.of(key, || new.push(key)))
            .collect();
        assert_eq!(given, [0, 0, 1, 0, 2, 2, 1]);
        assert_eq!(new, ["a", "b", "c"]);
    }
}
