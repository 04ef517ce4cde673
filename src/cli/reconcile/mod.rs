//! `tollgate reconcile`: compares all that is kept of usage, and shows what does not say the same.

mod look;
mod shown;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use jiff::Timestamp;

use self::look::{Counters, Look};
use super::{
    ledger_args::{AuthorArgs, LedgerArgs},
    told::told,
    values::{count, instant, seconds},
};
use crate::{
    clock::Clock,
    domain::{
        ids::{MeterName, TenantId},
        window::WindowLabel,
    },
    ledger::reconcile::Scope,
    reconcile::{journals::keys_kept_from, mending::Mender, shared::LookTimes},
};

/// Ends with this code when something differs.
const DIFFERS: u8 = 1;
/// Ends with this code when it could not be looked.
const NOT_LOOKED: u8 = 2;
/// Ends with this code when nothing differs in what was compared, which the shared counters are not.
const COUNTERS_NOT_COMPARED: u8 = 3;
/// What stands still for so long is no usage on its way, however often sidecars flush.
const PATIENCE_MIN: Duration = Duration::from_secs(5);
/// Flushes that a sidecar may leave out within that time.
const FLUSHES_LEFT_OUT: u32 = 3;

/// Compare the shared counters, the ledger's totals and rollups, kept events and charges
///
/// Shared counters (Redis) are compared with what the ledger has of every run; totals with rollups,
/// with what runs counted, with grants and pools; rollups with the raw events that are kept; every
/// charge with the usage and the plan version that it was made of, to the cent. Nothing is changed
/// without --repair.
///
/// Sidecars may be running: what differs is looked at again until it agrees, or has stood still for
/// longer than usage is on its way.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing differs (any more), 1 something does, 2 it could not be looked, \
                  3 nothing differs, but the shared counters were not compared."
)]
pub struct Args {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Only this tenant, or the owner of a pool's counters (pool!3)
    #[arg(long, value_parser = owner)]
    tenant: Option<TenantId>,
    /// Only this meter
    #[arg(long)]
    meter: Option<MeterName>,
    /// Only windows of this label, as reports name it (month:1772323200:1)
    #[arg(long, value_name = "LABEL")]
    window: Option<WindowLabel>,
    /// Only windows that begin then or later (RFC 3339), and levels
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: Option<Timestamp>,
    /// A sidecar's data directory (journal.data_dir), whose journals are compared with what their runs
    /// have flushed; may be given several times. Read-only, the sidecar may be running
    #[arg(long = "journal", value_name = "DIR")]
    journals: Vec<PathBuf>,
    /// Leave the shared counters out
    #[arg(long)]
    without_counters: bool,
    /// Mend what can be mended without guessing: windows' totals from what they are the sum of, shared
    /// counters upwards from the ledger, missing charges. What was mended is in the audit log
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    author: AuthorArgs,
    /// Longest look at what moves, for each 500 counters that differ
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = seconds)]
    wait: u32,
    /// Also what is as it should be and worth knowing: unflushed and late usage, charges to come
    #[arg(long)]
    all: bool,
    /// Most rows to show; all are counted
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = count)]
    limit: u32,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

fn owner(text: &str) -> Result<TenantId, String> {
    TenantId::stored(text).map_err(|invalid| invalid.to_string())
}

/// Compares and prints what differs.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match compare(&args).await {
        Ok(code) => Ok(code),
        Err(error) => {
            eprintln!("tollgate: {}", told(&error));
            Ok(ExitCode::from(NOT_LOOKED))
        }
    }
}

async fn compare(args: &Args) -> anyhow::Result<ExitCode> {
    let (ledger, settings) = args.ledger.open_with_settings().await?;
    let scope = Scope {
        tenant: args.tenant.clone(),
        meter: args.meter.clone(),
        label: args.window,
        since: args.since,
    };
    let flush_interval = settings.enforcement.flush_interval();
    let patience = flush_interval.saturating_mul(FLUSHES_LEFT_OUT).max(PATIENCE_MIN);
    let wait_max = Duration::from_secs(args.wait.into()).max(patience);
    let now = Clock::System.now();
    let actor = args.author.actor();
    let mender = Mender { ledger: &ledger, author: args.author.author(&actor) };
    let look = Look {
        ledger: &ledger,
        mender: args.repair.then_some(mender),
        journals: &args.journals,
        keys_kept_from: keys_kept_from(now, settings.jobs.usage_keys_days),
        redis: settings.redis,
        without_counters: args.without_counters,
        scope,
        times: LookTimes { patience, wait_max },
        now,
        rows_max: args.limit,
    };
    let report = look.all().await?;
    shown::print(&report, args.all, args.json)?;
    Ok(match (report.differing > report.mended, report.counters_looked_at) {
        (true, _) => ExitCode::from(DIFFERS),
        (false, Counters::NotCompared(_)) => ExitCode::from(COUNTERS_NOT_COMPARED),
        (false, _) => ExitCode::SUCCESS,
    })
}
