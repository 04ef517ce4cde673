//! Why a price cannot be computed.

/// Facts that no price follows from. The catalog's validation refuses most of them beforehand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    /// A figure on the way does not fit 127 bits, or the rounded one 63.
    #[error("{what} does not fit: quantity and rate together have too many digits")]
    OutOfRange { what: &'static str },
    /// Something is priced per zero units, or a cycle lasts no time.
    #[error("{what} is zero; it is divided by and must be at least 1")]
    ZeroDivisor { what: &'static str },
    /// Tiers without an order: each must end above the one before, and only the last is open.
    #[error("tier {index} {problem}")]
    Tier { index: usize, problem: &'static str },
    /// More of the cycle is left than it has.
    #[error("{left_s} s of a cycle of {cycle_s} s cannot be left")]
    LeftOfCycle { left_s: u64, cycle_s: u64 },
}
