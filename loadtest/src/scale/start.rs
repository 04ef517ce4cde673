//! How soon a sidecar that knows many tenants answers.

use super::{
    Scale,
    finding::{Finding, grouped},
    populated::Populated,
};
use crate::{
    document::median,
    scenarios::alone::{START_MAX, TENANTS_AT_START},
};

/// Starts it so often.
const STARTS: usize = 5;

/// From the start of the process to its first right answer, for the last of its tenants.
pub fn measure(scale: &Scale) -> anyhow::Result<Vec<Finding>> {
    let mut seconds = vec![];
    let mut last = None;
    let wanted = scale.count(TENANTS_AT_START);
    for _ in 0..STARTS {
        let started = Populated::start(scale, scale.sidecar.clone(), wanted)?;
        seconds.push(started.server.answered_after.as_secs_f64());
        last = Some(started.resident_bytes()?);
    }
    let Some(bytes) = last else { return Ok(vec![]) };
    let median = median(seconds);
    let what = format!("Start with {} tenants, to the first answer", grouped(wanted));
    let aim = format!("≤ {} s", START_MAX.as_secs_f64());
    let found = format!("{median:.2} s, and then {} MiB resident", bytes >> 20);
    Ok(vec![Finding::new(what, found).aimed(aim, median <= START_MAX.as_secs_f64())])
}
