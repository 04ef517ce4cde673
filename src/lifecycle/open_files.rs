//! How many files a process may have open; connections are files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the process's own bound to what it may be at most: many systems begin at 1,024, which is
/// less than the connections that a sidecar takes. What cannot be raised stays as it is.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => tracing::debug!(open_files_max = ?limit.maximum, "may open more files"),
        Err(error) => tracing::warn!(%error, "cannot open more files than {:?}", limit.current),
    }
}
