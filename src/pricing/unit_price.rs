//! A rate and what it is for: 0.15 per 10^9 bytes.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{error::PricingError, exact::Exact};

/// A price in major units of a currency per a number of a meter's base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitPrice {
    /// Major units of the currency, as a decimal.
    #[serde(with = "rust_decimal::serde::str")]
    pub rate: Decimal,
    /// Base units that one rate pays for (10^9 for a price per GB of a meter in bytes), at least 1.
    pub per: u64,
}

impl UnitPrice {
    /// `quantity` base units at this price, exactly: a part of a unit costs its part of the rate.
    pub fn of(self, quantity: u64) -> Result<Exact, PricingError> {
        Exact::from_decimal(self.rate).scaled(quantity, self.per)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_costs_its_part_of_a_gigabyte() {
        let price = UnitPrice { rate: "0.15".parse().unwrap(), per: 1_000_000_000 };
        assert_eq!(price.of(1).unwrap().to_string(), "0.00000000015");
        assert_eq!(price.of(1_500_000_000).unwrap().to_string(), "0.225");
    }

    #[test]
    fn a_binary_gigabyte_is_exact_too() {
        let price = UnitPrice { rate: "0.15".parse().unwrap(), per: 1 << 30 };
        let four = price.of(4 << 30).unwrap();
        assert_eq!(four.to_string(), "0.6");
    }
}
