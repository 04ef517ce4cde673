//! What an accept that failed is about.

use std::io;

/// Errors of `accept` that concern the connection that was about to come, and no other.
pub fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_client_that_goes_away_at_once_is_nobody_elses_trouble() {
        let of_one = |errno: Errno| is_of_one_connection(&errno.into());
        assert!(of_one(Errno::CONNABORTED) && of_one(Errno::INTR));
        assert!(!of_one(Errno::MFILE) && !of_one(Errno::NFILE) && !of_one(Errno::NOMEM));
    }
}
