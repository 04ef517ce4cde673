//! `tollgate run list`.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
        values::count,
    },
    enforcement::alive::{ago, alive_within, seems_alive},
    ledger::runs::Run,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Closed ones, too
    #[arg(long)]
    all: bool,
    /// Most runs to show, the latest first
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = count)]
    limit: u32,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let (ledger, settings) = args.ledger.open_with_settings().await?;
    let alive_within = alive_within(settings.enforcement.flush_interval());
    let runs = match args.all {
        true => ledger.latest_runs(args.limit).await?,
        false => {
            let mut open = ledger.open_runs().await?;
            open.sort_by_key(|run| std::cmp::Reverse(run.started_at));
            open.truncate(args.limit as usize);
            open
        }
    };
    if args.json {
        let objects: Vec<Value> = runs.iter().map(|run| object(run, alive_within)).collect();
        outln!("{}", serde_json::to_string_pretty(&objects)?);
    } else {
        let head = ["run", "host", "started", "flushed through", "heard of", "closed", "how"];
        let rows: Vec<_> = runs.iter().map(|run| row(run, alive_within)).collect();
        out!("{}", table(&head, &rows));
    }
    Ok(())
}

fn object(run: &Run, alive_within: SignedDuration) -> Value {
    json!({
        "run": run.run.to_string(),
        "host": run.host,
        "started_at": run.started_at,
        "flushed_through": run.mark_at,
        "heard_at": run.heard_at,
        "seems_alive": seems_alive(run, alive_within),
        "closed_at": run.closing.map(|closing| closing.at),
        "closed_how": run.closing.map(|closing| closing.how.as_str()),
    })
}

fn row(run: &Run, alive_within: SignedDuration) -> Vec<String> {
    let closing = run.closing.as_ref();
    let open = if seems_alive(run, alive_within) { "open, alive" } else { "open, silent" };
    vec![
        run.run.to_string(),
        run.host.clone(),
        run.started_at.to_string(),
        run.mark_at.to_string(),
        format!("{} ago", ago(run)),
        closing.map_or_else(|| open.to_owned(), |closing| closing.at.to_string()),
        closing.map_or_else(String::new, |closing| closing.how.as_str().to_owned()),
    ]
}
