//! `tollgate job history`.

use anyhow::bail;
use serde_json::Value;

use super::shown::{run_json, summary_line};
use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
        values::count,
    },
    jobs::registry,
    ledger::job_runs::JobRun,
};

/// What can be asked for.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Only runs of this job
    job: Option<String>,
    /// Most runs to show, the latest first
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = count)]
    limit: u32,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (ledger, settings) = args.ledger.open_with_settings().await?;
    let runs = ledger.job_history(args.job.as_deref(), args.limit).await?;
    // A job of another version may have a history here.
    if let (Some(job), true) = (&args.job, runs.is_empty()) {
        let jobs = registry::jobs(&ledger, &settings.jobs)?;
        let names: Vec<_> = jobs.iter().map(|job| job.name).collect();
        if !names.contains(&job.as_str()) {
            bail!("there is no job {job:?}; there are {}", names.join(", "));
        }
    }
    if args.json {
        let objects: Vec<Value> = runs.iter().map(run_json).collect();
        outln!("{}", serde_json::to_string_pretty(&objects)?);
    } else {
        let rows: Vec<_> = runs.iter().map(row).collect();
        let head = ["job", "scheduled", "by", "status", "attempt", "finished", "result"];
        out!("{}", table(&head, &rows));
    }
    Ok(())
}

fn row(run: &JobRun) -> Vec<String> {
    let result = match (&run.summary, &run.error) {
        (Some(summary), _) => summary_line(summary),
        (None, Some(error)) => error.clone(),
        (None, None) => format!("on {}", run.worker),
    };
    vec![
        run.job.clone(),
        run.scheduled_at.to_string(),
        run.started_by.as_str().to_owned(),
        run.status.as_str().to_owned(),
        run.attempt.to_string(),
        run.finished_at.map(|at| at.to_string()).unwrap_or_default(),
        result,
    ]
}
