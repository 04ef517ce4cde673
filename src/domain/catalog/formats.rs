//! What the `format` keyword of the schema asks of a scalar.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use rust_decimal::{Decimal, prelude::ToPrimitive};
use serde_json::Value;

use super::{
    decimal::{Percent, Price, Rate},
    error::did_you_mean,
    names::Zone,
    quantity::{LimitAmount, Quantity, too_large},
};
use crate::domain::{
    ids::{PlanName, TenantId},
    invalid::Invalid,
    money::Currency,
    period::Period,
};

/// The units of one meter by name, in base units; the base unit is among them.
pub(super) type Units = BTreeMap<String, u64>;

/// Checks a text by its format; formats that say nothing about texts accept all.
pub(super) fn check_text(format: &str, text: &str) -> Result<(), Invalid> {
    match format {
        "name" => PlanName::new(text).map(drop),
        "id" => TenantId::new(text).map(drop),
        "currency" => Currency::new(text).map(drop),
        "period" => text.parse::<Period>().map(drop),
        "zone" => Zone::new(text).map(drop),
        "date" => text.parse::<Date>().map(drop).map_err(|_| {
            Invalid::new("date", format!("{text:?} is not a day"), "write it as YYYY-MM-DD")
        }),
        "date-time" => text.parse::<Timestamp>().map(drop).map_err(|_| {
            Invalid::new(
                "time",
                format!("{text:?} is not an instant"),
                "write it in RFC 3339 with an offset, such as 2026-01-01T00:00:00Z",
            )
        }),
        _ => Ok(()),
    }
}

/// Whether a format takes figures as they are written.
pub(super) fn is_decimal(format: &str) -> bool {
    matches!(format, "price" | "rate" | "percent")
}

/// Checks a decimal figure as written; it is stored as text, so that no digit is lost.
pub(super) fn decimal(format: &str, text: &str) -> Result<Value, Invalid> {
    let canonical = match format {
        "price" => text.parse::<Price>()?.to_string(),
        "rate" => text.parse::<Rate>()?.to_string(),
        _ => text.parse::<Percent>()?.to_string(),
    };
    Ok(Value::String(canonical))
}

/// Whether a format counts in a meter's units.
pub(super) fn is_quantity(format: &str) -> bool {
    matches!(format, "quantity" | "limit")
}

/// Checks a whole number of base units.
pub(super) fn quantity(format: &str, amount: i128) -> Result<Value, Invalid> {
    let amount = i64::try_from(amount).map_err(|_| too_large(&amount.to_string()))?;
    if format == "limit" {
        LimitAmount::try_from(amount)?;
    } else {
        Quantity::try_from(amount)?;
    }
    Ok(Value::from(amount))
}

/// Turns `500 GB` into base units. `units` is of the meter that the figure is about.
pub(super) fn quantity_in_unit(text: &str, units: Option<&Units>) -> Result<Value, Invalid> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (figure, unit) = (&text[..split], text[split..].trim());
    let figure = Decimal::from_str_exact(figure).map_err(|_| {
        Invalid::new(
            "quantity",
            format!("{text:?} is not a quantity"),
            "write a whole number of the meter's base unit, or a figure and a unit such as 500 GB",
        )
    })?;
    let Some(units) = units else {
        return Err(Invalid::new(
            "quantity",
            format!("{text:?} names a unit, but its meter is unknown"),
            "write a whole number, or name a meter of this catalog",
        ));
    };
    let Some(size) = units.get(unit) else {
        return Err(Invalid::new(
            "quantity",
            format!("{text:?} names the unit {unit:?}, which the meter does not have"),
            did_you_mean(unit, units.keys().map(String::as_str)),
        ));
    };
    let base =
        figure.checked_mul(Decimal::from(*size)).filter(Decimal::is_integer).ok_or_else(|| {
            Invalid::new(
                "quantity",
                format!("{text:?} is not a whole number of the meter's base unit"),
                "round it to a whole number of the base unit",
            )
        })?;
    quantity("quantity", base.to_i128().unwrap_or(i128::MAX))
}
