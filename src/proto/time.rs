//! `google.protobuf.Timestamp` and `Duration`, and their JSON: RFC 3339 in UTC (`Z`) and seconds
//! with an `s`, each with 0, 3, 6 or 9 digits of a second's fraction.

use std::fmt;

use serde::{
    de::{Deserialize, Deserializer, Error, Visitor},
    ser::{Serialize, Serializer},
};

use super::json::{told, unfit};

const NANOS_PER_SECOND: i32 = 1_000_000_000;
/// The first second of year 1; proto knows none before.
const FIRST_SECOND: i64 = -62_135_596_800;
/// The longest that proto has, seconds: about 10,000 years.
const LONGEST_SECONDS: i64 = 315_576_000_000;

/// An instant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Timestamp {
    /// Since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// 0 to 999,999,999, also before 1970.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A length of time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Duration {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Of the sign of `seconds`.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl From<std::time::Duration> for Duration {
    /// What is longer than proto has is the longest.
    fn from(length: std::time::Duration) -> Self {
        let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX).min(LONGEST_SECONDS);
        // Below 10^9.
        Self { seconds, nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0) }
    }
}

impl TryFrom<Duration> for std::time::Duration {
    type Error = std::num::TryFromIntError;

    /// Fails where it is negative.
    fn try_from(length: Duration) -> Result<Self, Self::Error> {
        Ok(Self::new(length.seconds.try_into()?, length.nanos.try_into()?))
    }
}

/// A fraction of a second with as many digits as it needs, in groups of three.
fn fraction(nanos: u32) -> String {
    let digits = format!("{nanos:09}");
    match nanos {
        0 => String::new(),
        nanos if nanos % 1_000_000 == 0 => format!(".{}", &digits[..3]),
        nanos if nanos % 1_000 == 0 => format!(".{}", &digits[..6]),
        _ => format!(".{digits}"),
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let second = jiff::Timestamp::from_second(self.seconds);
        let (Ok(second), Ok(nanos)) = (second, u32::try_from(self.nanos)) else {
            return Err(serde::ser::Error::custom("an instant outside the calendar"));
        };
        let text = format!("{second:.0}");
        serializer.serialize_str(&format!("{}{}Z", text.trim_end_matches('Z'), fraction(nanos)))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sign = if self.seconds < 0 || self.nanos < 0 { "-" } else { "" };
        let (seconds, nanos) = (self.seconds.unsigned_abs(), self.nanos.unsigned_abs());
        serializer.serialize_str(&format!("{sign}{seconds}{}s", fraction(nanos)))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InstantVisitor)
    }
}

struct InstantVisitor;

const AN_INSTANT: &str = "an RFC 3339 time, such as \"2026-11-21T10:00:00Z\"";

impl Visitor<'_> for InstantVisitor {
    type Value = Timestamp;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(AN_INSTANT)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
        let refused = || unfit(format_args!("is {}, not an RFC 3339 time", told(text)), AN_INSTANT);
        let instant: jiff::Timestamp = text.parse().map_err(|_| refused())?;
        let (mut seconds, mut nanos) = (instant.as_second(), instant.subsec_nanosecond());
        if nanos < 0 {
            (seconds, nanos) = (seconds - 1, nanos + NANOS_PER_SECOND);
        }
        if seconds < FIRST_SECOND { Err(refused()) } else { Ok(Timestamp { seconds, nanos }) }
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LengthVisitor)
    }
}

struct LengthVisitor;

const A_LENGTH: &str = "seconds with an s, such as \"1.5s\"";

impl Visitor<'_> for LengthVisitor {
    type Value = Duration;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(A_LENGTH)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        length(text)
            .ok_or_else(|| unfit(format_args!("is {}, not a length of time", told(text)), A_LENGTH))
    }
}

/// `-1.5s`: a sign, seconds, up to nine digits of a fraction, and an `s`.
fn length(text: &str) -> Option<Duration> {
    let text = text.strip_suffix('s')?;
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
    let (whole, part) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    let are_digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !are_digits(whole) || !are_digits(part) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: i32 = format!("{part:0<9}").parse().ok()?;
    let is_longest = seconds == LONGEST_SECONDS && nanos == 0;
    (seconds < LONGEST_SECONDS || is_longest)
        .then_some(Duration { seconds: sign * seconds, nanos: nanos * sign as i32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_in_utc_with_a_z_and_read_in_every_offset() {
        for (seconds, nanos, text) in [
            (1_795_168_800, 0, "2026-11-20T10:00:00Z"),
            (1_795_168_800, 500_000_000, "2026-11-20T10:00:00.500Z"),
            (1_795_168_800, 1_000, "2026-11-20T10:00:00.000001Z"),
            (1_795_168_800, 1, "2026-11-20T10:00:00.000000001Z"),
            (-1, 500_000_000, "1969-12-31T23:59:59.500Z"),
            (FIRST_SECOND, 0, "0001-01-01T00:00:00Z"),
        ] {
            let at = Timestamp { seconds, nanos };
            assert_eq!(serde_json::to_value(at).unwrap(), text);
            assert_eq!(serde_json::from_value::<Timestamp>(text.into()).unwrap(), at, "{text}");
        }
        let paris: Timestamp = serde_json::from_str("\"2026-11-20T11:00:00+01:00\"").unwrap();
        assert_eq!(paris.seconds, 1_795_168_800);
        for bad in ["\"yesterday\"", "\"2026-11-20\"", "\"\"", "12", "\"0000-12-31T00:00:00Z\""] {
            let error = serde_json::from_str::<Timestamp>(bad).unwrap_err().to_string();
            assert!(error.contains("RFC 3339"), "{bad}: {error}");
        }
    }

    #[test]
    fn lengths_of_time_are_seconds_with_an_s() {
        for (seconds, nanos, text) in [
            (0, 0, "0s"),
            (1, 500_000_000, "1.500s"),
            (121, 3_454, "121.000003454s"),
            (0, -67_088, "-0.000067088s"),
            (-LONGEST_SECONDS, 0, "-315576000000s"),
        ] {
            let length = Duration { seconds, nanos };
            assert_eq!(serde_json::to_value(length).unwrap(), text);
            assert_eq!(serde_json::from_value::<Duration>(text.into()).unwrap(), length, "{text}");
        }
        for bad in [
            "\"5\"",
            "\"s\"",
            "\"1.s\"",
            "\"1.1234567890s\"",
            "\"+1s\"",
            "\"--1s\"",
            "5",
            "\"315576000001s\"",
            "\"1e3s\"",
            "\"--9223372036854775808s\"",
        ] {
            let error = serde_json::from_str::<Duration>(bad).unwrap_err().to_string();
            assert!(error.contains("seconds with an s"), "{bad}: {error}");
        }
    }
}
