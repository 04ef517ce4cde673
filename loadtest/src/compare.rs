//! `compare`: the sidecar beside do-nothing servers, measured in turns on the same machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Parser;
use serde::Serialize;

use crate::{
    calls::{Call, Durability},
    report::Figures,
    run::{Load, measure},
    server::{Kind, Server},
};

/// The arguments of `compare`.
#[derive(Parser)]
pub struct Args {
    /// The program `tollgate`; the one beside this program unless given.
    #[arg(long)]
    sidecar: Option<PathBuf>,
    /// Catalog with the tenants load-0 to load-15 and the meter tokens.
    #[arg(long, default_value = "loadtest/catalog.yaml")]
    catalog: PathBuf,
    /// Leave the sidecar out.
    #[arg(long)]
    only_noop: bool,
    /// Only scenarios whose name contains this text.
    #[arg(long)]
    only: Option<String>,
    /// Rounds; in each every server is started, loaded and stopped. Figures are medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of measuring for each scenario and round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Directory for the servers' files: on the disk that `sync` is to be measured on.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Write the table to this file as well.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Write every single run to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One way of loading a server.
struct Scenario {
    name: &'static str,
    over_unix: bool,
    load: Load,
}

fn scenarios(seconds: f64) -> Vec<Scenario> {
    let check = Load {
        call: Call::Check,
        meter: "tokens".into(),
        tenants: 16,
        tenant_prefix: "load-".into(),
        amount: 1,
        batch: 1,
        durability: Durability::Sync,
        token: None,
        keys: false,
        connections: 4,
        in_flight: 16,
        rate: None,
        warmup: 0.5,
        seconds,
        threads: 1,
    };
    let consume = Load { call: Call::Consume, ..check.clone() };
    let record = Load { call: Call::Record, keys: true, ..check.clone() };
    let batches = Load { batch: 1_000, in_flight: 4, ..record.clone() };
    let alone = Load { connections: 1, in_flight: 1, ..check.clone() };
    let other = |call| Load { call, ..check.clone() };
    let operation = Load { durability: Durability::Written, ..other(Call::Operation) };
    let checks = Load { batch: 1_000, in_flight: 4, ..other(Call::Batch) };
    let [rate, feature] = [Call::Rate, Call::Feature].map(other);
    let scenario = |name, over_unix, load| Scenario { name, over_unix, load };
    vec![
        scenario("CheckQuota CHECK, TCP", false, check.clone()),
        scenario("CheckQuota CHECK, Unix socket", true, check),
        scenario("CheckQuota CHECK, TCP, one at a time", false, alone.clone()),
        scenario("CheckQuota CHECK, Unix socket, one at a time", true, alone),
        scenario(
            "CheckQuota CONSUME, written, TCP",
            false,
            Load { durability: Durability::Written, ..consume.clone() },
        ),
        scenario("CheckQuota CONSUME, sync, TCP", false, consume),
        scenario("CheckRateLimit CONSUME, TCP", false, rate),
        scenario("CheckFeature, TCP", false, feature),
        scenario("Check CONSUME of an operation, written, TCP", false, operation),
        scenario("CheckBatch of 1,000, TCP", false, checks),
        scenario("RecordUsage of 1, sync, TCP", false, record),
        scenario("RecordUsage of 1,000, sync, TCP", false, batches),
    ]
}

/// One measured run.
#[derive(Serialize)]
struct Run {
    round: usize,
    scenario: &'static str,
    server: &'static str,
    figures: Figures,
}

/// Measures all servers in turns and prints the medians.
pub fn main(args: Args) -> anyhow::Result<()> {
    if args.rounds == 0 {
        bail!("give at least one round");
    }
    let servers = servers(&args)?;
    let mut scenarios = scenarios(args.seconds);
    scenarios.retain(|it| args.only.as_ref().is_none_or(|only| it.name.contains(only)));
    let mut runs = vec![];
    for round in 1..=args.rounds {
        for kind in &servers {
            eprintln!("round {round} of {}: {}", args.rounds, kind.name());
            run_all(round, kind, &scenarios, args.directory.as_deref(), &mut runs)?;
        }
    }
    let table = table(&scenarios, &servers, &runs);
    print!("{table}");
    if let Some(path) = &args.markdown {
        fs::write(path, &table).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.json {
        let runs = serde_json::to_vec_pretty(&runs)?;
        fs::write(path, runs).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn servers(args: &Args) -> anyhow::Result<Vec<Kind>> {
    let mut servers = vec![Kind::Noop { shape: "tonic" }, Kind::Noop { shape: "inline" }];
    if !args.only_noop {
        let program = match &args.sidecar {
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name("tollgate"),
        };
        if !program.exists() {
            bail!("{} does not exist; build it or give --sidecar", program.display());
        }
        servers.push(Kind::Sidecar { program, catalog: args.catalog.clone() });
    }
    Ok(servers)
}

fn run_all(
    round: usize,
    kind: &Kind,
    scenarios: &[Scenario],
    parent: Option<&Path>,
    runs: &mut Vec<Run>,
) -> anyhow::Result<()> {
    let directory = match parent {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let server = Server::start(kind, directory.path())?;
    for scenario in scenarios {
        let target = if scenario.over_unix { server.unix() } else { server.tcp() };
        let figures = measure(scenario.name, &target, Some(server.pid()), &scenario.load)
            .with_context(|| format!("{}: {}", kind.name(), scenario.name))?;
        if let Some(failure) = &figures.failure {
            bail!("{}: {}: {} failed: {failure}", kind.name(), scenario.name, figures.failed);
        }
        runs.push(Run { round, scenario: scenario.name, server: kind.name(), figures });
    }
    Ok(())
}

fn table(scenarios: &[Scenario], servers: &[Kind], runs: &[Run]) -> String {
    let mut text = String::from(
        "| | server | requests/s | events/s | p50 µs | p99 µs | server CPU µs/request |\n\
         |---|---|---:|---:|---:|---:|---:|\n",
    );
    for scenario in scenarios {
        for server in servers {
            let of_both: Vec<&Figures> = runs
                .iter()
                .filter(|run| run.scenario == scenario.name && run.server == server.name())
                .map(|run| &run.figures)
                .collect();
            let median = |figure: fn(&Figures) -> f64| {
                median(of_both.iter().map(|figures| figure(figures)).collect())
            };
            text += &format!(
                "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} |\n",
                scenario.name,
                server.name(),
                median(|it| it.requests_per_second),
                median(|it| it.events_per_second),
                median(|it| it.p50_us),
                median(|it| it.p99_us),
                median(|it| it.server_cpu_us_per_request.unwrap_or(f64::NAN)),
            );
        }
    }
    text
}

fn median(mut figures: Vec<f64>) -> f64 {
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
}
