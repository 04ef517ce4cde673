//! What a worker is called in the history of runs.

/// Host and process id, so that an operator finds the process.
pub(super) fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}/{}", if host.is_empty() { "unknown" } else { host }, std::process::id())
}
