//! `tollgate dev`: all of Tollgate on this machine.

mod addresses;
mod demo;
mod recorded;
mod stores;
mod up;
mod welcome;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use self::{addresses::Addresses, up::Up};
use crate::{
    cli::print::news,
    dev::{Companion, Ended},
    ledger::{Ledger, config::LedgerConfig},
    lifecycle::signals::StopSignals,
};

/// Longest directory, in bytes: a Unix socket's whole path is at most 107.
const DIR_BYTES_MAX: usize = 107 - "/tollgate.sock".len();
/// How often the processes are looked after.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Run all of Tollgate on this machine: a private Postgres and Redis, the example catalogs, demo
/// tenants, a sidecar and a worker, and some recorded usage
///
/// Everything stops with Ctrl-C, and the data is found again by the next start.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where all data is kept
    #[arg(long, default_value = ".tollgate-dev")]
    dir: PathBuf,
    /// Recorded web requests and LLM calls each that the first start replays; 0 for none
    #[arg(long, default_value_t = 500, value_name = "N")]
    calls: usize,
}

/// Starts everything, tells where it is, and stops it when asked to.
pub async fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let mut signals = StopSignals::catch().context("catching signals")?;
    let dir = std::path::absolute(&args.dir)?;
    check_length(&dir)?;
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let _lock = lock(&dir)?;

    let mut up = tokio::select! {
        up = start(&dir, &args) => up?,
        signal = signals.next() => bail!("stopped by {signal} while starting"),
    };
    news(&welcome::text(&up, started.elapsed()));
    let ended = tokio::select! {
        _ = signals.next() => None,
        ended = watch(&mut up) => Some(ended),
    };
    news("");
    if let Some(ended) = &ended {
        eprintln!("tollgate: {ended}");
    }
    // A second signal ends this process at once, and the rest follows by itself.
    let stopping = tokio::task::spawn_blocking(move || up.stop());
    let stopped = signals.unless_again(stopping).await??;
    match ended {
        Some(ended) => bail!("stopped, because {} had ended by itself ({})", ended.name, ended.how),
        None => stopped,
    }
}

async fn start(dir: &Path, args: &Args) -> Result<Up> {
    let stores = stores::start(dir).await?;
    let ledger = Ledger::new(&LedgerConfig::at(stores.postgres_url()))?;
    ledger.migrate().await.context("migrating the private Postgres")?;
    let is_new = demo::prepare(&ledger, args.calls).await?;
    ledger.close().await;

    let addresses = Addresses::choose(dir)?;
    let settings = addresses.write_settings(dir, &stores)?;
    let companions = start_companions(dir, &settings, &addresses).await?;
    let replayed = if is_new && args.calls > 0 {
        Some(recorded::replay(dir, &addresses, &demo::RECORDED, args.calls).await?)
    } else {
        None
    };
    Ok(Up { dir: dir.to_owned(), addresses, companions, stores, replayed })
}

async fn start_companions(
    dir: &Path,
    settings: &Path,
    addresses: &Addresses,
) -> Result<Vec<Companion>> {
    let program = std::env::current_exe().context("finding this program")?;
    let start = |name: &'static str, http| {
        let (program, dir) = (program.clone(), dir.join("logs"));
        let arguments =
            vec![name.to_owned(), "--config".to_owned(), settings.display().to_string()];
        tokio::task::spawn_blocking(move || Companion::start(name, &program, arguments, &dir, http))
    };
    let (sidecar, worker) = tokio::join!(
        start("sidecar", addresses.sidecar_http),
        start("worker", addresses.worker_http)
    );
    Ok(vec![sidecar??, worker??])
}

/// The sidecar's Unix socket lies in the directory, and its whole path is short.
fn check_length(dir: &Path) -> Result<()> {
    let bytes = dir.as_os_str().len();
    if bytes > DIR_BYTES_MAX {
        bail!(
            "--dir {} is {bytes} bytes long, too long for a Unix socket in it; give one of at most \
             {DIR_BYTES_MAX} bytes",
            dir.display()
        );
    }
    Ok(())
}

/// Only one `tollgate dev` may use a directory.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("LOCK");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another `tollgate dev` runs in {}; stop it or give another --dir", dir.display());
    }
    Ok(file)
}

/// Returns once a process has ended by itself.
async fn watch(up: &mut Up) -> Ended {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if let Some(ended) = up.ended() {
            return ended;
        }
    }
}
