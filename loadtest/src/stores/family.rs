//! What a process and its children take, as the kernel counts it.

use std::{fs, time::Duration};

use crate::process::cpu_time;

/// CPU time that a process and its living children have used so far: Postgres has one for each
/// connection. One that ends takes its time with it.
pub fn family_cpu(parent: u32) -> anyhow::Result<Duration> {
    let mut cpu = cpu_time(parent)?;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may end between any two of these lines.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if parse_parent(&stat) == Some(parent) {
            cpu += cpu_time(pid).unwrap_or_default();
        }
    }
    Ok(cpu)
}

/// The parent is the 4th field; the 2nd, the name, may contain anything.
fn parse_parent(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parse_parent("42 (a) S (b) S 17 2 3"), Some(17));
    }

    #[test]
    fn a_parent_has_used_as_much_time_as_its_children_and_more() {
        let own = cpu_time(std::process::id()).unwrap();
        let parent = std::os::unix::process::parent_id();
        assert!(family_cpu(parent).unwrap() >= own);
    }
}
