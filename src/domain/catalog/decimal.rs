//! Decimal figures of a catalog: prices, unit rates and percentages. Exact, never a float.

use std::{fmt, str::FromStr};

use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// Most digits after the decimal point of a unit rate.
pub const RATE_DECIMALS_MAX: u32 = 12;
/// Most digits after the decimal point of a percentage.
pub const PERCENT_DECIMALS_MAX: u32 = 4;
/// Largest price, in major units; keeps every invoice far inside 63 bits of minor units.
const PRICE_MAX: i64 = 1_000_000_000_000;

macro_rules! decimal_figure {
    ($(#[$doc:meta])* $name:ident, $format:literal, $description:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Decimal);

        impl $name {
            /// The exact figure.
            pub fn get(self) -> Decimal {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                let figure = parse($format, text)?;
                let check: fn(Decimal) -> Result<(), Invalid> = $check;
                check(figure)?;
                Ok(Self(figure.normalize()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(figure: $name) -> Self {
                figure.0.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": $description,
                    "type": ["number", "string"],
                    "format": $format,
                    "minimum": 0,
                    "pattern": r"^[0-9]+(\.[0-9]+)?$",
                })
            }
        }
    };
}

decimal_figure!(
    /// An amount of money in major units of the catalog's currency.
    Price,
    "price",
    "Money in major units of the catalog's currency, such as 19.99",
    |figure| {
        if figure > Decimal::from(PRICE_MAX) {
            return Err(Invalid::new(
                "price",
                format!("{figure} is out of range"),
                format!("give at most {PRICE_MAX}"),
            ));
        }
        Ok(())
    }
);
decimal_figure!(
    /// The price of one pricing unit, in major units of the catalog's currency.
    Rate,
    "rate",
    "Price of one pricing unit in major units of the currency, such as 0.05; at most 12 decimals",
    |figure| {
        decimals_at_most("rate", figure, RATE_DECIMALS_MAX)?;
        if figure > Decimal::from(PRICE_MAX) {
            return Err(Invalid::new(
                "rate",
                format!("{figure} is out of range"),
                format!("give at most {PRICE_MAX}"),
            ));
        }
        Ok(())
    }
);
decimal_figure!(
    /// A percentage from 0 to 100.
    Percent,
    "percent",
    "A percentage from 0 to 100, such as 16.6; at most 4 decimals",
    |figure| {
        decimals_at_most("percent", figure, PERCENT_DECIMALS_MAX)?;
        if figure > Decimal::ONE_HUNDRED {
            return Err(Invalid::new(
                "percent",
                format!("{figure} is more than 100"),
                "give a percentage from 0 to 100",
            ));
        }
        Ok(())
    }
);

fn parse(field: &str, text: &str) -> Result<Decimal, Invalid> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return Err(Invalid::new(
            field,
            format!("{text:?} is not a decimal number"),
            "write it with digits and a point, without signs or separators, such as 19.99",
        ));
    }
    if text.starts_with('-') {
        return Err(Invalid::new(
            field,
            format!("is negative ({text})"),
            "give a figure of 0 or more",
        ));
    }
    Decimal::from_str_exact(text).map_err(|_| {
        Invalid::new(
            field,
            format!("{text} has more digits than can be kept exactly"),
            "use fewer digits",
        )
    })
}

fn decimals_at_most(field: &str, figure: Decimal, most: u32) -> Result<(), Invalid> {
    let decimals = figure.normalize().scale();
    if decimals > most {
        return Err(Invalid::new(
            field,
            format!("{figure} has {decimals} digits after the decimal point"),
            format!("use at most {most}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_kept_exactly_and_written_without_trailing_zeros() {
        let rate: Rate = "0.0500".parse().unwrap();
        assert_eq!(serde_json::to_string(&rate).unwrap(), "\"0.05\"");
        assert_eq!(rate, serde_json::from_str("\"0.05\"").unwrap());
    }

    #[test]
    fn signs_exponents_and_separators_are_not_numbers_here() {
        for text in ["1e3", "+1", "1,000", "", ".5", "5.", "NaN", "0x10", " 1"] {
            let error = text.parse::<Price>().unwrap_err();
            assert!(error.problem.contains("is not a decimal number"), "{text}: {error}");
        }
        assert_eq!("-4.99".parse::<Price>().unwrap_err().problem, "is negative (-4.99)");
    }
}
