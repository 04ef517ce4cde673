//! `tollgate trace`: one event's way from the journal to the charge.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::json;

use super::{
    ledger_args::LedgerArgs,
    print::{out, outln},
    table::table,
    values::no_tenant,
};
use crate::{
    clock::Clock,
    domain::ids::{IdempotencyKey, RunId, TenantId},
    http::cloud_events::idempotency_key,
    journal::position::Position,
    reconcile::trace::{Asked, Trace, Tracer},
};

/// Show one event's way: journal, flush, totals and rollups, charge
///
/// An event is named by the idempotency key that it was sent under and its tenant; a CloudEvent by
/// its id, its source and its tenant (subject). Any event is named by its place in a journal, as
/// reports name it: RUN@SEGMENT:OFFSET, where its record ends.
///
/// Events without a key are added up and have no row of their own, unless their meter keeps raw
/// events. Where something is not known, it says why. It exits with 1 when it is not known that there
/// is such an event.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// The event's idempotency key, a CloudEvent's id, or RUN@SEGMENT:OFFSET
    #[arg(value_name = "EVENT_ID", required_unless_present = "key")]
    event: Option<String>,
    /// The event's idempotency key, whatever it looks like
    #[arg(long, conflicts_with_all = ["event", "source"])]
    key: Option<String>,
    /// Whose event it is
    #[arg(long)]
    tenant: Option<TenantId>,
    /// The source of a CloudEvent
    #[arg(long, requires = "event")]
    source: Option<String>,
    /// A sidecar's data directory (journal.data_dir) to look into, read-only; may be given several
    /// times. The sidecar may be running
    #[arg(long = "journal", value_name = "DIR")]
    journals: Vec<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// Prints the way.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let asked = asked(&args)?;
    let ledger = args.ledger.open().await?;
    if let Asked::Keyed { tenant, .. } = &asked
        && ledger.tenant(tenant).await?.is_none()
    {
        return Err(no_tenant(tenant).into());
    }
    let now = Clock::System.now();
    let tracer = Tracer { ledger: &ledger, journals: &args.journals, now };
    let Trace { steps, unknown } = tracer.follow(&asked).await?;
    if args.json {
        let trace = json!({ "known": unknown.is_none(), "steps": steps });
        outln!("{}", serde_json::to_string_pretty(&trace)?);
    } else {
        let rows: Vec<_> =
            steps.into_iter().map(|step| vec![step.stage.to_owned(), step.says]).collect();
        out!("{}", table(&["stage", "what is known"], &rows));
    }
    match unknown {
        Some(why) => bail!(why),
        None => Ok(()),
    }
}

fn asked(args: &Args) -> anyhow::Result<Asked> {
    let text = args.key.as_deref().or(args.event.as_deref()).unwrap_or_default();
    if args.key.is_none()
        && args.source.is_none()
        && let Some(place) = place(text)
    {
        let (run, position) = place;
        return Ok(Asked::Record { run, position });
    }
    let Some(tenant) = args.tenant.clone() else {
        bail!("--tenant: is missing; a key is a tenant's own, so give whose it is");
    };
    let key = match &args.source {
        Some(source) => idempotency_key(source, text),
        None => text.to_owned(),
    };
    Ok(Asked::Keyed { tenant, key: IdempotencyKey::new(&key).context("the key")? })
}

/// `RUN@SEGMENT:OFFSET`.
fn place(text: &str) -> Option<(RunId, Position)> {
    let (run, position) = text.split_once('@')?;
    let (segment, offset) = position.split_once(':')?;
    let position = Position { segment: segment.parse().ok()?, offset: offset.parse().ok()? };
    Some((run.parse().ok()?, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_journal_is_told_from_a_key() {
        let run = "3f13295c73a142d68f8b0460a323392a";
        let (of, position) = place(&format!("{run}@1:4242")).unwrap();
        assert_eq!((of.to_string().as_str(), position.to_string().as_str()), (run, "1:4242"));
        for key in ["order-1", "ann@example.com:80", "a@1:2"] {
            assert_eq!(place(key), None, "{key}");
        }
    }
}
