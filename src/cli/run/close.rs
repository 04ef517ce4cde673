//! `tollgate run close`.

use std::sync::Arc;

use anyhow::bail;
use serde_json::json;
use uuid::Uuid;

use crate::{
    cli::{
        counters::reach,
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
    },
    clock::Clock,
    domain::{cell_key::CellKey, ids::RunId},
    enforcement::{
        alive::{ago, alive_within, seems_alive},
        closing::{Closed, RunCloser},
        directory::{Directory, Source},
    },
    ledger::runs::{ClosedHow, Closing},
    store::{counters::Counters, keys::counter_name},
};

/// Close a run whose sidecar, or whose disk, is lost for good.
///
/// A sidecar that starts in the directory of a dead run closes it by itself; this is for one that
/// never will. Until it is closed, what it held counts as used, charges wait for its usage (an hour at
/// most), and a Redis that has lost its data grants nothing. A run that was heard of lately is refused:
/// closing it ends its sidecar. Should the run be alive all the same, it stops serving; should its
/// directory turn up again, its usage is flushed. One that is closed already is closed to the end, in
/// case that was cut off, as sidecars do by themselves in time. Either --forfeit or --release says what
/// becomes of what it held; once that is decided it stays so, and who asks for something else is refused.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The run's id, as `tollgate run list` shows it
    run: Uuid,
    /// What it held and may have spent stays counted against its limits, billed to nobody
    #[arg(long, conflicts_with = "release")]
    forfeit: bool,
    /// What it held becomes free again: limits can be exceeded by what it spent without a trace
    #[arg(long)]
    release: bool,
    /// Even if its sidecar seems to be alive: it takes nothing more, and ends
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Fails if a run was closed, and not so that what was asked for has become of what it held.
    fn check_how(&self, run: RunId, closing: Closing) -> anyhow::Result<()> {
        let asked = match (self.forfeit, self.release) {
            (true, _) => ClosedHow::Forfeited,
            (_, true) => ClosedHow::Released,
            _ => return Ok(()),
        };
        if closing.how != asked {
            bail!(
                "run {run} was closed before ({}, at {}), and stays so: nothing was {}; `tollgate run \
                 close {run}` without --forfeit and --release makes sure that all counters know",
                closing.how.as_str(),
                closing.at,
                asked.as_str()
            );
        }
        Ok(())
    }
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let run = RunId(args.run);
    let (ledger, settings) = args.ledger.open_with_settings().await?;
    let Some(known) = ledger.run(run).await? else {
        bail!("there is no run {run}; `tollgate run list` lists all that are open");
    };
    let alive_within = alive_within(settings.enforcement.flush_interval());
    if !args.force && seems_alive(&known, alive_within) {
        bail!(
            "run {run} on {} was heard of {} ago ({}): its sidecar seems to be alive, and closing \
             the run would end it; stop the sidecar, which closes its run by itself, or wait until \
             it has been silent for {alive_within:#}; --force closes the run all the same",
            known.host,
            ago(&known),
            known.heard_at
        );
    }
    if let Some(closing) = known.closing {
        args.check_how(run, closing)?;
        if ledger.folding(run).await?.is_folded {
            return tell_closed(args, run, closing, &[], "is closed already");
        }
    }
    let reached = reach(settings.redis, &ledger).await?;
    let directory = Arc::new(Directory::new(Source::Ledger(ledger.clone()), None));
    let closer = RunCloser {
        ledger: &ledger,
        counters: &reached.counters,
        epoch: reached.epoch,
        directory: &directory,
        clock: &Clock::System,
    };
    if let Some(closing) = known.closing {
        // What cut it off kept it from counters, which would wait for it for ever.
        let damaged = closer.close(run, closing.how, None, None).await?.damaged;
        let what = "was closed before; its counters have been told now";
        return tell_closed(args, run, closing, &damaged, what);
    }
    if !args.forfeit && !args.release {
        let held = held(&reached.counters, run).await?;
        bail!(
            "run {run} holds {held}, and may have spent them without a trace; say what becomes of \
             them: --forfeit keeps them counted against their limits, billed to nobody; --release \
             makes them free again, so that limits can be exceeded by what was spent"
        );
    }
    closer.find_touched(run).await?;
    let held = closer.fence(run).await?;
    let units: u64 = held.iter().map(|(_, units)| units).sum();
    let (how, what) = match args.forfeit {
        true => (ClosedHow::Forfeited, "forfeited"),
        false => (ClosedHow::Released, "released"),
    };
    let forfeits = args.forfeit.then_some(&held[..]);
    let actor = args.author.actor();
    let author = Some(args.author.author(&actor));
    let Closed { closing, damaged } = closer.close(run, how, forfeits, author).await?;
    // Somebody else may have been faster.
    args.check_how(run, closing)?;
    match args.json {
        true => tell_json(run, closing, false, &held, &damaged)?,
        false => {
            outln!("run {run} is closed; {what} {units} units that it held and may have spent");
            tell_damaged(&damaged);
        }
    }
    Ok(())
}

/// What a run holds now, in words; nothing is changed.
async fn held(counters: &Counters, run: RunId) -> anyhow::Result<String> {
    let mut units: u64 = 0;
    let keys = counters.keys_of_run(run).await?;
    for key in &keys {
        let seen = match counters.inspect(key).await {
            Err(error) if error.is_about_content() => {
                let name = counter_name(key);
                bail!(
                    "what the run holds cannot be told, since {name} in Redis is no counter \
                     ({error}); --forfeit keeps all that is free there counted against the limit, \
                     --release nothing of it"
                );
            }
            seen => seen?,
        };
        let entry = seen.and_then(|seen| seen.runs.into_iter().find(|entry| entry.run == run));
        units = units.saturating_add(entry.map_or(0, |entry| entry.outstanding()));
    }
    Ok(format!("{units} units of {} shared counters", keys.len()))
}

/// Tells of a run that somebody had closed before.
fn tell_closed(
    args: &Args,
    run: RunId,
    closing: Closing,
    damaged: &[CellKey],
    what: &str,
) -> anyhow::Result<()> {
    if args.json {
        return tell_json(run, closing, true, &[], damaged);
    }
    outln!("run {run} {what} ({}, at {})", closing.how.as_str(), closing.at);
    tell_damaged(damaged);
    Ok(())
}

fn tell_damaged(damaged: &[CellKey]) {
    if damaged.is_empty() {
        return;
    }
    let names: Vec<_> = damaged.iter().map(counter_name).collect();
    outln!(
        "these in Redis are no counters and could not be told; DEL them and tg:life, which begins a \
         new epoch, in which they are rebuilt: {}",
        names.join(" ")
    );
}

fn tell_json(
    run: RunId,
    closing: Closing,
    was_closed: bool,
    held: &[(CellKey, u64)],
    damaged: &[CellKey],
) -> anyhow::Result<()> {
    let row = |(key, units): &(CellKey, u64)| {
        json!({
            "tenant": key.tenant, "meter": key.meter, "subject": key.subject,
            "window": key.label.to_string(), "units": units,
        })
    };
    let told = json!({
        "run": run.to_string(),
        "closed_at": closing.at,
        "closed_how": closing.how.as_str(),
        "was_closed_before": was_closed,
        "held": held.iter().map(row).collect::<Vec<_>>(),
        "damaged": damaged.iter().map(counter_name).collect::<Vec<_>>(),
    });
    outln!("{}", serde_json::to_string_pretty(&told)?);
    Ok(())
}
