//! What the kernel counts of a process: CPU time and resident memory.

use std::{fs, time::Duration};

use anyhow::Context;

/// Ticks a second that `/proc` counts in. It is 100 on every Linux that Rust's std supports.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time that the process `pid` has used so far, all threads together.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = parse_ticks(&stat).with_context(|| format!("{path} is not as expected"))?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// Bytes of memory that the process `pid` has resident.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_resident(&status).with_context(|| format!("{path} is not as expected"))
}

/// utime and stime are the 14th and 15th fields; the 2nd, the name, may contain anything.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = line.trim().strip_suffix(" kB")?;
    Some(kib.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(parse_ticks(stat), Some(300));
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "VmHWM:\t  9 kB\nVmRSS:\t   47092 kB\n";
        assert_eq!(parse_resident(status), Some(47_092 * 1_024));
        assert_eq!(parse_resident("Name:\tgone\n"), None);
    }
}
