//! Whole numbers of a meter's base unit.

use super::invalid::Invalid;

/// Amounts stay below 2^53, because the numbers of Redis' Lua are doubles.
pub const AMOUNT_MAX: u64 = (1 << 53) - 1;

/// `amount`, or the nearest that is within ±[`AMOUNT_MAX`].
pub fn saturated(amount: i64) -> i64 {
    amount.clamp(-AMOUNT_MAX.cast_signed(), AMOUNT_MAX.cast_signed())
}

/// Checks that `amount` is between 0 and [`AMOUNT_MAX`].
pub fn check_amount(field: &str, amount: i64) -> Result<u64, Invalid> {
    match u64::try_from(amount) {
        Ok(amount) if amount <= AMOUNT_MAX => Ok(amount),
        Ok(_) => Err(too_large(field, amount)),
        Err(_) => Err(Invalid::new(
            field,
            format!("is negative ({amount})"),
            "give an amount of 0 or more; only level meters go down",
        )),
    }
}

/// Checks that a level's change is within ±[`AMOUNT_MAX`].
pub fn check_delta(field: &str, delta: i64) -> Result<i64, Invalid> {
    if delta.unsigned_abs() <= AMOUNT_MAX { Ok(delta) } else { Err(too_large(field, delta)) }
}

fn too_large(field: &str, amount: i64) -> Invalid {
    Invalid::new(
        field,
        format!("is out of range ({amount})"),
        format!("give at most 2^53 - 1 = {AMOUNT_MAX}; meter in a larger base unit if need be"),
    )
}
