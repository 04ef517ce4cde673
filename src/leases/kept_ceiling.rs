//! A ceiling as those keep it of whom there are very many.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::message::Ceiling;

/// A [`Ceiling`] in 16 bytes instead of 24, and in no more where there may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct KeptCeiling {
    /// One more than the ceiling has; the highest number: there is no ceiling. The two highest ceilings,
    /// far beyond any amount, are kept as the one below.
    above: NonZeroU64,
    version: u64,
}

/// As it is written: the number of no ceiling is 0, which takes a byte.
impl From<KeptCeiling> for (u64, u64) {
    fn from(KeptCeiling { above, version }: KeptCeiling) -> Self {
        (if above == NonZeroU64::MAX { 0 } else { above.get() }, version)
    }
}

impl From<(u64, u64)> for KeptCeiling {
    fn from((above, version): (u64, u64)) -> Self {
        Self { above: NonZeroU64::new(above).unwrap_or(NonZeroU64::MAX), version }
    }
}

impl From<Ceiling> for KeptCeiling {
    fn from(Ceiling { units, version }: Ceiling) -> Self {
        let above = units.map_or(NonZeroU64::MAX, |units| {
            NonZeroU64::MIN.saturating_add(units.min(u64::MAX - 2))
        });
        Self { above, version }
    }
}

impl From<KeptCeiling> for Ceiling {
    fn from(KeptCeiling { above, version }: KeptCeiling) -> Self {
        let units = (above != NonZeroU64::MAX).then(|| above.get() - 1);
        Self { units, version }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::amount::AMOUNT_MAX;

    #[test]
    fn a_ceiling_is_what_it_was_and_the_highest_is_not_taken_for_none() {
        for units in [None, Some(0), Some(1), Some(AMOUNT_MAX), Some(u64::MAX - 2)] {
            let ceiling = Ceiling { units, version: 7 };
            let kept = KeptCeiling::from(ceiling);
            assert_eq!(Ceiling::from(kept), ceiling);
            assert_eq!(KeptCeiling::from(<(u64, u64)>::from(kept)), kept);
        }
        let highest = Ceiling { units: Some(u64::MAX), version: 7 };
        assert_eq!(Ceiling::from(KeptCeiling::from(highest)).units, Some(u64::MAX - 2));
    }
}
