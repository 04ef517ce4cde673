//! An amount of money in major units as a fraction, so that a price per 2^30 bytes or a third of a
//! month is as exact as a price per 10^9.
//!
//! `rust_decimal` holds 96 bits and rounds a quotient at 28 digits without saying so: rounding that
//! again to cents could turn a hair below half a cent into half a cent. Here every step is exact or
//! an error, and the one rounding is named.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};

use super::error::PricingError;
use crate::domain::money::{Currency, Money};

/// Digits after the point that are shown of an amount that has no finite decimal form.
const SHOWN_DIGITS: u32 = 15;

/// `numerator / denominator` major units of a currency, in lowest terms, denominator ≥ 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exact {
    numerator: i128,
    denominator: i128,
}

impl Exact {
    /// Nothing.
    pub const ZERO: Self = Self { numerator: 0, denominator: 1 };

    /// A decimal as it stands.
    pub fn from_decimal(value: Decimal) -> Self {
        // A decimal's scale is at most 28, and 10^28 fits 94 bits.
        Self::reduced(value.mantissa(), 10i128.pow(value.scale()))
    }

    /// This amount `times / per` times over.
    pub fn scaled(self, times: u64, per: u64) -> Result<Self, PricingError> {
        if per == 0 {
            return Err(PricingError::ZeroDivisor { what: "the pricing unit" });
        }
        let factor = Self::reduced(i128::from(times), i128::from(per));
        // Cancelling across before multiplying keeps the products as small as they can be.
        let left = Self::reduced(self.numerator, factor.denominator);
        let right = Self::reduced(factor.numerator, self.denominator);
        let out_of_range = PricingError::OutOfRange { what: "the exact amount" };
        let numerator = left.numerator.checked_mul(right.numerator);
        let denominator = left.denominator.checked_mul(right.denominator);
        let (Some(numerator), Some(denominator)) = (numerator, denominator) else {
            return Err(out_of_range);
        };
        Ok(Self { numerator, denominator })
    }

    /// The sum, exactly.
    pub fn plus(self, other: Self) -> Result<Self, PricingError> {
        let shared = gcd(self.denominator, other.denominator);
        let (mine, theirs) = (self.denominator / shared, other.denominator / shared);
        let sum = || {
            let left = self.numerator.checked_mul(theirs)?;
            let right = other.numerator.checked_mul(mine)?;
            Some(Self::reduced(left.checked_add(right)?, self.denominator.checked_mul(theirs)?))
        };
        sum().ok_or(PricingError::OutOfRange { what: "a sum of exact amounts" })
    }

    /// The same amount owed the other way.
    #[must_use]
    pub fn negated(self) -> Self {
        // A numerator is never i128::MIN: products of smaller factors are checked, and the sum of
        // two can only reach it from amounts that no catalog expresses; saturating keeps the type
        // total without a panic.
        Self { numerator: self.numerator.saturating_neg(), denominator: self.denominator }
    }

    /// A line's one rounding: to the minor unit, half away from zero (0.125 → 0.13).
    pub fn round_half_away_from_zero(self, currency: Currency) -> Result<Money, PricingError> {
        let scale = 10i128.pow(currency.exponent());
        let rounded = || {
            // Whole part and rest apart, so that only the rest (< denominator) is scaled up.
            let whole = (self.numerator / self.denominator).checked_mul(scale)?;
            let rest = (self.numerator % self.denominator).checked_mul(scale)?;
            let below = rest / self.denominator;
            let left = (rest % self.denominator).unsigned_abs();
            let step = if left >= self.denominator.unsigned_abs() - left && left > 0 {
                self.numerator.signum()
            } else {
                0
            };
            i64::try_from(whole.checked_add(below)?.checked_add(step)?).ok()
        };
        match rounded() {
            Some(minor) => Ok(Money { minor, currency }),
            None => Err(PricingError::OutOfRange { what: "the rounded amount" }),
        }
    }

    /// For people and for the ledger's column: the exact decimal where there is one that fits, else
    /// the nearest with 15 digits after the point. A line's rounding never starts from it. `None`
    /// when even that has more than 28 digits.
    pub fn to_decimal(self) -> Option<Decimal> {
        if let Some(exact) = self.finite_decimal() {
            return Some(exact);
        }
        let whole = Decimal::try_from_i128_with_scale(self.numerator / self.denominator, 0).ok()?;
        let rest = self.numerator % self.denominator;
        let shown = rest.checked_mul(10i128.pow(SHOWN_DIGITS + 1))? / self.denominator;
        let fraction = Decimal::try_from_i128_with_scale(shown, SHOWN_DIGITS + 1).ok()?;
        let sum = whole.checked_add(fraction)?;
        let strategy = RoundingStrategy::MidpointAwayFromZero;
        Some(sum.round_dp_with_strategy(SHOWN_DIGITS, strategy).normalize())
    }

    fn finite_decimal(self) -> Option<Decimal> {
        let (mut rest, mut twos, mut fives) = (self.denominator, 0u32, 0u32);
        while rest % 2 == 0 {
            (rest, twos) = (rest / 2, twos + 1);
        }
        while rest % 5 == 0 {
            (rest, fives) = (rest / 5, fives + 1);
        }
        if rest != 1 {
            return None;
        }
        let scale = twos.max(fives);
        let lift = 10i128.checked_pow(scale)? / self.denominator;
        Decimal::try_from_i128_with_scale(self.numerator.checked_mul(lift)?, scale).ok()
    }

    fn reduced(numerator: i128, denominator: i128) -> Self {
        let shared = gcd(numerator, denominator);
        Self { numerator: numerator / shared, denominator: denominator / shared }
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.finite_decimal() {
            Some(decimal) => write!(f, "{decimal}"),
            None => write!(f, "{}/{}", self.numerator, self.denominator),
        }
    }
}

impl fmt::Debug for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialOrd for Exact {
    /// `None` where the comparison itself would not fit.
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let left = self.numerator.checked_mul(other.denominator)?;
        Some(left.cmp(&other.numerator.checked_mul(self.denominator)?))
    }
}

/// The greatest number that divides both; `denominator` ≥ 1, and so is the answer.
fn gcd(numerator: i128, denominator: i128) -> i128 {
    let (mut a, mut b) = (denominator, (numerator % denominator).abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::amount::AMOUNT_MAX;

    fn usd() -> Currency {
        Currency::new("USD").unwrap()
    }

    fn exact(text: &str) -> Exact {
        Exact::from_decimal(text.parse().unwrap())
    }

    #[test]
    fn a_third_of_a_cent_three_times_is_a_cent() {
        let third = exact("0.01").scaled(1, 3).unwrap();
        let sum = third.plus(third).unwrap().plus(third).unwrap();
        assert_eq!(sum, exact("0.01"));
        assert_eq!(third.to_string(), "1/300");
        assert_eq!(third.to_decimal().unwrap().to_string(), "0.003333333333333");
    }

    #[test]
    fn what_is_a_hair_below_half_a_cent_is_not_rounded_up_by_way_of_digits() {
        // 0.005 − 1/(3·10^17): 28 digits of it beside a large whole part would read 0.005.
        let below =
            exact("99999999999.005").plus(exact("-0.00000000000000001").scaled(1, 3).unwrap());
        let money = below.unwrap().round_half_away_from_zero(usd()).unwrap();
        assert_eq!(money.minor, 9_999_999_999_900);
        let tie = exact("99999999999.005").round_half_away_from_zero(usd()).unwrap();
        assert_eq!(tie.minor, 9_999_999_999_901);
    }

    #[test]
    fn ties_round_away_from_zero_on_both_sides() {
        for (text, minor) in [("9.995", 1000), ("-9.995", -1000), ("9.9949", 999), ("0", 0)] {
            assert_eq!(
                exact(text).round_half_away_from_zero(usd()).unwrap().minor,
                minor,
                "{text}"
            );
        }
    }

    #[test]
    fn a_currency_with_three_digits_keeps_them() {
        let dinar = Currency::new("KWD").unwrap();
        assert_eq!(exact("1.0005").round_half_away_from_zero(dinar).unwrap().minor, 1001);
    }

    #[test]
    fn too_many_digits_are_an_error_and_not_a_panic() {
        let huge = Exact::from_decimal(Decimal::MAX);
        assert!(matches!(huge.scaled(u64::MAX, 1), Err(PricingError::OutOfRange { .. })));
        assert!(matches!(
            huge.round_half_away_from_zero(usd()),
            Err(PricingError::OutOfRange { .. })
        ));
        let fine = Exact::from_decimal(Decimal::from_i128_with_scale(1, 28));
        assert!(matches!(fine.scaled(1, u64::MAX), Err(PricingError::OutOfRange { .. })));
        let finer = fine.scaled(1, 1 << 30).unwrap();
        let odd = Exact::from_decimal(Decimal::ONE).scaled(1, 3u64.pow(40)).unwrap();
        assert!(matches!(finer.plus(odd), Err(PricingError::OutOfRange { .. })));
        assert!(matches!(huge.scaled(1, 0), Err(PricingError::ZeroDivisor { .. })));
    }

    proptest::proptest! {
        #[test]
        fn rounding_agrees_with_the_domains_own_where_decimals_are_exact(
            mantissa in -1_000_000_000_000i64..1_000_000_000_000, scale in 0u32..8,
        ) {
            let decimal = Decimal::new(mantissa, scale);
            proptest::prop_assert_eq!(
                Exact::from_decimal(decimal).round_half_away_from_zero(usd()).ok(),
                Money::round_half_away_from_zero(decimal, usd())
            );
        }

        #[test]
        fn every_amount_of_a_meter_at_every_rate_of_a_catalog_fits(
            quantity in 0..=AMOUNT_MAX, mantissa in 0i64..10i64.pow(15), scale in 0u32..=12,
            per in 1..=AMOUNT_MAX,
        ) {
            let rate = Exact::from_decimal(Decimal::new(mantissa, scale));
            proptest::prop_assert!(rate.scaled(quantity, per).is_ok());
        }
    }
}
