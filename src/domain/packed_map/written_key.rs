//! How a key is written.
//!
//! ```text
//! head            1 byte: the period's number, and whether [`WITH_SUBJECT`], [`METER_IN_FULL`],
//!                 [`IN_QUARTERS`]
//! tenant          text
//! meter           its number, or text
//! subject         text, if there is one
//! period          what it has beside its number
//! start           number: quarters of an hour, if it is a multiple, or else seconds
//! anchor version  number
//! ```
//!
//! Texts and numbers are as `postcard` writes them: a text's length comes before it, and a number takes a
//! byte for each seven bits. A key is always written the same, and where it ends depends on nothing that
//! is behind it.

use serde::{Deserialize, Serialize};

use super::names::{Name, Names};
use crate::domain::{cell_key::KeyParts, ids::GrantId, period::Period, window::WindowLabel};

/// An entry holds what was written here.
pub(super) const WRITTEN_HERE: &str = "an entry is read as it was written";
/// Keys and values are plain data, and a vector grows.
pub(super) const WRITABLE: &str = "plain data can be written to memory";

/// The bits of the period's number.
const PERIOD: u8 = 0b111;
const WITH_SUBJECT: u8 = 1 << 3;
const METER_IN_FULL: u8 = 1 << 4;
const IN_QUARTERS: u8 = 1 << 5;

/// Where days and months begin, in all time zones of today.
const QUARTER_SECONDS: i64 = 900;

/// Writes `key`, whose meter goes by `meter`, behind what is in `bytes`.
pub(super) fn write(key: KeyParts<'_>, meter: Name, bytes: &mut Vec<u8>) {
    let KeyParts { tenant, meter: meter_name, subject, label } = key;
    let WindowLabel { period, start, anchor_version } = label;
    let (number, of_period) = match period {
        Period::Minute => (0, None),
        Period::Hour => (1, None),
        Period::Day => (2, None),
        Period::Month => (3, None),
        Period::BillingCycle => (4, None),
        Period::Interval { seconds } => (5, Some(u64::from(seconds))),
        Period::Lifetime => (6, None),
        Period::Grant { id: GrantId(id) } => (7, Some(id)),
    };
    let in_quarters = start % QUARTER_SECONDS == 0;
    let bit = |bit: u8, is_set: bool| if is_set { bit } else { 0 };
    bytes.push(
        number
            | bit(WITH_SUBJECT, subject.is_some())
            | bit(METER_IN_FULL, meter == Name::Text)
            | bit(IN_QUARTERS, in_quarters),
    );
    put(&tenant, bytes);
    match meter {
        Name::Number(number) => put(&number, bytes),
        Name::Text => put(&meter_name, bytes),
    }
    if let Some(subject) = subject {
        put(&subject, bytes);
    }
    if let Some(of_period) = of_period {
        put(&of_period, bytes);
    }
    put(&if in_quarters { start / QUARTER_SECONDS } else { start }, bytes);
    put(&anchor_version, bytes);
}

/// The key that an entry begins with, and what is behind it: the value, and what fills its place up.
pub(super) fn read<'e>(entry: &'e [u8], meters: &'e Names) -> (KeyParts<'e>, &'e [u8]) {
    let rest = &mut &entry[1..];
    let head = entry[0];
    let tenant = take(rest);
    let meter = match head & METER_IN_FULL {
        0 => meters.name(take(rest)),
        _ => take(rest),
    };
    let subject = (head & WITH_SUBJECT != 0).then(|| take(rest));
    let period = match head & PERIOD {
        0 => Period::Minute,
        1 => Period::Hour,
        2 => Period::Day,
        3 => Period::Month,
        4 => Period::BillingCycle,
        5 => Period::Interval { seconds: take(rest) },
        6 => Period::Lifetime,
        _ => Period::Grant { id: GrantId(take(rest)) },
    };
    let unit = if head & IN_QUARTERS == 0 { 1 } else { QUARTER_SECONDS };
    let start = take::<i64>(rest) * unit;
    let label = WindowLabel { period, start, anchor_version: take(rest) };
    (KeyParts { tenant, meter, subject, label }, *rest)
}

/// How many bytes of an entry are the key's.
pub(super) fn bytes(entry: &[u8]) -> usize {
    // Names are not looked up for it: a table may be worked on that needs none.
    let (head, rest) = (entry[0], &mut &entry[1..]);
    let _tenant: &str = take(rest);
    if head & METER_IN_FULL == 0 {
        let _number: u16 = take(rest);
    } else {
        let _name: &str = take(rest);
    }
    if head & WITH_SUBJECT != 0 {
        let _subject: &str = take(rest);
    }
    if matches!(head & PERIOD, 5 | 7) {
        let _of_period: u64 = take(rest);
    }
    let _start: i64 = take(rest);
    let _anchor_version: u32 = take(rest);
    entry.len() - rest.len()
}

fn put(part: &impl Serialize, bytes: &mut Vec<u8>) {
    *bytes = postcard::to_extend(part, std::mem::take(bytes)).expect(WRITABLE);
}

fn take<'e, P: Deserialize<'e>>(rest: &mut &'e [u8]) -> P {
    let (part, behind) = postcard::take_from_bytes(rest).expect(WRITTEN_HERE);
    *rest = behind;
    part
}
