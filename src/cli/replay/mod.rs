//! `tollgate replay`: drives sidecars with recorded usage.

mod drive;
mod report;
mod trace;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{task::JoinSet, time::Instant};

pub use self::{drive::Verb, report::Report, trace::TraceKind};
use self::{
    drive::{Driver, Plan},
    trace::Call,
};
use super::{
    client::address::SidecarAddress,
    values::{any_count, count, units},
};
use crate::{
    cli::print::outln,
    proto::v1::{Durability, tollgate_service_client::TollgateServiceClient},
};

/// How long a call may take before it is tried again.
const CALL_WAIT_MAX: Duration = Duration::from_secs(10);
/// Most calls under way at once.
const IN_FLIGHT_MAX: usize = 4_096;

/// Replay recorded usage over gRPC, against one sidecar or several
///
/// The recordings are years old, so their times are too early for most tenants: give --now, or put
/// the tenants on a test clock.
///
/// Keys are made of the recording's line numbers, so a replay that was cut off can be repeated:
/// what is known already is not counted again.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which recording the file holds
    #[arg(value_enum)]
    kind: TraceKind,
    /// The recording (CSV)
    file: PathBuf,
    /// A sidecar: HOST:PORT, http://HOST:PORT or unix:///PATH; may be given several times
    #[arg(
        long = "endpoint",
        env = "TOLLGATE_ENDPOINT",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7421"
    )]
    endpoints: Vec<SidecarAddress>,
    /// The tenant that the model's calls are made for; one of `tollgate dev` unless given
    #[arg(long, default_value = "demo-llm")]
    tenant: String,
    /// Put before a client's pseudonym to make its tenant's id (`site-` for those of `tollgate dev`)
    #[arg(long, default_value = "", hide_default_value = true)]
    tenant_prefix: String,
    /// What idempotency keys start with
    #[arg(long, default_value = "replay")]
    key_prefix: String,
    /// How often faster than recorded; 0 = as fast as it goes
    #[arg(long, default_value_t = 0.0)]
    speed: f64,
    /// Calls under way at once
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = any_count)]
    in_flight: usize,
    /// At most this many calls of the recording
    #[arg(
        long,
        default_value_t = usize::MAX,
        hide_default_value = true,
        value_name = "N",
        value_parser = any_count
    )]
    calls: usize,
    /// What an acknowledgement survives
    #[arg(long, value_enum, default_value = "sync")]
    durability: DurabilityArg,
    /// Whether web requests are only recorded or have to be admitted
    #[arg(long, value_enum, default_value = "record")]
    verb: Verb,
    /// Factor on the bytes of web requests
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = units)]
    bytes_factor: i64,
    /// Tokens beyond the context that a model's call reserves
    #[arg(long, default_value_t = 1_024, value_name = "N", value_parser = units)]
    reserve_generated: i64,
    /// Let usage happen at the tenant's now instead of at the recorded time
    #[arg(long)]
    now: bool,
    /// Tries per request, the first included
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = count)]
    tries: u32,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DurabilityArg {
    Memory,
    Written,
    Sync,
}

/// Replays and prints the report as JSON.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let report = replay(&args).await?;
    outln!("{}", serde_json::to_string_pretty(&report)?);
    if report.given_up > 0 {
        let why = report.given_up_because.as_deref().unwrap_or("nothing is known of it");
        bail!(
            "{} calls were given up after {} tries each; the first of them: {why}",
            report.given_up,
            args.tries.max(1)
        );
    }
    Ok(())
}

async fn replay(args: &Args) -> anyhow::Result<Report> {
    if !(1..=IN_FLIGHT_MAX).contains(&args.in_flight) {
        bail!("--in-flight: is out of range ({}); use 1 to {IN_FLIGHT_MAX}", args.in_flight);
    }
    if !args.speed.is_finite() || args.speed < 0.0 {
        bail!("--speed: is out of range ({}); use 0 or a positive factor", args.speed);
    }
    let calls = Arc::new(trace::read(args.kind, &args.file, args.calls)?);
    let clients: Vec<_> = args
        .endpoints
        .iter()
        .map(|at| {
            let channel = at.endpoint(CALL_WAIT_MAX).connect_lazy();
            (TollgateServiceClient::new(channel), at.clone())
        })
        .collect();
    let plan = Arc::new(plan(args));
    let next = Arc::new(AtomicUsize::new(0));
    let pace = Pace { start: Instant::now(), speed: args.speed };
    let mut drivers = JoinSet::new();
    for _ in 0..args.in_flight {
        let driver =
            Driver { plan: plan.clone(), clients: clients.clone(), report: Report::default() };
        drivers.spawn(drive_all(driver, calls.clone(), next.clone(), pace));
    }
    let mut total = Report::default();
    while let Some(done) = drivers.join_next().await {
        total.add(done??);
    }
    Ok(total)
}

fn plan(args: &Args) -> Plan {
    Plan {
        tenant: args.tenant.clone(),
        tenant_prefix: args.tenant_prefix.clone(),
        key_prefix: args.key_prefix.clone(),
        durability: match args.durability {
            DurabilityArg::Memory => Durability::Memory,
            DurabilityArg::Written => Durability::Written,
            DurabilityArg::Sync => Durability::Sync,
        },
        verb: args.verb,
        bytes_factor: args.bytes_factor,
        reserve_generated: args.reserve_generated,
        recorded_time: !args.now,
        tries_max: args.tries.max(1),
    }
}

/// When each recorded call is due.
#[derive(Clone, Copy)]
struct Pace {
    start: Instant,
    speed: f64,
}

impl Pace {
    async fn wait_for(self, first: &Call, call: &Call) {
        if self.speed > 0.0 {
            let recorded = call.at.duration_since(first.at).as_secs_f64().max(0.0);
            tokio::time::sleep_until(self.start + Duration::from_secs_f64(recorded / self.speed))
                .await;
        }
    }
}

async fn drive_all(
    mut driver: Driver,
    calls: Arc<Vec<Call>>,
    next: Arc<AtomicUsize>,
    pace: Pace,
) -> anyhow::Result<Report> {
    while let Some(call) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
        pace.wait_for(&calls[0], call).await;
        driver
            .carry_out(call)
            .await
            .with_context(|| format!("line {} of the recording", call.line))?;
    }
    Ok(driver.report)
}
