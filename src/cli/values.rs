//! Values on the command line, each with what to give instead when it cannot be read.

use std::str::FromStr;

use jiff::Timestamp;

/// An amount in base units.
pub(super) fn units(text: &str) -> Result<i64, String> {
    whole(text, "give base units as a whole number, such as 5000000000 for 5 GB of bytes")
}

/// A time in seconds.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    whole(text, "give seconds as a whole number, such as 300")
}

/// How many of something.
pub(super) fn count(text: &str) -> Result<u32, String> {
    whole(text, "give a whole number, such as 100")
}

/// How many of something, without a bound of its own.
pub(super) fn any_count(text: &str) -> Result<usize, String> {
    whole(text, "give a whole number, such as 100")
}

/// The number of a version.
pub(super) fn version(text: &str) -> Result<u32, String> {
    whole(text, "give a version's number, such as 2")
}

/// An instant.
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "give an instant as RFC 3339, such as 2026-11-21T10:00:00Z".to_owned())
}

fn whole<T: FromStr>(text: &str, remedy: &str) -> Result<T, String> {
    text.parse().map_err(|_| remedy.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_says_what_to_give_instead() {
        assert_eq!(units("-5"), Ok(-5));
        assert!(units("5GB").unwrap_err().contains("5000000000"));
        assert!(seconds("-1").unwrap_err().contains("seconds"));
        assert!(instant("yesterday").unwrap_err().contains("2026-11-21T10:00:00Z"));
    }
}
