//! `tollgate job list`.

use serde_json::json;

use super::shown::run_json;
use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
    },
    clock::Clock,
    jobs::registry,
    ledger::job_runs::JobRun,
};

/// What can be asked for.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (ledger, settings) = args.ledger.open_with_settings().await?;
    let now = Clock::System.now();
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    for job in registry::jobs(&ledger, &settings.jobs)? {
        let next = job.schedule.next_tick(now);
        let last = ledger.job_history(Some(job.name), 1).await?.pop();
        objects.push(json!({
            "job": job.name,
            "does": job.does,
            "schedule": job.schedule.to_string(),
            "zone": job.schedule.zone_name(),
            "next_at": next,
            "last_run": last.as_ref().map(run_json),
        }));
        rows.push(vec![
            job.name.to_owned(),
            job.schedule.to_string(),
            job.schedule.zone_name().to_owned(),
            next.map(|at| at.to_string()).unwrap_or_default(),
            last.as_ref().map(last_line).unwrap_or_else(|| "never run".to_owned()),
            job.does.to_owned(),
        ]);
    }
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&objects)?);
    } else {
        out!("{}", table(&["job", "schedule", "zone", "next", "last run", "does"], &rows));
    }
    Ok(())
}

fn last_line(run: &JobRun) -> String {
    format!("{} {}", run.status.as_str(), run.scheduled_at)
}
