//! What a tenant's meter that is in use takes of a sidecar's memory, and what comes back of it.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Scale,
    finding::{Finding, grouped},
    gauge::gauge,
    populated::Populated,
};
use crate::{
    scenarios::alone::{ACTIVE_BYTES_MAX, TENANTS_MANY},
    server::Sidecar,
};

/// Counters in memory, as the sidecar's metrics call them.
const COUNTERS_LIVE: &str = "tollgate_counters_live";
/// Meters of each tenant of the catalog of many meters.
const METERS: usize = 20;
/// A counter that is not used for so long is forgotten; longer than it takes to make them all.
const IDLE: Duration = Duration::from_secs(60);
/// The same where they are few.
const IDLE_QUICK: Duration = Duration::from_secs(15);
/// Has the allocator give freed memory back at once: else the first counters would lie in what
/// reading the tenants' file has freed, which is resident before as after.
const AT_ONCE: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "0");
/// How long the sidecar is left alone before its memory is read: counters settle what they have told
/// nobody yet, and freed memory goes back.
const REST: Duration = Duration::from_secs(10);
/// How long it may take until all of them are counted.
const COUNTED_MAX: Duration = Duration::from_secs(20);
/// How long forgetting may take, beyond the time that counters are kept unused.
const FORGETTING_MAX: Duration = Duration::from_secs(60);
/// How often the counters are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The same number of counters twice: of tenants with many meters each, and all of tenants with one,
/// where a tenant's own memory counts in full. Of the latter, also what stays when they are forgotten.
pub fn measure(scale: &Scale) -> anyhow::Result<Vec<Finding>> {
    let counters = scale.count(TENANTS_MANY);
    let (_, found) = active(scale, &scale.many_meters, counters / METERS, METERS)?;
    let (active, found_of_one) = active(scale, &scale.sidecar.catalog, counters, 1)?;
    let mut findings = vec![found, found_of_one];
    if let Some(active) = active {
        findings.push(forgotten(&active)?);
    }
    Ok(findings)
}

/// A sidecar all of whose counters are in use.
struct Active {
    populated: Populated,
    counters: usize,
    /// Resident bytes before there were any.
    before: u64,
    /// How long they are kept unused.
    idle: Duration,
}

impl Active {
    /// Resident bytes of each that are there beside those of before.
    fn bytes(&self) -> anyhow::Result<f64> {
        let bytes = self.populated.resident_bytes()?.saturating_sub(self.before);
        Ok(bytes as f64 / self.counters as f64)
    }
}

/// Absent when not all of them are in use at once.
fn active(
    scale: &Scale,
    catalog: &Path,
    tenants: usize,
    meters: usize,
) -> anyhow::Result<(Option<Active>, Finding)> {
    let idle = if scale.is_quick { IDLE_QUICK } else { IDLE };
    let settings = vec!["--enforcement-counter-idle-s".to_owned(), idle.as_secs().to_string()];
    let environment = vec![AT_ONCE];
    let sidecar =
        Sidecar { catalog: catalog.into(), settings, environment, ..scale.sidecar.clone() };
    let populated = Populated::start(scale, sidecar, tenants)?;
    let before = populated.resident_bytes()?;
    let took = populated.touch_all(&names(meters))?;
    sleep(REST);
    let counters = populated.tenants * meters;
    let aim = format!("bytes ≤ {ACTIVE_BYTES_MAX}");
    let what = format!(
        "Memory of an active (tenant, meter): {} tenants with {meters} each",
        grouped(populated.tenants)
    );
    let live = all_live(&populated, counters)?;
    let active = Active { populated, counters, before, idle };
    if live < counters as f64 {
        let why = format!("only {live} of {counters} counters are live");
        return Ok((None, Finding::not_measured(what, aim, why)));
    }
    let bytes = active.bytes()?;
    let found = format!(
        "{bytes:.0} bytes, beside {} MiB before; made at {:.0}/s",
        before >> 20,
        counters as f64 / took.as_secs_f64()
    );
    let is_met = bytes <= ACTIVE_BYTES_MAX;
    Ok((Some(active), Finding::new(what, found).aimed(aim, is_met)))
}

/// The counters that are live, as soon as all are. They are counted in a sweep of some seconds, of
/// which the first may have begun before the last of them was made.
fn all_live(populated: &Populated, counters: usize) -> anyhow::Result<f64> {
    let started = Instant::now();
    loop {
        let live = gauge(populated.server.http(), COUNTERS_LIVE)?;
        if live >= counters as f64 || started.elapsed() > COUNTED_MAX {
            return Ok(live);
        }
        sleep(LOOK_EVERY);
    }
}

/// What stays of counters that nobody has used for so long that they are forgotten.
fn forgotten(active: &Active) -> anyhow::Result<Finding> {
    let live = wait_until_forgotten(active)?;
    let bytes = active.bytes()?;
    let found = match live {
        0.0 => format!("{bytes:.0} bytes, and no counter is live"),
        live => format!("{bytes:.0} bytes, and {live} counters are still live"),
    };
    Ok(Finding::new(format!("… kept of it after {} s without use", active.idle.as_secs()), found))
}

/// The meters of a tenant in `catalog.yaml`, which has `tokens`, or in `many-meters.yaml`.
fn names(meters: usize) -> Vec<String> {
    let others = (1..meters).map(|number| format!("meter_{number}"));
    std::iter::once("tokens".to_owned()).chain(others).collect()
}

/// How many counters are live after they should all have been forgotten, and the memory has had time
/// to go back.
fn wait_until_forgotten(active: &Active) -> anyhow::Result<f64> {
    let end = Instant::now() + active.idle + FORGETTING_MAX;
    loop {
        sleep(LOOK_EVERY);
        let live = gauge(active.populated.server.http(), COUNTERS_LIVE)?;
        if live == 0.0 || Instant::now() > end {
            sleep(REST);
            return Ok(live);
        }
    }
}
