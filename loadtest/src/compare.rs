//! `compare`: the sidecar beside do-nothing servers, measured in turns on the same machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Parser;
use serde::Serialize;

use crate::{
    disk::median_sync_us,
    document::{Parts, aims, document, table},
    noop::Shape,
    provenance::version,
    report::Figures,
    run::{Load, measure},
    scale::{self, Finding, Scale},
    scenarios::{Scenario, scenarios},
    server::{Kind, Server, Sidecar, program},
};

/// Where `scripts/peers` installs it.
const THROTTLECRAB: &str = "target/peers/bin/throttlecrab-server";
/// Rounds of one sidecar by itself, which take longer.
const SCALE_ROUNDS_MAX: usize = 3;
/// Rounds and seconds of `--quick`.
const QUICK: (usize, f64) = (1, 0.3);

/// The arguments of `compare`.
#[derive(Parser)]
pub struct Args {
    /// The program `tollgate`; the one beside this program unless given.
    #[arg(long)]
    sidecar: Option<PathBuf>,
    /// Catalog whose plan `load` all tenants are on.
    #[arg(long, default_value = "loadtest/catalog.yaml")]
    catalog: PathBuf,
    /// Catalog of many meters, with the same plan.
    #[arg(long, default_value = "loadtest/many-meters.yaml")]
    many_meters: PathBuf,
    /// The program `throttlecrab-server`; where `scripts/peers` installs it, if it is there, unless
    /// given.
    #[arg(long)]
    throttlecrab: Option<PathBuf>,
    /// Leave the sidecar out.
    #[arg(long)]
    only_noop: bool,
    /// Leave out what is measured of one sidecar by itself: start, memory, growth.
    #[arg(long)]
    no_scale: bool,
    /// See whether all of it works, in a minute or two: one short round, and a hundredth of the tenants.
    #[arg(long)]
    quick: bool,
    /// Only scenarios, and of what is measured by itself only parts, whose name contains this text.
    #[arg(long)]
    only: Option<String>,
    /// Rounds; in each every server is started, loaded and stopped. Figures are medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of measuring for each scenario and round.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Directory for the servers' files: on the disk that `sync` is to be measured on.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Write the tables to this file, with what they mean.
    #[arg(long)]
    document: Option<PathBuf>,
    /// Write every single run, and what was found of one sidecar by itself, to this file as JSON.
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

/// What is written as JSON.
#[derive(Serialize)]
struct Found<'a> {
    /// Of the servers beside each other.
    runs: &'a [Run],
    /// Of one sidecar by itself.
    findings: &'a [Finding],
}

/// Measures all servers in turns and prints the medians.
pub fn main(mut args: Args) -> anyhow::Result<()> {
    if args.quick {
        (args.rounds, args.seconds) = QUICK;
    }
    if args.rounds == 0 {
        bail!("give at least one round");
    }
    let servers = servers(&args)?;
    let wants = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only));
    let mut scenarios = scenarios(args.seconds);
    scenarios.retain(|it| wants(it.name));
    let sync_us = median_sync_us(args.directory.as_deref())?;
    let mut runs = vec![];
    for round in 1..=args.rounds {
        for kind in servers.iter().filter(|kind| scenarios.iter().any(|it| kind.suits(it))) {
            eprintln!("round {round} of {}: {}", args.rounds, kind.name());
            run_all(round, kind, &scenarios, args.directory.as_deref(), &mut runs)?;
        }
    }
    // What is aimed at is the sidecar's; the others are there to compare with.
    let sidecar = servers.iter().find(|kind| matches!(kind, Kind::Sidecar(_)));
    let findings = match sidecar {
        Some(Kind::Sidecar(sidecar)) if !args.no_scale => {
            scale::measure(&scale(&args, sidecar), wants)?
        }
        _ => vec![],
    };
    let parts = Parts {
        aims: sidecar.map_or(String::new(), |it| aims(&scenarios, it.name(), &runs, sync_us)),
        scale: scale::table(&findings),
        figures: table(&scenarios, &servers, &runs),
        is_quick: args.quick,
        throttlecrab: servers.iter().find_map(|kind| match kind {
            Kind::Throttlecrab { program } => version(program),
            _ => None,
        }),
    };
    print!("{}\n{}\n{}", parts.figures, parts.aims, parts.scale);
    if let Some(path) = &args.document {
        let document = document(&parts, args.rounds, args.seconds, path);
        fs::write(path, document).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.json {
        let found = serde_json::to_vec_pretty(&Found { runs: &runs, findings: &findings })?;
        fs::write(path, found).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn scale(args: &Args, sidecar: &Sidecar) -> Scale {
    Scale {
        sidecar: sidecar.clone(),
        many_meters: args.many_meters.clone(),
        directory: args.directory.clone(),
        rounds: args.rounds.min(SCALE_ROUNDS_MAX),
        seconds: args.seconds,
        is_quick: args.quick,
    }
}

fn servers(args: &Args) -> anyhow::Result<Vec<Kind>> {
    let nothing = [Shape::Tonic, Shape::TonicInline, Shape::Face];
    let mut servers = nothing.map(|shape| Kind::Noop { shape }).to_vec();
    servers.push(Kind::Naive);
    let throttlecrab = args.throttlecrab.clone().unwrap_or_else(|| THROTTLECRAB.into());
    if throttlecrab.exists() {
        servers.push(Kind::Throttlecrab { program: throttlecrab });
    } else if args.throttlecrab.is_some() {
        bail!("{} does not exist; install it or leave it out", throttlecrab.display());
    }
    if !args.only_noop {
        let program = program(args.sidecar.as_deref())?;
        servers.push(Kind::Sidecar(Sidecar::new(program, args.catalog.clone())));
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
    for scenario in scenarios.iter().filter(|scenario| kind.suits(scenario)) {
        let target = if scenario.over_unix { server.unix() } else { server.tcp() };
        let load = Load { call: kind.call(scenario.load.call), ..scenario.load.clone() };
        let figures = measure(scenario.name, &target, &server.pids(), &load)
            .with_context(|| format!("{}: {}", kind.name(), scenario.name))?;
        if let Some(failure) = &figures.failure {
            bail!("{}: {}: {} failed: {failure}", kind.name(), scenario.name, figures.failed);
        }
        runs.push(Run { round, scenario: scenario.name, server: kind.name(), figures });
    }
    Ok(())
}
