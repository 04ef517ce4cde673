//! Records from their bodies, read where they lie, without messages in between.
//!
//! What `encode` writes, and what Prost would write of the same messages. Most events of a journal
//! belong to few counters: what a record says of one of these is not read again each time.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use prost::Message;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    convert::{BodyError, aggregation_from_wire, key_from_wire, time_from_wire},
    frame::Kind,
    record::Record,
};
use crate::{
    domain::{
        catalog::names::OperationName,
        cell_key::CellKey,
        ids::{IdempotencyKey, RunId},
        meter::Aggregation,
        properties::Properties,
        reservation::ReservationId,
        usage::{Part, UsageEvent},
    },
    proto::{
        journal as wire,
        wire::{Fields, Unread, Value},
    },
};

/// Counters that are remembered, most of them at some 300 bytes; a power of two.
const REMEMBERED_MAX: usize = 1 << 15;
/// Bytes of a counter that is remembered: of names as they mostly are.
const REMEMBERED_BYTES_MAX: usize = 256;

/// What a reader makes of the bodies of one journal's records.
pub trait Decode: Default {
    /// One record, as it is made.
    type Record;

    /// Reads a record's body; `None` for the kind that is the journal's own.
    fn decode(&mut self, kind: Kind, body: &[u8]) -> Result<Option<Self::Record>, BodyError>;
}

/// Reads all that there is of each record.
#[derive(Default)]
pub struct Decoder {
    /// By the hash of the bytes that they were read from; the latest of those that share a place.
    /// Empty until the first.
    remembered: Vec<Option<Remembered>>,
    /// The latest: there are few.
    operation: Option<OperationName>,
}

struct Remembered {
    bytes: Box<[u8]>,
    profile: Arc<Profile>,
}

/// What the events of a counter have in common.
#[derive(Debug, PartialEq)]
pub struct Profile {
    pub key: CellKey,
    pub aggregation: Aggregation,
    group_by: Vec<String>,
    event_retention_days: u16,
}

/// A `Usage`: counters and covering cells, which the events refer to by their places.
#[derive(Default)]
struct Usage<'b> {
    profiles: Vec<Arc<Profile>>,
    covering: Vec<CellKey>,
    events: Vec<&'b [u8]>,
}

impl From<Unread> for BodyError {
    fn from(Unread: Unread) -> Self {
        Self::Unreadable
    }
}

impl Decode for Decoder {
    type Record = Record;

    fn decode(&mut self, kind: Kind, body: &[u8]) -> Result<Option<Record>, BodyError> {
        Ok(Some(match kind {
            Kind::Start => return Ok(None),
            Kind::CellOpened => {
                Record::CellOpened { key: key_from_wire(wire::CellOpened::decode(body)?.key)? }
            }
            Kind::Usage => Record::Usage(self.usage(body)?),
        }))
    }
}

impl Decoder {
    fn usage(&mut self, body: &[u8]) -> Result<Vec<UsageEvent>, BodyError> {
        let mut usage = Usage::default();
        let mut fields = Fields(body);
        while let Some((tag, value)) = fields.read()? {
            match tag {
                1 => usage.profiles.push(self.profile(value.bytes()?)?),
                2 => usage.events.push(value.bytes()?),
                3 => usage.covering.push(read_key(value)?),
                _ => {}
            }
        }
        // Collecting results would not know how many there are, and move them again and again.
        let mut events = Vec::with_capacity(usage.events.len());
        for event in &usage.events {
            events.push(usage.event(event, &mut self.operation)?);
        }
        Ok(events)
    }

    /// Reads a `Counter`, unless it was read before.
    pub(super) fn profile(&mut self, bytes: &[u8]) -> Result<Arc<Profile>, BodyError> {
        if bytes.len() > REMEMBERED_BYTES_MAX {
            return Ok(Arc::new(Profile::read(bytes)?));
        }
        if self.remembered.is_empty() {
            self.remembered.resize_with(REMEMBERED_MAX, || None);
        }
        // The low bits choose among as many places as there are.
        let place = &mut self.remembered[xxh3_64(bytes) as usize % REMEMBERED_MAX];
        if let Some(known) = place
            && *known.bytes == *bytes
        {
            return Ok(known.profile.clone());
        }
        let profile = Arc::new(Profile::read(bytes)?);
        *place = Some(Remembered { bytes: bytes.into(), profile: profile.clone() });
        Ok(profile)
    }
}

impl Profile {
    fn read(counter: &[u8]) -> Result<Self, BodyError> {
        let (mut key, mut aggregation, mut event_retention_days) = (None, 0, 0);
        let mut group_by = vec![];
        let mut fields = Fields(counter);
        while let Some((tag, value)) = fields.read()? {
            match tag {
                1 => key = Some(read_key(value)?),
                2 => aggregation = value.number()?,
                3 => group_by.push(value.text()?.to_owned()),
                4 => event_retention_days = value.number()?,
                _ => {}
            }
        }
        let aggregation = i32::try_from(aggregation).ok().and_then(|it| it.try_into().ok());
        Ok(Self {
            key: key.ok_or(BodyError::Missing("key"))?,
            aggregation: aggregation_from_wire(aggregation.unwrap_or_default())?,
            group_by,
            event_retention_days: event_retention_days
                .try_into()
                .map_err(|_| BodyError::Missing("event_retention_days"))?,
        })
    }
}

impl Usage<'_> {
    /// Reads an `Event`; `known` is the operation of the latest that had one.
    fn event(
        &self,
        event: &[u8],
        known: &mut Option<OperationName>,
    ) -> Result<UsageEvent, BodyError> {
        let (mut counter, mut amount, mut from_lease) = (0, 0, 0);
        let (mut seconds, mut nanos) = (0, 0);
        let (mut idempotency_key, mut distinct_value, mut operation) = (None, None, None);
        let mut properties = BTreeMap::new();
        let mut reservation = None;
        let mut parts = vec![];
        let mut fields = Fields(event);
        while let Some((tag, value)) = fields.read()? {
            match tag {
                1 => counter = value.number()?,
                2 => amount = signed(value)?,
                3 => from_lease = value.number()?,
                4 => seconds = signed(value)?,
                5 => nanos = signed(value)?,
                6 => idempotency_key = Some(IdempotencyKey::new(value.text()?)?),
                7 => distinct_value = Some(value.text()?.to_owned()),
                8 => properties.extend([property(value)?]),
                9 => reservation = Some(reservation_id(value)?),
                10 => parts.push(self.part(value)?),
                11 => operation = Some(operation_name(value.text()?, known)?),
                _ => {}
            }
        }
        let profile = at(&self.profiles, counter).ok_or(BodyError::Missing("counter"))?;
        let Profile { key, aggregation, group_by, event_retention_days } = &**profile;
        Ok(UsageEvent {
            key: key.clone(),
            aggregation: *aggregation,
            amount,
            distinct_value,
            time: time(seconds, nanos)?,
            idempotency_key,
            properties: Properties::new(properties)?,
            group_by: group_by.clone(),
            event_retention_days: *event_retention_days,
            from_lease,
            reservation,
            parts,
            operation,
        })
    }

    fn part(&self, part: Value<'_>) -> Result<Part, BodyError> {
        let (mut covering, mut units, mut recorded) = (0, 0, 0);
        let mut fields = Fields(part.bytes()?);
        while let Some((tag, value)) = fields.read()? {
            match tag {
                1 => covering = value.number()?,
                2 => units = value.number()?,
                3 => recorded = value.number()?,
                _ => {}
            }
        }
        let key = at(&self.covering, covering).ok_or(BodyError::Missing("covering"))?;
        Ok(Part { key: key.clone(), units, recorded })
    }
}

fn at<T>(list: &[T], place: u64) -> Option<&T> {
    list.get(usize::try_from(place).ok()?)
}

/// A `CellKey`: rarely read, by way of its message.
fn read_key(value: Value<'_>) -> Result<CellKey, BodyError> {
    key_from_wire(Some(wire::CellKey::decode(value.bytes()?)?))
}

/// A `sint32` or `sint64`.
pub(super) fn signed(value: Value<'_>) -> Result<i64, Unread> {
    let number = value.number()?;
    Ok((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
}

pub(super) fn time(seconds: i64, nanos: i64) -> Result<Timestamp, BodyError> {
    let nanos = i32::try_from(nanos).map_err(|_| BodyError::Missing("time"))?;
    time_from_wire(seconds, nanos)
}

fn operation_name(
    name: &str,
    known: &mut Option<OperationName>,
) -> Result<OperationName, BodyError> {
    match known {
        Some(known) if known.as_str() == name => Ok(known.clone()),
        _ => Ok(known.insert(OperationName::new(name)?).clone()),
    }
}

fn property(value: Value<'_>) -> Result<(String, String), Unread> {
    let mut property = (String::new(), String::new());
    let mut fields = Fields(value.bytes()?);
    while let Some((tag, value)) = fields.read()? {
        match tag {
            1 => property.0 = value.text()?.to_owned(),
            2 => property.1 = value.text()?.to_owned(),
            _ => {}
        }
    }
    Ok(property)
}

fn reservation_id(value: Value<'_>) -> Result<ReservationId, BodyError> {
    let (mut run, mut number) = (None, 0);
    let mut fields = Fields(value.bytes()?);
    while let Some((tag, value)) = fields.read()? {
        match tag {
            1 => run = Uuid::from_slice(value.bytes()?).ok(),
            2 => number = value.number()?,
            _ => {}
        }
    }
    Ok(ReservationId { run: RunId(run.ok_or(BodyError::Missing("run"))?), number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{config::RECORD_BYTES_MAX, encode::encode, samples};

    fn encoded(record: &Record) -> (Kind, Vec<u8>) {
        let mut body = vec![];
        let kind = encode(record.into(), &mut body);
        (kind, body)
    }

    /// The body as Prost writes what it reads of it.
    fn by_prost(kind: Kind, body: &[u8]) -> Vec<u8> {
        match kind {
            Kind::Usage => wire::Usage::decode(body).unwrap().encode_to_vec(),
            _ => wire::CellOpened::decode(body).unwrap().encode_to_vec(),
        }
    }

    proptest::proptest! {
        #[test]
        fn records_read_back_as_they_were_written_and_as_prost_writes_them(
            records in proptest::collection::vec(samples::any_record(), 1..6),
        ) {
            let mut decoder = Decoder::default();
            for record in records {
                let (kind, body) = encoded(&record);
                let prosts = by_prost(kind, &body);
                for body in [&body, &prosts, &body] {
                    let read = decoder.decode(kind, body).unwrap();
                    proptest::prop_assert_eq!(read.as_ref(), Some(&record));
                }
            }
        }

        #[test]
        fn a_damaged_body_is_an_error_or_another_record_and_never_a_panic(
            record in samples::any_record(), at: proptest::sample::Index, byte: u8,
        ) {
            let (kind, mut body) = encoded(&record);
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
            let mut decoder = Decoder::default();
            let read = decoder.decode(kind, &body);
            let again = decoder.decode(kind, &body);
            proptest::prop_assert_eq!(format!("{read:?}"), format!("{again:?}"));
        }
    }

    #[test]
    fn counters_that_share_a_place_are_told_apart() {
        let mut decoder = Decoder::default();
        let of = |tenant: usize| {
            Record::Usage(vec![samples::event(&format!("tenant-{tenant}"), None, 1)])
        };
        for _ in 0..2 {
            for tenant in 0..3 * REMEMBERED_MAX {
                let (kind, body) = encoded(&of(tenant));
                assert_eq!(decoder.decode(kind, &body).unwrap(), Some(of(tenant)));
            }
        }
    }

    #[test]
    fn a_batch_of_100_000_events_with_keys_fits_a_record() {
        let key = |n: u32| format!("{}", Uuid::from_u128(u128::from(n) << 64));
        let events =
            (0..100_000).map(|n| samples::event("acme", Some(&key(n)), i64::from(n))).collect();
        let record = Record::Usage(events);
        let (kind, body) = encoded(&record);
        assert!(body.len() < RECORD_BYTES_MAX as usize / 8, "{} bytes", body.len());
        assert_eq!(Decoder::default().decode(kind, &body).unwrap(), Some(record));
    }

    #[test]
    fn an_event_whose_counter_is_not_in_the_record_is_refused() {
        let event = wire::Event { counter: 1, ..Default::default() };
        let body = wire::Usage { events: vec![event], ..Default::default() }.encode_to_vec();
        let error = Decoder::default().decode(Kind::Usage, &body).unwrap_err();
        assert!(matches!(error, BodyError::Missing("counter")), "{error}");
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over() {
        let record = Record::Usage(vec![samples::event("acme", Some("k"), 7)]);
        let (kind, mut body) = encoded(&record);
        // A number, some bytes, and what has 8 and 4 bytes.
        body.extend([9 << 3, 5, 10 << 3 | 2, 1, 0]);
        body.extend([11 << 3 | 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        body.extend([12 << 3 | 5, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(Decoder::default().decode(kind, &body).unwrap(), Some(record));
    }
}
