//! Of records no more than what is added up.
//!
//! Most events have nothing but units: they all count, and of each its counter, amount and time are
//! needed. To read these alone takes a fraction of what a whole event takes, which is a dozen parts to
//! be made and dropped again.

use std::{mem, sync::Arc};

use jiff::Timestamp;

use super::{
    convert::BodyError,
    decode::{Decode, Decoder, Profile, signed, time},
    frame::Kind,
    record::Record,
};
use crate::proto::wire::Fields;

/// A record, as far as it is added up.
#[derive(Debug, PartialEq)]
pub enum Tally {
    /// Events that count whatever came before, and take nothing back.
    Plain(Vec<Units>),
    /// Any other record.
    Whole(Record),
}

/// An event of which there is nothing more to say: no key, no value, no parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Units {
    pub counter: Arc<Profile>,
    /// Base units, not negative.
    pub amount: i64,
    /// When it happened.
    pub time: Timestamp,
}

/// Counters for which room is kept.
const COUNTERS_KEPT_MAX: usize = 1 << 10;

/// Reads tallies.
#[derive(Default)]
pub struct TallyDecoder {
    whole: Decoder,
    /// Of the record that is read; kept for its room.
    counters: Vec<Arc<Profile>>,
}

impl Decode for TallyDecoder {
    type Record = Tally;

    fn decode(&mut self, kind: Kind, body: &[u8]) -> Result<Option<Tally>, BodyError> {
        if kind == Kind::Usage {
            let mut counters = mem::take(&mut self.counters);
            let plain = self.plain(body, &mut counters);
            counters.clear();
            counters.shrink_to(COUNTERS_KEPT_MAX);
            self.counters = counters;
            if let Some(units) = plain? {
                return Ok(Some(Tally::Plain(units)));
            }
        }
        Ok(self.whole.decode(kind, body)?.map(Tally::Whole))
    }
}

impl TallyDecoder {
    /// The events of a record, unless one of them is more than plain, or refers to a counter that the
    /// record has not named before it.
    fn plain(
        &mut self,
        body: &[u8],
        counters: &mut Vec<Arc<Profile>>,
    ) -> Result<Option<Vec<Units>>, BodyError> {
        const COUNTER: u32 = 1;
        const EVENT: u32 = 2;
        const COVERING: u32 = 3;
        let mut events = vec![];
        let mut fields = Fields(body);
        while let Some((tag, value)) = fields.read()? {
            match tag {
                COUNTER => counters.push(self.whole.profile(value.bytes()?)?),
                EVENT => match units(value.bytes()?, counters)? {
                    Some(units) => events.push(units),
                    None => return Ok(None),
                },
                COVERING => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(events))
    }
}

/// An `Event`, if it is plain.
fn units(event: &[u8], counters: &[Arc<Profile>]) -> Result<Option<Units>, BodyError> {
    const COUNTER: u32 = 1;
    const AMOUNT: u32 = 2;
    const FROM_LEASE: u32 = 3;
    const SECONDS: u32 = 4;
    const NANOS: u32 = 5;
    const PROPERTY: u32 = 8;
    const RESERVATION: u32 = 9;
    const OPERATION: u32 = 11;
    let (mut counter, mut amount, mut seconds, mut nanos) = (0, 0, 0, 0);
    let mut fields = Fields(event);
    while let Some((tag, value)) = fields.read()? {
        match tag {
            COUNTER => counter = value.number()?,
            AMOUNT => amount = signed(value)?,
            SECONDS => seconds = signed(value)?,
            NANOS => nanos = signed(value)?,
            // Whoever adds up has no use for these.
            FROM_LEASE | PROPERTY | RESERVATION | OPERATION => {}
            // A key, a value, a part; or what a later version knows of.
            _ => return Ok(None),
        }
    }
    let counter = usize::try_from(counter).ok().and_then(|place| counters.get(place));
    let Some(counter) = counter.filter(|_| amount >= 0) else { return Ok(None) };
    Ok(Some(Units { counter: counter.clone(), amount, time: time(seconds, nanos)? }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::usage::UsageEvent,
        journal::{encode::encode, samples},
    };

    fn encoded(record: &Record) -> (Kind, Vec<u8>) {
        let mut body = vec![];
        let kind = encode(record.into(), &mut body);
        (kind, body)
    }

    /// Whether it has nothing but units.
    fn is_plain(event: &UsageEvent) -> bool {
        event.idempotency_key.is_none()
            && event.distinct_value.is_none()
            && event.parts.is_empty()
            && event.amount >= 0
    }

    proptest! {
        #[test]
        fn a_tally_is_of_what_the_record_says(
            usages in prop::collection::vec(samples::mostly_plain_usage(), 1..6),
        ) {
            let mut decoder = TallyDecoder::default();
            for events in usages {
                let are_plain = events.iter().all(is_plain);
                let record = Record::Usage(events.clone());
                let (kind, body) = encoded(&record);
                match decoder.decode(kind, &body).unwrap().unwrap() {
                    Tally::Plain(units) => {
                        let found: Vec<_> = units
                            .iter()
                            .map(|it| (&it.counter.key, it.counter.aggregation, it.amount, it.time))
                            .collect();
                        let told: Vec<_> = events
                            .iter()
                            .map(|it| (&it.key, it.aggregation, it.amount, it.time))
                            .collect();
                        prop_assert_eq!(found, told);
                        prop_assert!(are_plain);
                    }
                    whole => {
                        prop_assert_eq!(whole, Tally::Whole(record));
                        prop_assert!(!are_plain);
                    }
                }
            }
        }

        #[test]
        fn a_damaged_body_is_an_error_or_another_tally_and_never_a_panic(
            events in samples::mostly_plain_usage(), at: prop::sample::Index, byte: u8,
        ) {
            let (kind, mut body) = encoded(&Record::Usage(events));
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
            let mut decoder = TallyDecoder::default();
            let read = format!("{:?}", decoder.decode(kind, &body));
            prop_assert_eq!(read, format!("{:?}", decoder.decode(kind, &body)));
        }
    }

    #[test]
    fn plain_events_are_read_as_plain() {
        let record = Record::Usage(vec![
            samples::event("acme", None, 7),
            samples::event("other", None, 0),
            samples::event("acme", None, 1),
        ]);
        let (kind, body) = encoded(&record);
        let read = TallyDecoder::default().decode(kind, &body).unwrap();
        let Some(Tally::Plain(units)) = read else { panic!("{read:?}") };
        assert_eq!(units.iter().map(|units| units.amount).collect::<Vec<_>>(), [7, 0, 1]);
    }

    #[test]
    fn an_event_with_a_key_or_with_less_than_nothing_is_read_whole() {
        for event in [samples::event("acme", Some("k"), 7), samples::event("acme", None, -7)] {
            let record = Record::Usage(vec![samples::event("acme", None, 7), event]);
            let (kind, body) = encoded(&record);
            let read = TallyDecoder::default().decode(kind, &body).unwrap();
            assert_eq!(read, Some(Tally::Whole(record)));
        }
    }
}
