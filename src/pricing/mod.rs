//! What is owed: pure functions from facts to lines. No clock, no IO, no randomness.
//!
//! Amounts are exact fractions ([`exact::Exact`]) until a line is made; a line is rounded once, to
//! the currency's minor unit, half away from zero. A number that does not fit is an error
//! ([`error::PricingError`]), never a panic and never a wrapped or saturated figure.

pub mod catalog_price;
pub mod closing;
pub mod error;
pub mod exact;
pub mod level;
pub mod model;
pub mod overage;
pub mod proration;
pub mod unit_price;
