//! `tollgate job run`.

use anyhow::bail;
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::shown::{run_json, summary_line};
use crate::{
    cli::{ledger_args::LedgerArgs, print::outln, values::instant, worker_name::worker_name},
    clock::Clock,
    jobs::{
        registry,
        runner::{HandRun, HandRunEnd, Outcome, RunReport, Runner},
    },
    ledger::job_runs::JobRun,
    lifecycle::signals::StopSignals,
    telemetry::logging,
};

/// What can be asked for.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// The job's name, as `tollgate job list` shows it
    job: String,
    /// The present to work by (RFC 3339); the real one unless given. Accounts on a test clock
    /// follow their clock all the same
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    now: Option<Timestamp>,
    /// The tick that the run counts as (RFC 3339): it is then run once, whoever runs it, and again
    /// only after it has failed. A run of its own unless given
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    scheduled_at: Option<Timestamp>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (ledger, settings) = args.ledger.open_with_settings().await?;
    logging::init(&settings.log)?;
    let jobs = registry::jobs(&ledger, &settings.jobs)?;
    let names: Vec<_> = jobs.iter().map(|job| job.name).collect();
    let runner = Runner::new(ledger, jobs, Clock::System, worker_name());
    let stop = stop_on_signal()?;
    let asked = HandRun { job: &args.job, scheduled_at: args.scheduled_at, now: args.now };
    match runner.run_by_hand(asked, &stop).await? {
        HandRunEnd::UnknownJob => {
            bail!("there is no job {:?}; there are {}", args.job, names.join(", "))
        }
        HandRunEnd::AlreadyRun(run) => tell_existing(&run, args.json),
        HandRunEnd::Ran(report) => tell(&report, args.json),
    }
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (asked, mut signals) = (stop.clone(), StopSignals::catch()?);
    tokio::spawn(async move {
        signals.next().await;
        asked.cancel();
    });
    Ok(stop)
}

fn tell_existing(run: &JobRun, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let object = json!({ "outcome": "already_run", "run": run_json(run) });
        outln!("{}", serde_json::to_string_pretty(&object)?);
    } else {
        let (job, tick, status) = (&run.job, run.scheduled_at, run.status.as_str());
        outln!("{job} {tick}: nothing done, this tick has a run already ({status})");
    }
    Ok(())
}

fn tell(report: &RunReport, as_json: bool) -> anyhow::Result<()> {
    let outcome = report.outcome.as_str();
    let (summary, error, retry_at) = match &report.outcome {
        Outcome::Succeeded { summary } => (Some(summary), None, None),
        Outcome::Failed { error, retry_at } => (None, Some(error.as_str()), *retry_at),
        Outcome::GivenBack => (None, Some("stopped; a worker goes on with it"), None),
        Outcome::TakenOver => (None, Some("another worker has taken the run over"), None),
    };
    if as_json {
        let object = json!({
            "outcome": outcome,
            "job": report.job,
            "scheduled_at": report.scheduled_at,
            "attempt": report.attempt,
            "summary": summary,
            "error": error,
            "retry_at": retry_at,
        });
        outln!("{}", serde_json::to_string_pretty(&object)?);
    } else if let Some(summary) = summary {
        outln!("{} {}: {outcome}: {}", report.job, report.scheduled_at, summary_line(summary));
    }
    match error {
        None => Ok(()),
        Some(error) => {
            let again =
                retry_at.map(|at| format!(" (a worker tries again at {at})")).unwrap_or_default();
            bail!("{} {}: {error}{again}", report.job, report.scheduled_at)
        }
    }
}
