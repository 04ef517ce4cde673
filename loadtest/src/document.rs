//! What `compare` found, as a document.

use std::{collections::BTreeMap, path::Path};

use crate::{
    compare::Run,
    provenance,
    report::Figures,
    scenarios::{Aim, Scenario, TENANTS},
    server::{BASELINE, Kind},
};

/// Medians of one scenario and server.
#[derive(Clone, Copy, Debug)]
struct Medians {
    requests_per_second: f64,
    events_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
}

impl Medians {
    fn of(runs: &[&Figures]) -> Self {
        let of = |figure: fn(&Figures) -> f64| median(runs.iter().map(|run| figure(run)).collect());
        Self {
            requests_per_second: of(|it| it.requests_per_second),
            events_per_second: of(|it| it.events_per_second),
            p50_us: of(|it| it.p50_us),
            p99_us: of(|it| it.p99_us),
            cpu_us: of(|it| it.server_cpu_us_per_request.unwrap_or(f64::NAN)),
        }
    }

    fn row(&self, name: &str, server: &str, beside: Option<&Self>) -> String {
        let times = |ratio: f64| format!("{ratio:.2}");
        let cpu = beside.map_or(String::new(), |beside| times(self.cpu_us / beside.cpu_us));
        let throughput = beside
            .map_or(String::new(), |it| times(self.requests_per_second / it.requests_per_second));
        format!(
            "| {name} | {server} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {cpu} | {throughput} |\n",
            self.requests_per_second, self.events_per_second, self.p50_us, self.p99_us, self.cpu_us,
        )
    }
}

/// What was aimed at, in words, and what was found of it.
fn aimed(aim: Aim, found: &Medians, beside: &Medians, sync_us: f64) -> (String, f64, bool) {
    let at_most = |what: &str, most: f64, is: f64| (format!("{what} ≤ {most}"), is, is <= most);
    let at_least = |what: &str, least: f64, is: f64| (format!("{what} ≥ {least}"), is, is >= least);
    let events_per_request = found.events_per_second / found.requests_per_second;
    match aim {
        Aim::CpuAtMost(most) => at_most("CPU, × do-nothing,", most, found.cpu_us / beside.cpu_us),
        Aim::ThroughputAtLeast(least) => {
            let ratio = found.requests_per_second / beside.requests_per_second;
            at_least("throughput, × do-nothing,", least, ratio)
        }
        Aim::P99AtMost(most) => at_most("p99, × do-nothing,", most, found.p99_us / beside.p99_us),
        Aim::EventsAtLeast(least) => at_least("events/s", least, found.events_per_second),
        Aim::CpuPerEventAtMost(most) => {
            at_most("CPU µs per check", most, found.cpu_us / events_per_request)
        }
        Aim::P99AtMostSyncs { syncs, beside_ms } => {
            let most_us = syncs * sync_us + 1_000.0 * beside_ms;
            let aim = format!(
                "p99 µs ≤ {syncs} × a sync of {sync_us:.0} + {beside_ms} ms = {most_us:.0} \
                 (do-nothing: {:.0})",
                beside.p99_us
            );
            (aim, found.p99_us, found.p99_us <= most_us)
        }
    }
}

/// A table of all medians.
pub fn table(scenarios: &[Scenario], servers: &[Kind], runs: &[Run]) -> String {
    let medians = medians(runs);
    let mut text = String::from(
        "| | server | requests/s | events/s | p50 µs | p99 µs | CPU µs/request | CPU, × do-nothing \
         | throughput, × do-nothing |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for scenario in scenarios {
        let beside = medians.get(&(scenario.name, BASELINE));
        for server in servers.iter().map(Kind::name) {
            let Some(found) = medians.get(&(scenario.name, server)) else { continue };
            let beside = beside.filter(|_| server != BASELINE);
            text += &found.row(scenario.name, server, beside);
        }
    }
    text
}

/// The aims, and whether the sidecar meets them. A sync takes the disk `sync_us`.
pub fn aims(scenarios: &[Scenario], sidecar: &str, runs: &[Run], sync_us: f64) -> String {
    let medians = medians(runs);
    let mut text = String::from("| | aim | found | |\n|---|---|---:|---|\n");
    for scenario in scenarios {
        let of = |server| medians.get(&(scenario.name, server));
        let (Some(found), Some(beside)) = (of(sidecar), of(BASELINE)) else { continue };
        for aim in &scenario.aims {
            let (aim, is, is_met) = aimed(*aim, found, beside, sync_us);
            let met = if is_met { "met" } else { "**missed**" };
            let is = if is < 1_000.0 { format!("{is:.2}") } else { format!("{is:.0}") };
            text += &format!("| {} | {aim} | {is} | {met} |\n", scenario.name);
        }
    }
    text
}

/// The tables of a document.
pub struct Parts {
    /// What was aimed at, of the servers beside each other.
    pub aims: String,
    /// Of one sidecar by itself.
    pub scale: String,
    /// All figures of the servers beside each other.
    pub figures: String,
    /// Whether it is only to see that all of it works.
    pub is_quick: bool,
    /// The version of throttlecrab whose figures are among them.
    pub throttlecrab: Option<String>,
}

/// The whole document, to be written to `path`.
pub fn document(parts: &Parts, rounds: usize, seconds: f64, path: &Path) -> String {
    let Parts { aims, scale, figures, is_quick, throttlecrab } = parts;
    let quick = match is_quick {
        true => " **A quick run: no figure of it is worth anything.**",
        false => "",
    };
    let throttlecrab = match throttlecrab {
        Some(version) => format!("throttlecrab is {version} in its own settings, by gRPC."),
        None => {
            "throttlecrab was not there (`scripts/peers` installs it), and is left out.".to_owned()
        }
    };
    // Absent where it was not measured.
    let alone = if scale.is_empty() { String::new() } else { alone(scale) };
    format!(
        "# Performance\n\n\
         Written by `make loadtest` (`tollgate-loadtest compare`, see [loadtest/README.md](../loadtest/README.md)); every line is of one run. \
         {} The client shares the machine with the server.\n\n\
         Medians of {rounds} rounds of {seconds} s. In each round every server is started, loaded in every way, and stopped. 4 connections with 16 calls in flight each, \
         unless a line says otherwise (64 each with 256 in flight, 4 each with batches of 1,000, one call with \"one at a time\"); CheckStream has one stream on each connection with 16 checks \
         in flight; {TENANTS} tenants by Zipf's law; an idempotency \
         key for each recorded event. CPU is that of the server's process, user and system; that of the naive one contains its Redis'. It is the figure that holds on a machine that others share; \
         all figures hold only beside the do-nothing servers of the same run. *A sync* is the median of some hundreds of 4 KiB that are written and synced one after the other, where the journal is, before the first round. \
         What they are compared with is the fastest of tonic alone: its generated service, polled inside the connection's task, without any bound; its answers are as long as the sidecar's. [performance-stores.md](performance-stores.md) has those of Redis, of the flush and of a restart. {throttlecrab}{quick}\n\n\
         ## What was aimed at\n\n{aims}\n\
         {alone}## All figures\n\n{figures}",
        provenance::describe(path),
    )
}

/// The section of what was measured of one sidecar by itself.
fn alone(scale: &str) -> String {
    format!(
        "## One sidecar by itself\n\n\
         Not beside other servers of the same moment. It runs alone, as above: tenants from files, counters in its own memory (where sidecars share, the counters are in Redis besides). \
         *Memory* is what is resident after each (tenant, meter) was used once, less what was resident before (the allocator gives freed memory back at once: MIMALLOC_PURGE_DELAY=0), \
         by their number: the tenant, the counter, the shared side of it, the store of the journal. *Growth* is by Zipf's law, after every tenant was used; few, many, and few again, \
         with a server that does nothing for the client's own share. \
         *Start* is from the start of the process to the first right answer, the median of several.\n\n{scale}\n"
    )
}

fn medians(runs: &[Run]) -> BTreeMap<(&'static str, &'static str), Medians> {
    let mut all: BTreeMap<_, Vec<&Figures>> = BTreeMap::new();
    for run in runs {
        all.entry((run.scenario, run.server)).or_default().push(&run.figures);
    }
    all.into_iter().map(|(of, runs)| (of, Medians::of(&runs))).collect()
}

/// The one in the middle.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (figures[middle - 1] + figures[middle]) / 2.0,
        _ => figures[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 100.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), 3.0);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn an_aim_is_met_or_missed_beside_the_server_that_does_nothing() {
        let medians = |cpu_us, p99_us, events_per_second| Medians {
            requests_per_second: 100.0,
            events_per_second,
            p50_us: 1.0,
            p99_us,
            cpu_us,
        };
        let (found, beside) = (medians(12.0, 30.0, 1_000.0), medians(10.0, 20.0, 100.0));
        let of = |aim| {
            let (_, is, is_met) = aimed(aim, &found, &beside, 10.0);
            (is, is_met)
        };
        assert_eq!(of(Aim::CpuAtMost(1.15)), (1.2, false));
        assert_eq!(of(Aim::CpuAtMost(1.35)), (1.2, true));
        assert_eq!(of(Aim::P99AtMost(1.2)), (1.5, false));
        assert_eq!(of(Aim::ThroughputAtLeast(0.5)), (1.0, true));
        assert_eq!(of(Aim::CpuPerEventAtMost(1.0)), (1.2, false));
        assert_eq!(of(Aim::EventsAtLeast(1_000.0)), (1_000.0, true));
        let syncs = |syncs| Aim::P99AtMostSyncs { syncs, beside_ms: 0.01 };
        assert_eq!([of(syncs(1.9)), of(syncs(2.0))], [(30.0, false), (30.0, true)]);
    }
}
