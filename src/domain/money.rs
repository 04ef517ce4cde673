//! Money: integer minor units and a currency, never a float.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy, prelude::ToPrimitive};
use serde::{Deserialize, Serialize};

use super::invalid::Invalid;

/// An ISO 4217 code of three upper-case letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// Checks and wraps an ISO 4217 code.
    pub fn new(code: &str) -> Result<Self, Invalid> {
        match <[u8; 3]>::try_from(code.as_bytes()) {
            Ok(letters) if letters.iter().all(u8::is_ascii_uppercase) => Ok(Self(letters)),
            _ => Err(Invalid::new(
                "currency",
                format!("{code:?} is not a currency code"),
                "use three upper-case letters of ISO 4217, such as USD",
            )),
        }
    }

    /// The code's three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// Digits after the decimal point (ISO 4217's exponent).
    pub fn exponent(self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG"
            | b"RWF" | b"UGX" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Currency {
    type Error = Invalid;
    fn try_from(code: String) -> Result<Self, Invalid> {
        Self::new(&code)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

/// An amount of money in the currency's minor unit (cents).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    pub minor: i64,
    pub currency: Currency,
}

impl Money {
    /// Rounds an exact amount in major units to the minor unit, half away from zero (commercial
    /// rounding: 0.125 → 0.13, −0.125 → −0.13). `None` when it does not fit 63 bits.
    pub fn round_half_away_from_zero(major: Decimal, currency: Currency) -> Option<Self> {
        let scale = Decimal::from(10u64.pow(currency.exponent()));
        let minor = major
            .checked_mul(scale)?
            .round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero)
            .to_i64()?;
        Some(Self { minor, currency })
    }

    /// The amount in major units, exactly.
    pub fn to_major(self) -> Decimal {
        Decimal::new(self.minor, self.currency.exponent())
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.to_major(), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_rounds_away_from_zero() {
        let usd = Currency::new("USD").unwrap();
        let cents = |text: &str| {
            Money::round_half_away_from_zero(text.parse().unwrap(), usd).unwrap().minor
        };
        assert_eq!(cents("0.125"), 13);
        assert_eq!(cents("-0.125"), -13);
        assert_eq!(cents("0.1249999999999"), 12);
    }

    #[test]
    fn a_currency_without_minor_units_rounds_to_whole_ones() {
        let yen = Currency::new("JPY").unwrap();
        let money = Money::round_half_away_from_zero("99.5".parse().unwrap(), yen).unwrap();
        assert_eq!(money.to_string(), "100 JPY");
    }
}
