//! A plan changed in mid-cycle: the unused part of the old price back, the rest of the cycle at the
//! new one. By time left, in whole seconds.

use rust_decimal::Decimal;

use super::{error::PricingError, exact::Exact};
use crate::domain::money::{Currency, Money};

/// A change of price within one billing cycle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceChange {
    /// Price of a whole cycle before, in major units.
    pub old: Decimal,
    /// Price of a whole cycle after, in major units.
    pub new: Decimal,
    pub currency: Currency,
    /// Seconds of the cycle that are left at the change.
    pub left_s: u64,
    /// Seconds that the cycle lasts, at least 1.
    pub cycle_s: u64,
}

/// The two lines that a change of price leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proration {
    /// The unused part of the old price, negative.
    pub credit_exact: Exact,
    pub credit: Money,
    /// The same part of the new price.
    pub charge_exact: Exact,
    pub charge: Money,
    /// What is owed together: the sum of the two *rounded* lines, as an invoice adds them up.
    pub net: Money,
}

impl PriceChange {
    /// Credit and charge, each rounded once, half away from zero.
    pub fn prorate(self) -> Result<Proration, PricingError> {
        let Self { left_s, cycle_s, currency, .. } = self;
        if cycle_s == 0 {
            return Err(PricingError::ZeroDivisor { what: "the cycle's length" });
        }
        if left_s > cycle_s {
            return Err(PricingError::LeftOfCycle { left_s, cycle_s });
        }
        let credit_exact = Exact::from_decimal(self.old).scaled(left_s, cycle_s)?.negated();
        let charge_exact = Exact::from_decimal(self.new).scaled(left_s, cycle_s)?;
        let credit = credit_exact.round_half_away_from_zero(currency)?;
        let charge = charge_exact.round_half_away_from_zero(currency)?;
        let minor = charge
            .minor
            .checked_add(credit.minor)
            .ok_or(PricingError::OutOfRange { what: "the net amount" })?;
        Ok(Proration { credit_exact, credit, charge_exact, charge, net: Money { minor, currency } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 86_400;

    fn change(old: &str, new: &str, left_s: u64, cycle_s: u64) -> PriceChange {
        PriceChange {
            old: old.parse().unwrap(),
            new: new.parse().unwrap(),
            currency: Currency::new("GBP").unwrap(),
            left_s,
            cycle_s,
        }
    }

    #[test]
    fn half_a_month_of_an_upgrade_nets_fifteen() {
        let lines = change("19.99", "49.99", 15 * DAY_S, 30 * DAY_S).prorate().unwrap();
        assert_eq!(lines.credit_exact.to_string(), "-9.995");
        assert_eq!(lines.charge_exact.to_string(), "24.995");
        assert_eq!((lines.credit.minor, lines.charge.minor), (-1000, 2500));
        assert_eq!(lines.net.minor, 1500);
    }

    #[test]
    fn a_change_at_the_cycles_ends_is_all_or_nothing() {
        let start = change("19.99", "49.99", 30 * DAY_S, 30 * DAY_S).prorate().unwrap();
        assert_eq!((start.credit.minor, start.charge.minor), (-1999, 4999));
        let end = change("19.99", "49.99", 0, 30 * DAY_S).prorate().unwrap();
        assert_eq!((end.credit.minor, end.charge.minor), (0, 0));
    }

    #[test]
    fn more_left_than_the_cycle_has_is_refused() {
        assert!(matches!(
            change("1", "2", 11, 10).prorate(),
            Err(PricingError::LeftOfCycle { left_s: 11, cycle_s: 10 })
        ));
        assert!(change("1", "2", 0, 0).prorate().is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_change_to_the_same_price_nets_nothing(
            minor in 0i64..10_000_000, cycle_s in 1u64..40_000_000, part in 0.0f64..=1.0,
        ) {
            let left_s = (cycle_s as f64 * part) as u64;
            let price = Decimal::new(minor, 2).to_string();
            let lines = change(&price, &price, left_s, cycle_s).prorate().unwrap();
            proptest::prop_assert_eq!(lines.net.minor, 0);
            proptest::prop_assert!(lines.charge.minor <= minor);
        }
    }
}
