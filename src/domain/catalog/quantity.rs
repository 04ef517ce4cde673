//! Whole numbers of a meter's base unit, as a catalog states them.
//!
//! A file may write them in one of the meter's units (`500 GB`); they are turned into base units
//! while the file is read, so that everything after it sees plain numbers.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::domain::{amount::AMOUNT_MAX, invalid::Invalid};

/// An amount in base units, 0 ≤ n < 2^53.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "i64", into = "u64")]
pub struct Quantity(u64);

impl Quantity {
    /// Base units.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = Invalid;
    fn try_from(amount: i64) -> Result<Self, Invalid> {
        match u64::try_from(amount) {
            Ok(amount) if amount <= AMOUNT_MAX => Ok(Self(amount)),
            Ok(_) => Err(too_large(&amount.to_string())),
            Err(_) => Err(Invalid::new(
                "quantity",
                format!("is negative ({amount})"),
                "give an amount of 0 or more",
            )),
        }
    }
}

impl From<Quantity> for u64 {
    fn from(quantity: Quantity) -> Self {
        quantity.0
    }
}

/// A limit in base units; `-1` = unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct LimitAmount(Option<u64>);

impl LimitAmount {
    /// Base units, or `None` when unlimited.
    pub fn get(self) -> Option<u64> {
        self.0
    }
}

impl TryFrom<i64> for LimitAmount {
    type Error = Invalid;
    fn try_from(amount: i64) -> Result<Self, Invalid> {
        if amount == -1 {
            return Ok(Self(None));
        }
        if amount < 0 {
            return Err(Invalid::new(
                "limit",
                format!("is negative ({amount})"),
                "give an amount of 0 or more, or -1 for unlimited",
            ));
        }
        Quantity::try_from(amount).map(|quantity| Self(Some(quantity.0)))
    }
}

impl From<LimitAmount> for i64 {
    fn from(limit: LimitAmount) -> Self {
        // Lossless: amounts stay below 2^53.
        limit.0.map_or(-1, |amount| i64::try_from(amount).unwrap_or(i64::MAX))
    }
}

pub(super) fn too_large(text: &str) -> Invalid {
    Invalid::new(
        "quantity",
        format!("is out of range ({text})"),
        format!("give at most 2^53 - 1 = {AMOUNT_MAX}; meter in a larger base unit if need be"),
    )
}

macro_rules! quantity_schema {
    ($name:ident, $format:literal, $description:literal, $minimum:literal) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": $description,
                    "type": ["integer", "string"],
                    "format": $format,
                    "minimum": $minimum,
                    "maximum": AMOUNT_MAX,
                    "pattern": r"^(-1|[0-9]+(\.[0-9]+)? ?[A-Za-z]*)$",
                })
            }
        }
    };
}

quantity_schema!(
    Quantity,
    "quantity",
    "Whole number of the meter's base unit, or a figure in one of its units, such as 500 GB",
    0
);
quantity_schema!(
    LimitAmount,
    "limit",
    "Whole number of the meter's base unit, a figure in one of its units (500 GB), or -1 = unlimited",
    -1
);
