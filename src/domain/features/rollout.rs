//! Who a percentage rollout has reached.
//!
//! A tenant (or a subject within it) has a fixed place from 0 to 999,999 in each rollout: XXH3 (64
//! bits, seed 0) of `salt`, `tenant` and `subject` with a byte 0x1F between them, modulo 1,000,000;
//! no id holds that byte. A rollout of p % has reached the places below p × 10,000, so percentages
//! are exact to their fourth decimal, a larger one only adds tenants, and every sidecar and every
//! release says the same. Two features with one salt reach the same tenants first.

use xxhash_rust::xxh3::xxh3_64;

use crate::domain::{
    catalog::decimal::Percent,
    ids::{Subject, TenantId},
};

/// Places in a rollout: a percentage has four decimals.
pub const PLACES: u32 = 1_000_000;

/// Nothing that is hashed contains it.
const SEPARATOR: char = '\u{1f}';

/// The place of a tenant, or of a subject within it, in the rollout of that salt.
pub fn place(salt: &str, tenant: &TenantId, subject: Option<&Subject>) -> u32 {
    let subject = subject.map_or("", Subject::as_str);
    let text = format!("{salt}{SEPARATOR}{tenant}{SEPARATOR}{subject}");
    // Less than PLACES, so that it fits.
    u32::try_from(xxh3_64(text.as_bytes()) % u64::from(PLACES)).unwrap_or(0)
}

/// How many places a rollout has reached.
pub fn places_reached(percent: Percent) -> u32 {
    let places = percent.get() * rust_decimal::Decimal::from(PLACES / 100);
    // At most four decimals and at most 100 %, so that it is whole and fits.
    places.try_into().unwrap_or(0)
}
