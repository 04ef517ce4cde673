//! Single fields of messages: checked on the way in, put into the wire's form on the way out.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::{
    domain::{
        ids::{IdempotencyKey, Subject},
        invalid::Invalid,
        properties::Properties,
        reservation::ReservationId,
        usage::Durability,
    },
    proto::v1,
};

/// How a limit that is none is written on every face.
pub const UNLIMITED: i64 = -1;

/// The subject; empty text is none.
pub fn subject(text: &str) -> Result<Option<Subject>, Invalid> {
    if text.is_empty() { Ok(None) } else { Subject::new(text).map(Some) }
}

/// The idempotency key; empty text is none.
pub fn idempotency_key(text: &str) -> Result<Option<IdempotencyKey>, Invalid> {
    if text.is_empty() { Ok(None) } else { IdempotencyKey::new(text).map(Some) }
}

/// The reservation that usage settles; empty text is none.
pub fn optional_reservation(text: &str) -> Result<Option<ReservationId>, Invalid> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// An amount that was given: leaving it out is not 0, and not 1 either.
pub fn required_amount(amount: Option<i64>) -> Result<i64, Invalid> {
    amount.ok_or_else(|| {
        Invalid::new("amount", "is missing", "give the base units; 0 is an amount too")
    })
}

/// The durability; UNSPECIFIED is the sidecar's default.
pub fn durability(number: i32) -> Result<Option<Durability>, Invalid> {
    match v1::Durability::try_from(number) {
        Ok(v1::Durability::Unspecified) => Ok(None),
        Ok(v1::Durability::Memory) => Ok(Some(Durability::Memory)),
        Ok(v1::Durability::Written) => Ok(Some(Durability::Written)),
        Ok(v1::Durability::Sync) => Ok(Some(Durability::Sync)),
        Err(_) => Err(Invalid::new(
            "durability",
            format!("{number} is not a durability"),
            "use DURABILITY_SYNC, DURABILITY_WRITTEN or DURABILITY_MEMORY, or leave it out",
        )),
    }
}

/// The properties, checked.
pub fn properties(map: BTreeMap<String, String>) -> Result<Properties, Invalid> {
    if map.is_empty() { Ok(Properties::default()) } else { Properties::new(map) }
}

/// An instant; absent stays absent.
pub fn instant(
    field: &'static str,
    wire: Option<crate::proto::time::Timestamp>,
) -> Result<Option<Timestamp>, Invalid> {
    let Some(wire) = wire else { return Ok(None) };
    let valid_nanos = (0..1_000_000_000).contains(&wire.nanos);
    match Timestamp::new(wire.seconds, wire.nanos) {
        Ok(instant) if valid_nanos => Ok(Some(instant)),
        _ => Err(Invalid::new(
            field,
            format!("is not an instant ({} s, {} ns)", wire.seconds, wire.nanos),
            "give seconds since 1970 (years 1 to 9999) and 0 to 999,999,999 nanoseconds",
        )),
    }
}

/// A length of time greater than 0; absent stays absent.
pub fn positive_duration(
    field: &'static str,
    wire: Option<crate::proto::time::Duration>,
) -> Result<Option<Duration>, Invalid> {
    let Some(wire) = wire else { return Ok(None) };
    match Duration::try_from(wire) {
        Ok(length) if !length.is_zero() => Ok(Some(length)),
        _ => Err(Invalid::new(
            field,
            format!("is not a positive length of time ({} s, {} ns)", wire.seconds, wire.nanos),
            "give 1 s or more",
        )),
    }
}

/// Base units as the wire has them.
pub fn units(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Base units that may be unlimited.
pub fn units_or_unlimited(amount: Option<u64>) -> i64 {
    amount.map_or(UNLIMITED, units)
}

/// An instant as the wire has it.
pub fn wire_instant(instant: Timestamp) -> crate::proto::time::Timestamp {
    // jiff gives the sub-second part the sign of the instant; the wire wants it positive.
    let nanos = i128::from(instant.subsec_nanosecond());
    let (seconds, nanos) = if nanos < 0 {
        (instant.as_second() - 1, nanos + 1_000_000_000)
    } else {
        (instant.as_second(), nanos)
    };
    crate::proto::time::Timestamp { seconds, nanos: i32::try_from(nanos).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durability_from_the_future_is_refused_by_its_number() {
        let error = durability(9).unwrap_err();
        assert_eq!(error.field, "durability");
        assert!(error.problem.contains('9'), "{error}");
        assert_eq!(durability(0), Ok(None));
        assert_eq!(durability(3), Ok(Some(Durability::Sync)));
    }

    #[test]
    fn an_instant_outside_the_calendar_or_with_odd_nanoseconds_is_refused() {
        let wire = |seconds, nanos| Some(crate::proto::time::Timestamp { seconds, nanos });
        assert!(instant("time", wire(i64::MAX, 0)).is_err());
        assert!(instant("time", wire(0, -1)).is_err());
        assert!(instant("time", wire(0, 1_000_000_000)).is_err());
        assert_eq!(instant("time", None), Ok(None));
    }

    #[test]
    fn a_missing_amount_is_neither_0_nor_1() {
        assert_eq!(required_amount(None).unwrap_err().field, "amount");
        assert_eq!(required_amount(Some(0)), Ok(0));
    }

    #[test]
    fn a_length_of_time_must_be_positive() {
        let wire = |seconds, nanos| Some(crate::proto::time::Duration { seconds, nanos });
        for bad in [wire(0, 0), wire(-1, 0), wire(0, -5)] {
            assert!(positive_duration("reservation_ttl", bad).is_err(), "{bad:?}");
        }
        let half = positive_duration("reservation_ttl", wire(0, 500_000_000));
        assert_eq!(half, Ok(Some(Duration::from_millis(500))));
    }

    proptest::proptest! {
        #[test]
        fn every_instant_survives_the_wire(
            second in -60_000_000_000i64..250_000_000_000,
            nanosecond in 0i32..1_000_000_000,
        ) {
            let before = Timestamp::new(second, nanosecond).unwrap();
            proptest::prop_assert_eq!(instant("time", Some(wire_instant(before))), Ok(Some(before)));
        }
    }
}
