//! `scrape`: what a scrape of a sidecar's metrics costs, and whether that depends on the number of
//! its tenants. It must not: no series is a tenant's.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Parser;

use self::{
    every_tenant::ask_about_all,
    page::{get, series},
    prometheus::{Prometheus, Scrapes, problems},
    stores::Stores,
};
use crate::{
    process::cpu_time,
    provenance,
    report::Figures,
    run::{Load, measure},
    server::{Kind, Server, Sidecar, program},
};

mod every_tenant;
mod page;
mod prometheus;
mod stores;

/// The arguments of `scrape`.
#[derive(Parser)]
pub struct Args {
    /// The program `tollgate`; the one beside this program unless given.
    #[arg(long)]
    sidecar: Option<PathBuf>,
    /// Catalog whose plan `load` all tenants are on.
    #[arg(long, default_value = "loadtest/catalog.yaml")]
    catalog: PathBuf,
    /// The program `prometheus`, with `promtool` beside it.
    #[arg(long, default_value = "prometheus")]
    prometheus: PathBuf,
    /// Numbers of tenants, each measured by itself. With stores a million takes an hour, most of it in
    /// Postgres.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 50_000])]
    tenants: Vec<usize>,
    /// A sidecar without stores, which has its tenants from files: a million of them in a minute.
    #[arg(long)]
    alone: bool,
    /// Scrapes by hand, one after the other, whose CPU is counted.
    #[arg(long, default_value_t = 500)]
    scrapes: u32,
    /// Seconds of load, without and with a Prometheus.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Writes what was found to this file, too.
    #[arg(long)]
    document: Option<PathBuf>,
}

/// What was found with one number of tenants.
struct Found {
    tenants: usize,
    page: String,
    /// CPU of the sidecar for one scrape, beside what it does anyway.
    cpu_us_per_scrape: f64,
    idle_cpu_percent: f64,
    alone: Figures,
    scraped: Figures,
    scrapes: Scrapes,
}

/// Measures each number of tenants, and fails where series depend on it.
pub fn main(args: Args) -> anyhow::Result<()> {
    ensure!(args.scrapes > 0 && args.seconds > 1, "give some scrapes and seconds");
    let program = program(args.sidecar.as_deref())?;
    let mut all = vec![];
    for tenants in &args.tenants {
        let found = with_tenants(&args, &program, *tenants);
        all.push(found.with_context(|| format!("with {tenants} tenants"))?);
    }
    let table = table(&all);
    print!("{table}");
    let [first, others @ ..] = &all[..] else { bail!("give a number of tenants") };
    for other in others {
        let (before, after) = (series(&first.page), series(&other.page));
        let differing: BTreeSet<_> = before.symmetric_difference(&after).collect();
        ensure!(differing.is_empty(), "series of some tenants and not of others: {differing:?}");
    }
    let told = problems(&args.prometheus, &first.page)?;
    ensure!(told.is_empty(), "promtool check metrics: {told}");
    if let Some(path) = &args.document {
        fs::write(path, document(&args, path, &table))?;
    }
    Ok(())
}

fn with_tenants(args: &Args, program: &Path, tenants: usize) -> anyhow::Result<Found> {
    eprintln!("{tenants} tenants: making them");
    let directory = tempfile::tempdir()?;
    let (program, catalog) = (program.to_owned(), args.catalog.clone());
    let (_stores, kind) = match args.alone {
        true => {
            let sidecar = Sidecar { tenants, ..Sidecar::new(program, catalog) };
            (None, Kind::Sidecar(sidecar))
        }
        false => {
            let stores = Stores::start(&program, &catalog, tenants)?;
            let (ledger_url, redis_url) = (stores.ledger_url(), stores.redis_url());
            (Some(stores), Kind::Shared { program, ledger_url, redis_url })
        }
    };
    let server = Server::start(&kind, directory.path())?;
    eprintln!("{tenants} tenants: asking about each");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask_about_all(server.tcp(), tenants))?;

    eprintln!("{tenants} tenants: under load");
    let load = load(tenants, args.seconds)?;
    let under_load = || measure("", &server.tcp(), &server.pids(), &load);
    let alone = under_load()?;
    let (scraped, scrapes) = {
        let prometheus = Prometheus::start(&args.prometheus, directory.path(), server.http())?;
        let scraped = under_load()?;
        (scraped, prometheus.scrapes(args.seconds)?)
    };
    for figures in [&alone, &scraped] {
        ensure!(figures.failed == 0, "{:?}", figures.failure);
    }
    ensure!(scrapes.failed == 0.0, "{scrapes:?}");

    eprintln!("{tenants} tenants: {} scrapes by hand", args.scrapes);
    let pid = *server.pids().last().context("a sidecar has a process")?;
    let (idle_cpu, cpu_us_per_scrape) = by_hand(pid, server.http(), args.scrapes)?;
    Ok(Found {
        tenants,
        page: get(server.http(), "/metrics")?,
        cpu_us_per_scrape,
        idle_cpu_percent: 100.0 * idle_cpu,
        alone,
        scraped,
        scrapes,
    })
}

/// The document of `table`.
fn document(args: &Args, path: &Path, table: &str) -> String {
    let which = match args.alone {
        true => "A sidecar by itself, which has its tenants from files",
        false => "A sidecar on a Postgres and a Redis",
    };
    format!(
        "# What a scrape costs\n\nWritten by `tollgate-loadtest scrape` (see \
         [loadtest/README.md](../loadtest/README.md)). {}\n\n{which}; each tenant was asked about \
         once. CPU of a scrape is that of the sidecar's process for {} scrapes by hand, one after \
         the other, beside what it uses while nobody asks. Then it is loaded with CONSUMEs for {} s \
         as far as it goes, alone and with a Prometheus that scrapes it every second. The series of \
         all are the same: none is a tenant's.\n\n{table}",
        provenance::describe(path),
        args.scrapes,
        args.seconds,
    )
}

/// What the sidecar uses of a core while nobody asks, and the microseconds of a scrape beside that.
fn by_hand(pid: u32, http: SocketAddr, scrapes: u32) -> anyhow::Result<(f64, f64)> {
    const IDLE: Duration = Duration::from_secs(10);
    let before = cpu_time(pid)?;
    thread::sleep(IDLE);
    let idle = (cpu_time(pid)? - before).as_secs_f64() / IDLE.as_secs_f64();
    let (before, began) = (cpu_time(pid)?, Instant::now());
    for _ in 0..scrapes {
        get(http, "/metrics")?;
    }
    let used = (cpu_time(pid)? - before).as_secs_f64();
    let anyway = idle * began.elapsed().as_secs_f64();
    Ok((idle, (used - anyway).max(0.0) * 1e6 / f64::from(scrapes)))
}

/// As much as the sidecar can answer: CONSUMEs that are recorded, one tenant more often than another.
fn load(tenants: usize, seconds: u64) -> anyhow::Result<Load> {
    let numbers = ["--tenants", &tenants.to_string(), "--seconds", &seconds.to_string()];
    let arguments = ["load", "--call", "consume", "--zipf"].into_iter().chain(numbers);
    Ok(Load::try_parse_from(arguments)?)
}

fn table(all: &[Found]) -> String {
    let mut text = String::from(
        "| tenants | series | bytes | CPU ms/scrape | CPU while idle | Prometheus: scrapes (failed) \
         | ms mean | ms max | series min-max | requests/s alone | scraped every second |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for found in all {
        let scrapes = &found.scrapes;
        text += &format!(
            "| {} | {} | {} | {:.2} | {:.1} % | {} ({}) | {:.1} | {:.1} | {}-{} | {:.0} | {:.0} |\n",
            found.tenants,
            series(&found.page).len(),
            found.page.len(),
            found.cpu_us_per_scrape / 1e3,
            found.idle_cpu_percent,
            scrapes.count,
            scrapes.failed,
            1e3 * scrapes.seconds_mean,
            1e3 * scrapes.seconds_max,
            scrapes.series_min,
            scrapes.series_max,
            found.alone.requests_per_second,
            found.scraped.requests_per_second,
        );
    }
    text
}
