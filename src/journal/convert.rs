//! Messages to records, and their values.

use jiff::Timestamp;
use prost::{DecodeError, Message};
use uuid::Uuid;

use super::{frame::Kind, record::Record};
use crate::{
    domain::{
        catalog::names::OperationName,
        cell_key::CellKey,
        ids::{IdempotencyKey, RunId, TenantId},
        invalid::Invalid,
        meter::Aggregation,
        properties::Properties,
        reservation::ReservationId,
        usage::{Part, UsageEvent},
        window::WindowLabel,
    },
    proto::journal as wire,
};

/// Why a body cannot be read although its checksum holds.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the message is malformed: {0}")]
    Malformed(#[from] DecodeError),
    #[error("a value is out of its rules: {0}")]
    Invalid(#[from] Invalid),
    #[error("{0} is missing or unknown")]
    Missing(&'static str),
}

/// Reads a record's body; `None` for the kind that is the journal's own.
pub fn decode(kind: Kind, body: &[u8]) -> Result<Option<Record>, BodyError> {
    Ok(Some(match kind {
        Kind::Start => return Ok(None),
        Kind::CellOpened => {
            Record::CellOpened { key: key_from_wire(wire::CellOpened::decode(body)?.key)? }
        }
        Kind::Usage => Record::Usage(usage_from_wire(wire::Usage::decode(body)?)?),
    }))
}

fn usage_from_wire(usage: wire::Usage) -> Result<Vec<UsageEvent>, BodyError> {
    struct Counter {
        key: CellKey,
        aggregation: Aggregation,
        group_by: Vec<String>,
        event_retention_days: u16,
    }
    let counters = usage
        .counters
        .into_iter()
        .map(|counter| {
            Ok(Counter {
                aggregation: aggregation_from_wire(counter.aggregation())?,
                key: key_from_wire(counter.key)?,
                group_by: counter.group_by,
                event_retention_days: u16::try_from(counter.event_retention_days)
                    .map_err(|_| BodyError::Missing("event_retention_days"))?,
            })
        })
        .collect::<Result<Vec<_>, BodyError>>()?;
    let covering = usage
        .covering
        .into_iter()
        .map(|key| key_from_wire(Some(key)))
        .collect::<Result<Vec<_>, BodyError>>()?;
    let part = |part: wire::Part| {
        let key = covering.get(part.covering as usize).ok_or(BodyError::Missing("covering"))?;
        Ok(Part { key: key.clone(), units: part.units, recorded: part.recorded })
    };
    let event = |event: wire::Event| -> Result<UsageEvent, BodyError> {
        let counter = counters.get(event.counter as usize).ok_or(BodyError::Missing("counter"))?;
        Ok(UsageEvent {
            key: counter.key.clone(),
            aggregation: counter.aggregation,
            amount: event.amount,
            distinct_value: event.distinct_value,
            time: time_from_wire(event.time_seconds, event.time_nanos)?,
            idempotency_key: event.idempotency_key.map(IdempotencyKey::new).transpose()?,
            properties: properties_from_wire(event.properties)?,
            group_by: counter.group_by.clone(),
            event_retention_days: counter.event_retention_days,
            from_lease: event.from_lease,
            reservation: event.reservation.map(|id| reservation_from_wire(Some(id))).transpose()?,
            parts: event.parts.into_iter().map(part).collect::<Result<_, BodyError>>()?,
            operation: event.operation.map(OperationName::new).transpose()?,
        })
    };
    // Collecting results would not know how many there are, and move them again and again.
    let mut events = Vec::with_capacity(usage.events.len());
    for read in usage.events {
        events.push(event(read)?);
    }
    Ok(events)
}

pub fn key_from_wire(key: Option<wire::CellKey>) -> Result<CellKey, BodyError> {
    let key = key.ok_or(BodyError::Missing("key"))?;
    let label = key.label.ok_or(BodyError::Missing("label"))?;
    Ok(CellKey {
        tenant: TenantId::stored(&key.tenant)?,
        meter: key.meter.parse()?,
        subject: key.subject.map(|subject| subject.parse()).transpose()?,
        label: WindowLabel {
            period: label.period.parse()?,
            start: label.start,
            anchor_version: label.anchor_version,
        },
    })
}

fn reservation_from_wire(id: Option<wire::ReservationId>) -> Result<ReservationId, BodyError> {
    let id = id.ok_or(BodyError::Missing("reservation id"))?;
    let run = Uuid::from_slice(&id.run).map_err(|_| BodyError::Missing("run"))?;
    Ok(ReservationId { run: RunId(run), number: id.number })
}

pub fn time_from_wire(seconds: i64, nanos: i32) -> Result<Timestamp, BodyError> {
    Timestamp::new(seconds, nanos).map_err(|_| BodyError::Missing("time"))
}

fn properties_from_wire(properties: Vec<wire::Property>) -> Result<Properties, BodyError> {
    let pairs = properties.into_iter().map(|property| (property.name, property.value));
    Ok(Properties::new(pairs.collect())?)
}

pub fn aggregation_to_wire(aggregation: Aggregation) -> wire::Aggregation {
    match aggregation {
        Aggregation::Sum => wire::Aggregation::Sum,
        Aggregation::Count => wire::Aggregation::Count,
        Aggregation::Max => wire::Aggregation::Max,
        Aggregation::Last => wire::Aggregation::Last,
        Aggregation::DistinctCount => wire::Aggregation::DistinctCount,
    }
}

pub fn aggregation_from_wire(aggregation: wire::Aggregation) -> Result<Aggregation, BodyError> {
    Ok(match aggregation {
        wire::Aggregation::Sum => Aggregation::Sum,
        wire::Aggregation::Count => Aggregation::Count,
        wire::Aggregation::Max => Aggregation::Max,
        wire::Aggregation::Last => Aggregation::Last,
        wire::Aggregation::DistinctCount => Aggregation::DistinctCount,
        wire::Aggregation::Unspecified => return Err(BodyError::Missing("aggregation")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{config::RECORD_BYTES_MAX, encode::encode, samples};

    proptest::proptest! {
        #[test]
        fn a_record_reads_back_as_it_was_written(record in samples::any_record()) {
            let mut body = vec![];
            let kind = encode((&record).into(), &mut body);
            proptest::prop_assert_eq!(decode(kind, &body).unwrap(), Some(record));
        }

        #[test]
        fn a_damaged_body_is_an_error_or_another_record_and_never_a_panic(
            record in samples::any_record(), at: proptest::sample::Index, byte: u8,
        ) {
            let mut body = vec![];
            let kind = encode((&record).into(), &mut body);
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
            let _ = decode(kind, &body);
        }
    }

    #[test]
    fn a_batch_of_100_000_events_with_keys_fits_a_record() {
        let key = |n: u32| format!("{}", Uuid::from_u128(u128::from(n) << 64));
        let events =
            (0..100_000).map(|n| samples::event("acme", Some(&key(n)), i64::from(n))).collect();
        let record = Record::Usage(events);
        let mut body = vec![];
        let kind = encode((&record).into(), &mut body);
        assert!(body.len() < RECORD_BYTES_MAX as usize / 8, "{} bytes", body.len());
        assert_eq!(decode(kind, &body).unwrap(), Some(record));
    }

    #[test]
    fn an_event_whose_counter_is_not_in_the_record_is_refused() {
        let event = wire::Event { counter: 1, ..Default::default() };
        let body = wire::Usage { events: vec![event], ..Default::default() }.encode_to_vec();
        let error = decode(Kind::Usage, &body).unwrap_err();
        assert!(matches!(error, BodyError::Missing("counter")), "{error}");
    }
}
