//! CPU time of a process, as the kernel counts it.

use std::{fs, time::Duration};

use anyhow::Context;

/// Ticks a second that `/proc` counts in. It is 100 on every Linux that Rust's std supports.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time that the process `pid` has used so far, all threads together.
pub fn process_cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = parse_ticks(&stat).with_context(|| format!("{path} is not as expected"))?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// utime and stime are the 14th and 15th fields; the 2nd, the name, may contain anything.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(parse_ticks(stat), Some(300));
    }
}
