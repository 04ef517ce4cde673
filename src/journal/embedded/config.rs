//! The embedded store's bounds.

use jiff::SignedDuration;

/// What the store keeps, and for how long.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// How long a used idempotency key is known.
    pub key_retention: SignedDuration,
    /// Most keys that are known at a time, about 150 bytes of memory each; the oldest are forgotten
    /// first, which is counted and logged.
    pub keys_max: usize,
    /// How long a window that is over is kept.
    pub window_retention: SignedDuration,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            key_retention: SignedDuration::from_hours(35 * 24),
            keys_max: 1_000_000,
            window_retention: SignedDuration::from_hours(7 * 24),
        }
    }
}
