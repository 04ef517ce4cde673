//! Values on the command line, each with what to give instead when it cannot be read.

use std::str::FromStr;

use jiff::{Span, Timestamp};

use crate::domain::{ids::TenantId, invalid::Invalid};

/// An amount in base units.
pub(super) fn units(text: &str) -> Result<i64, String> {
    whole(text, "give base units as a whole number, such as 5000000000 for 5 GB of bytes")
}

/// A time in seconds.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    whole(text, "give seconds as a whole number, such as 300")
}

/// How many of something, at least one.
pub(super) fn count(text: &str) -> Result<u32, String> {
    let remedy = "give a whole number of at least 1, such as 100";
    whole(text, remedy)
        .and_then(|count| if count == 0 { Err(remedy.to_owned()) } else { Ok(count) })
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

/// A span of the calendar or of time.
pub(super) fn span(text: &str) -> Result<Span, String> {
    text.parse().map_err(|_| "give a span, such as 3d, 2w, 1mo or PT1H".to_owned())
}

/// Refuses an end that is not to come by the tenant's clock, whose `now` this is.
pub(super) fn still_to_come(
    field: &'static str,
    end: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Invalid> {
    match end.filter(|end| *end <= now) {
        None => Ok(()),
        Some(end) => Err(Invalid::new(
            field,
            format!("{end} is past: it is {now} by the tenant's clock"),
            "give an instant that is to come",
        )),
    }
}

/// Refuses a tenant that nobody knows.
pub(super) fn no_tenant(tenant: &TenantId) -> Invalid {
    let problem = format!("there is no tenant {tenant}");
    Invalid::new("--tenant", problem, "`tollgate tenant list` lists all")
}

fn whole<T: FromStr>(text: &str, remedy: &str) -> Result<T, String> {
    text.parse().map_err(|_| remedy.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_to_be_to_come_by_the_tenants_clock() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2015-05-17T00:00:00Z");
        assert_eq!(still_to_come("--expires", None, now), Ok(()));
        assert_eq!(still_to_come("--expires", Some(at("2015-05-17T00:00:01Z")), now), Ok(()));
        let past = still_to_come("--expires", Some(now), now).unwrap_err();
        assert_eq!(past.field, "--expires");
        assert!(past.problem.contains("2015-05-17T00:00:00Z is past"), "{past}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_given_is_read_or_refused_with_a_remedy(
            noise in ".{0,40}",
            near in "-?[0-9]{0,30}(\\.[0-9]+)?[a-zA-Z:+-]{0,4}[0-9]{0,12}",
        ) {
            for text in [noise, near] {
                let errors = [
                    units(&text).err(),
                    seconds(&text).err(),
                    count(&text).err(),
                    any_count(&text).err(),
                    version(&text).err(),
                    instant(&text).err(),
                    span(&text).err(),
                ];
                for error in errors.into_iter().flatten() {
                    proptest::prop_assert!(error.starts_with("give "), "{error}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_to_give_instead() {
        assert_eq!(units("-5"), Ok(-5));
        assert!(units("5GB").unwrap_err().contains("5000000000"));
        assert!(seconds("-1").unwrap_err().contains("seconds"));
        assert_eq!(count("1"), Ok(1));
        assert!(count("0").unwrap_err().contains("at least 1"));
        assert!(span("1fortnight").unwrap_err().starts_with("give a span"));
        assert!(instant("yesterday").unwrap_err().contains("2026-11-21T10:00:00Z"));
    }
}
