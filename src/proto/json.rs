//! Numbers as proto's JSON mapping has them: digits, or text with digits, also with a fraction that
//! is zero or an exponent (`10`, `"10"`, `10.0`, `1e1`).
//!
//! Whole numbers are never rounded: what cannot be told exactly is refused.

use std::{fmt, marker::PhantomData};

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// What comes between a problem and its remedy in the text of an [`unfit`] value's error.
pub const REMEDY_FOLLOWS: &str = "; give ";
/// From here on, a double no longer has every whole number: 2^53.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
/// The most digits of a number that is read; those of 64 bits have 20.
const DIGITS_MAX: usize = 38;
/// How much of a text is told back, characters.
const TOLD_CHARS_MAX: usize = 40;

/// An error that says what is wrong with a value, and what to give.
pub fn unfit<E: Error>(problem: fmt::Arguments<'_>, give: &str) -> E {
    E::custom(format_args!("{problem}{REMEDY_FOLLOWS}{give}"))
}

/// A text of the caller's as errors tell it back.
pub fn told(text: &str) -> String {
    match text.char_indices().nth(TOLD_CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// A number of a message.
#[derive(Debug)]
pub struct Number<T>(pub T);

/// The kinds of number that messages have.
pub trait JsonNumber: Sized {
    /// What it is, in words.
    const KIND: &'static str;
    /// What to give.
    const GIVE: &'static str;
    /// A whole number, if this kind has it.
    fn of_whole(whole: i128) -> Option<Self>;
    /// A number with a fraction or an exponent, if this kind has it.
    fn of_double(double: f64) -> Option<Self>;
    /// A text, if it is such a number.
    fn of_text(text: &str) -> Option<Self>;
}

macro_rules! whole_numbers {
    ($($number:ty, $kind:literal, $give:literal;)*) => {$(
        impl JsonNumber for $number {
            const KIND: &'static str = $kind;
            const GIVE: &'static str = $give;

            fn of_whole(whole: i128) -> Option<Self> {
                whole.try_into().ok()
            }

            fn of_double(double: f64) -> Option<Self> {
                let is_exact = double.fract() == 0.0 && double.abs() < EXACT_BELOW;
                // The cast is exact: it has no fraction, and is far below i128's bounds.
                is_exact.then_some(double as i128).and_then(Self::of_whole)
            }

            fn of_text(text: &str) -> Option<Self> {
                whole(text).and_then(Self::of_whole)
            }
        }
    )*};
}

whole_numbers! {
    i32, "a whole number of 32 bits", "a whole number, such as 10";
    u32, "a whole number from 0 to 4294967295", "a whole number, such as 10";
    i64, "a whole number of 64 bits", "a whole number, such as 10";
    u64, "a whole number from 0 to 18446744073709551615", "a whole number, such as 10";
}

impl JsonNumber for f64 {
    const KIND: &'static str = "a number";
    const GIVE: &'static str = "a number, such as 1.5";

    fn of_whole(whole: i128) -> Option<Self> {
        Some(whole as Self)
    }

    fn of_double(double: f64) -> Option<Self> {
        Some(double)
    }

    fn of_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// The whole number that a decimal text is, exactly.
fn whole(text: &str) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().ok()?),
        None => (text, 0),
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (before, after) = match mantissa.split_once('.') {
        Some((before, after)) if !after.is_empty() => (before, after),
        Some(_) => return None,
        None => (mantissa, ""),
    };
    let mut digits = [before, after].concat();
    if before.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // Zeros carry nothing here but their number.
    let shift = isize::from(exponent).checked_sub_unsigned(after.len())?;
    if digits.bytes().all(|digit| digit == b'0') {
        return Some(0);
    }
    if shift >= 0 {
        let zeros = shift.unsigned_abs();
        if digits.len() + zeros > DIGITS_MAX {
            return None;
        }
        digits.push_str(&"0".repeat(zeros));
    } else {
        let kept = digits.len().checked_sub(shift.unsigned_abs())?;
        let fraction = digits.split_off(kept);
        if fraction.bytes().any(|digit| digit != b'0') {
            return None;
        }
    }
    format!("{sign}{digits}").parse().ok()
}

impl<'de, T: JsonNumber> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor(PhantomData)).map(Self)
    }
}

struct NumberVisitor<T>(PhantomData<T>);

impl<T: JsonNumber> NumberVisitor<T> {
    fn keep<E: Error>(read: Option<T>, given: impl fmt::Display) -> Result<T, E> {
        read.ok_or_else(|| unfit(format_args!("is {given}, not {}", T::KIND), T::GIVE))
    }
}

impl<T: JsonNumber> Visitor<'_> for NumberVisitor<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(T::GIVE)
    }

    fn visit_i64<E: Error>(self, whole: i64) -> Result<T, E> {
        Self::keep(T::of_whole(whole.into()), whole)
    }

    fn visit_u64<E: Error>(self, whole: u64) -> Result<T, E> {
        Self::keep(T::of_whole(whole.into()), whole)
    }

    fn visit_f64<E: Error>(self, double: f64) -> Result<T, E> {
        Self::keep(T::of_double(double), double)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Self::keep(T::of_text(text), told(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: JsonNumber>(json: &str) -> Result<T, String> {
        serde_json::from_str::<Number<T>>(json).map(|it| it.0).map_err(|error| error.to_string())
    }

    #[test]
    fn whole_numbers_are_read_however_json_writes_them_and_never_rounded() {
        for ten in ["10", "\"10\"", "10.0", "1e1", "1E+1", "\"1e1\"", "\"10.00\"", "100e-1"] {
            assert_eq!(read::<i64>(ten), Ok(10), "{ten}");
            assert_eq!(read::<u32>(ten), Ok(10), "{ten}");
        }
        assert_eq!(read("-3"), Ok(-3i64));
        assert_eq!(read("\"-3.0\""), Ok(-3i64));
        assert_eq!(read("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(read("\"9.223372036854775807e18\""), Ok(i64::MAX));
        assert_eq!(read("\"0e999\""), Ok(0i64));
        for bad in [
            "1.5",
            "\"1.5\"",
            "\"ten\"",
            "\"\"",
            "1e300",
            "\"1e300\"",
            "\"1.\"",
            "\".5\"",
            "\"+1\"",
            "\"0x10\"",
            "\" 1\"",
            "9007199254740993.0",
            "\"1e-400\"",
            "\"--1\"",
        ] {
            let problem = read::<i64>(bad).unwrap_err();
            assert!(problem.contains("not a whole number"), "{bad}: {problem}");
        }
        assert!(read::<u64>("-1").is_err());
        assert!(read::<i32>("2147483648").is_err());
        assert!(read::<i64>("9223372036854775808").is_err());
    }

    #[test]
    fn numbers_with_a_fraction_are_read_too() {
        assert_eq!(read("1.5"), Ok(1.5f64));
        assert_eq!(read("\"2\""), Ok(2.0f64));
        assert!(read::<f64>("\"two\"").unwrap_err().contains("not a number"));
    }
}
