//! `stores`: what sidecars cost Redis and Postgres, measured on private servers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};

use self::{
    findings::{Part, section},
    stage::Stage,
};
use crate::provenance;

mod bare;
mod commandstats;
mod drain;
mod family;
mod findings;
mod keyed;
mod recorder;
mod redis_calls;
mod restart;
mod sidecar;
mod stage;
mod unkeyed;

/// The arguments of `stores`.
#[derive(Parser)]
pub struct Args {
    /// The program `tollgate`; the one beside this program unless given.
    #[arg(long)]
    sidecar: Option<PathBuf>,
    /// Only these measurements.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// How many sidecars share a busy tenant, by turns.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8])]
    sidecars: Vec<usize>,
    /// Checks of a busy tenant a second, over all sidecars together.
    #[arg(long, default_value_t = 16_000.0)]
    pace: f64,
    /// Seconds for which calls of Redis are counted.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Tenants that have used something and are idle.
    #[arg(long, default_value_t = 10_000)]
    idle_tenants: usize,
    /// Events under keys that wait to be flushed.
    #[arg(long, default_value_t = 2_000_000)]
    backlog: u64,
    /// Events without keys that wait to be flushed; a tenth of them the first time.
    #[arg(long, default_value_t = 20_000_000)]
    unkeyed_backlog: u64,
    /// Journal of a sidecar that is killed and started again, MiB.
    #[arg(long, default_value_t = 1_024)]
    restart_mib: u64,
    /// Do that with events without keys, too: several times as many are in as much journal.
    #[arg(long)]
    restart_unkeyed: bool,
    /// Wait until all of that journal is in the ledger.
    #[arg(long)]
    restart_flush: bool,
    /// Directory for the files of Postgres and the sidecars: on the disk that is to be measured on.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Write what was found to this file, with what it means.
    #[arg(long)]
    document: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Calls of Redis, by a busy tenant and by idle ones.
    RedisCalls,
    /// The flush of events under keys.
    Keyed,
    /// The flush of events without keys.
    Unkeyed,
    /// A killed sidecar's start.
    Restart,
}

impl Args {
    fn wants(&self, what: What) -> bool {
        self.only.is_empty() || self.only.contains(&what)
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.sidecars.contains(&0) || self.idle_tenants == 0 {
            bail!("give at least one sidecar and one idle tenant");
        }
        if !(self.pace > 0.0 && self.seconds > 0.0) {
            bail!("give a pace and a time above 0");
        }
        if self.backlog == 0 || self.unkeyed_backlog < 10 || self.restart_mib == 0 {
            bail!("give a backlog of some events and a journal of some MiB");
        }
        Ok(())
    }
}

/// Measures, and prints what was found.
pub fn main(args: Args) -> anyhow::Result<()> {
    args.check()?;
    let program = match &args.sidecar {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("tollgate"),
    };
    if !program.exists() {
        bail!("{} does not exist; build it or give --sidecar", program.display());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let parts = runtime.block_on(all(program, &args))?;
    let section = section(&parts);
    print!("{section}");
    if let Some(path) = &args.document {
        write(path, &section).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

async fn all(program: PathBuf, args: &Args) -> anyhow::Result<Vec<Part>> {
    let stage = Stage::set(program, args.directory.as_deref()).await?;
    let mut parts = vec![];
    if args.wants(What::RedisCalls) {
        parts.push(redis_calls::part(&stage, args).await?);
    }
    if args.wants(What::Keyed) {
        parts.push(keyed::part(&stage, args).await?);
    }
    if args.wants(What::Unkeyed) {
        parts.push(unkeyed::part(&stage, args).await?);
    }
    if args.wants(What::Restart) {
        parts.push(restart::part(&stage, args).await?);
    }
    Ok(parts)
}

fn write(path: &Path, section: &str) -> std::io::Result<()> {
    let document = format!(
        "# Performance: Redis and Postgres\n\n\
         Written by `make loadtest` (`tollgate-loadtest stores`, see [loadtest/README.md](../loadtest/README.md)); \
         [performance.md](performance.md) has what calls cost. {} Clients, sidecars, a private Redis and a private Postgres share the machine; \
         Postgres syncs. Throughput is that of this machine at this moment; rows, calls and ratios hold elsewhere.\n\n{section}",
        provenance::describe(path),
    );
    fs::write(path, document)
}
