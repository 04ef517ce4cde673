//! `tollgate run list`.

use serde_json::{Value, json};

use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
        values::count,
    },
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
    let ledger = args.ledger.open().await?;
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
        let objects: Vec<Value> = runs.iter().map(object).collect();
        outln!("{}", serde_json::to_string_pretty(&objects)?);
    } else {
        let head = ["run", "host", "started", "flushed through", "closed", "how"];
        out!("{}", table(&head, &runs.iter().map(row).collect::<Vec<_>>()));
    }
    Ok(())
}

fn object(run: &Run) -> Value {
    json!({
        "run": run.run.to_string(),
        "host": run.host,
        "started_at": run.started_at,
        "flushed_through": run.mark_at,
        "closed_at": run.closing.map(|closing| closing.at),
        "closed_how": run.closing.map(|closing| closing.how.as_str()),
    })
}

fn row(run: &Run) -> Vec<String> {
    let closing = run.closing.as_ref();
    vec![
        run.run.to_string(),
        run.host.clone(),
        run.started_at.to_string(),
        run.mark_at.to_string(),
        closing.map_or_else(|| "open".to_owned(), |closing| closing.at.to_string()),
        closing.map_or_else(String::new, |closing| closing.how.as_str().to_owned()),
    ]
}
