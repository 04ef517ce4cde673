//! `compare`: the sidecar beside do-nothing servers, measured in turns on the same machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Parser;
use serde::Serialize;

use crate::{
    document::{aims, document, table},
    report::Figures,
    run::measure,
    scenarios::{Scenario, scenarios},
    server::{Kind, Server},
};

/// The arguments of `compare`.
#[derive(Parser)]
pub struct Args {
    /// The program `tollgate`; the one beside this program unless given.
    #[arg(long)]
    sidecar: Option<PathBuf>,
    /// Catalog whose plan `load` all tenants are on.
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
    /// Write the tables to this file, with what they mean.
    #[arg(long)]
    document: Option<PathBuf>,
    /// Write every single run to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One measured run.
#[derive(Serialize)]
pub struct Run {
    pub round: usize,
    pub scenario: &'static str,
    pub server: &'static str,
    pub figures: Figures,
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
    // What is aimed at is the sidecar's; the others are there to compare with.
    let sidecar = servers.iter().find(|kind| matches!(kind, Kind::Sidecar { .. }));
    let aims = sidecar.map_or(String::new(), |it| aims(&scenarios, it.name(), &runs));
    print!("{table}\n{aims}");
    if let Some(path) = &args.document {
        let document = document(&table, &aims, args.rounds, args.seconds, path);
        fs::write(path, document).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.json {
        let runs = serde_json::to_vec_pretty(&runs)?;
        fs::write(path, runs).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn servers(args: &Args) -> anyhow::Result<Vec<Kind>> {
    let mut servers =
        vec![Kind::Noop { shape: "tonic" }, Kind::Noop { shape: "inline" }, Kind::Naive];
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
    let is_naive = matches!(kind, Kind::Naive);
    for scenario in scenarios.iter().filter(|scenario| scenario.suits_naive || !is_naive) {
        let target = if scenario.over_unix { server.unix() } else { server.tcp() };
        let figures = measure(scenario.name, &target, &server.pids(), &scenario.load)
            .with_context(|| format!("{}: {}", kind.name(), scenario.name))?;
        if let Some(failure) = &figures.failure {
            bail!("{}: {}: {} failed: {failure}", kind.name(), scenario.name, figures.failed);
        }
        runs.push(Run { round, scenario: scenario.name, server: kind.name(), figures });
    }
    Ok(())
}
