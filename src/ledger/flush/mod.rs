//! The flush: a stretch of one run's journal becomes part of the ledger, once.
//!
//! One transaction moves the run's high-water mark by compare-and-set and adds all that lies
//! between, so a flush that is sent again (its answer was lost) finds the mark moved and changes
//! nothing. Events with an idempotency key are counted by whoever claims the key first. What
//! cannot be counted for its content goes to the quarantine and blocks nothing else; the fast way
//! takes the whole batch at once, and only when Postgres refuses it, halves are tried until the
//! culprits are alone. The parts of an operation share one key and one fate.

pub mod batch;
mod distinct;
mod keys;
mod lowering;
pub mod movement;
mod pool_usage;
mod quarantine;
pub mod slot;
pub mod sums;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

pub use self::{batch::FlushBatch, quarantine::QuarantineReason};
use self::{
    batch::{FlushedEvent, UnkeyedSum},
    keys::{KeyedFate, claim_keys},
    quarantine::{Quarantined, write_quarantine},
    slot::Slot,
    sums::{Sum, Sums},
    write::{write_events, write_opened, write_sums},
};
use super::{
    error::LedgerError,
    floors::FlushedTotals,
    partition::{self, Partition, is_in_range},
    pool::Ledger,
    runs::{RunStanding, position_column},
};
use crate::domain::{
    cell_key::CellKey,
    ids::{RunId, TenantId},
};

/// How often a flush makes its partitions anew, when they are dropped under its hands.
const PARTITION_ATTEMPTS_MAX: u32 = 3;

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    /// It is in the ledger, and the mark at its end.
    Flushed(Flushed),
    /// Nothing was changed, because the run's mark does not stand at the batch's start. Standing
    /// at its end, it says that an earlier try succeeded; `Ledger::run_totals` then has what was
    /// undone.
    NotHere(RunStanding),
}

/// What a flush did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Events that count.
    pub counted: u64,
    /// Events whose key had been used for the same content.
    pub duplicates: u64,
    /// Events that went to the quarantine.
    pub quarantined: u64,
    /// The run's totals, as flushed up to now, of each counter where this batch undid something.
    pub undone: Vec<(CellKey, FlushedTotals)>,
}

/// How much is risked at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// All of the batch; a refusal fails the transaction.
    Whole,
    /// Within savepoints, by halves; a refusal costs one event.
    Isolating,
}

/// What is counted or refused as one.
#[derive(Clone, Copy)]
enum Item<'a> {
    /// What one use of a key stands for: an event, or all parts of an operation.
    Keyed(&'a [FlushedEvent]),
    Unkeyed(&'a Slot, &'a UnkeyedSum),
}

impl<'a> Item<'a> {
    fn tenant(self) -> &'a TenantId {
        match self {
            // There is no item of no events.
            Self::Keyed(events) => &events[0].event.key.tenant,
            Self::Unkeyed(slot, _) => &slot.key.tenant,
        }
    }

    /// When it was, to the hour.
    fn starts(self) -> impl Iterator<Item = Timestamp> + use<'a> {
        let (events, slot) = match self {
            Self::Keyed(events) => (events, None),
            Self::Unkeyed(slot, _) => (&[][..], Some(slot)),
        };
        let of_event = |flushed: &FlushedEvent| Slot::of(&flushed.event).start;
        events.iter().map(of_event).chain(slot.map(|slot| slot.start))
    }

    fn keeps_raw_events(self) -> bool {
        match self {
            Self::Keyed(events) => events.iter().any(|one| one.event.event_retention_days > 0),
            Self::Unkeyed(_, unkeyed) => !unkeyed.raw.is_empty(),
        }
    }

    /// Undoes what the run counted for it.
    fn take_back(self, sums: &mut Sums) {
        match self {
            Self::Keyed(events) => {
                for FlushedEvent { event, .. } in events {
                    sums.take_back(&event.key, &Sum::of(event));
                }
            }
            Self::Unkeyed(slot, unkeyed) => sums.take_back(&slot.key, &unkeyed.sum),
        }
    }

    fn quarantine(self, reason: QuarantineReason, problem: &str, into: &mut Vec<Quarantined>) {
        match self {
            Self::Keyed(events) => {
                into.extend(events.iter().map(|event| Quarantined::event(event, reason, problem)))
            }
            Self::Unkeyed(slot, sum) => into.push(Quarantined::sum(slot, sum, reason, problem)),
        }
    }
}

/// What a part of a batch came to.
#[derive(Default)]
struct Part {
    flushed: Flushed,
    quarantined: Vec<Quarantined>,
}

impl Ledger {
    /// Adds `batch` to the ledger, unless it is there.
    pub async fn flush(&self, batch: &FlushBatch) -> Result<FlushOutcome, LedgerError> {
        let mut care = Care::Whole;
        let mut partition_attempts = 1;
        loop {
            self.ensure_partitions_for(batch).await?;
            let name = match care {
                Care::Whole => "flush",
                Care::Isolating => "flush_isolating",
            };
            match self
                .run_tx(name, |tx| {
                    Box::pin(async move { apply(tx.connection(), batch, care).await })
                })
                .await
            {
                Err(error) if care == Care::Whole && error.is_about_content() => {
                    tracing::warn!(%error, run = %batch.run, "isolating what cannot be counted");
                    care = Care::Isolating;
                }
                Err(error)
                    if error.is_missing_partition()
                        && partition_attempts < PARTITION_ATTEMPTS_MAX =>
                {
                    self.partitions.forget();
                    partition_attempts += 1;
                }
                Ok((outcome, quarantined)) => {
                    count_events(&outcome, &quarantined);
                    return Ok(outcome);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Notes that `run` touches these counters, as its flushes do: whoever closes it finds them.
    pub async fn note_touched(
        &self,
        run: RunId,
        keys: &BTreeSet<CellKey>,
    ) -> Result<(), LedgerError> {
        self.run_tx("note_touched", |tx| {
            Box::pin(async move { write_opened(tx.connection(), run, keys).await })
        })
        .await
    }

    async fn ensure_partitions_for(&self, batch: &FlushBatch) -> Result<(), LedgerError> {
        let mut wanted = BTreeSet::new();
        let mut has_raw = false;
        for item in items(batch) {
            for start in item.starts().filter(|start| is_in_range(*start)) {
                wanted.insert(Partition::hourly(start));
                wanted.insert(Partition::daily(start));
            }
            has_raw |= item.keeps_raw_events();
        }
        self.ensure_partitions(wanted).await?;
        if has_raw {
            self.ensure_event_partitions().await?;
        }
        Ok(())
    }
}

fn items(batch: &FlushBatch) -> impl Iterator<Item = Item<'_>> {
    let keyed = batch.keyed.chunk_by(FlushedEvent::is_of_same_operation).map(Item::Keyed);
    keyed.chain(batch.unkeyed.iter().map(|(slot, unkeyed)| Item::Unkeyed(slot, unkeyed)))
}

/// The transaction's body: moves the mark, then counts what lies between.
async fn apply(
    tx: &mut PgConnection,
    batch: &FlushBatch,
    care: Care,
) -> Result<(FlushOutcome, Vec<Quarantined>), LedgerError> {
    if let Some(standing) = move_mark(tx, batch).await? {
        return Ok((FlushOutcome::NotHere(standing), Vec::new()));
    }
    write_opened(tx, batch.run, &batch.opened).await?;
    let (fit, mut part) = sort_out(tx, batch).await?;
    match care {
        Care::Whole => merge(&mut part, count(tx, batch, &fit).await?),
        Care::Isolating => count_isolating(tx, batch, &fit, &mut part).await?,
    }
    write_quarantine(tx, batch.run, &part.quarantined).await?;
    Ok((FlushOutcome::Flushed(part.flushed), part.quarantined))
}

/// Moves the mark from the batch's start to its end; answers where it stands if not at the start.
async fn move_mark(
    tx: &mut PgConnection,
    batch: &FlushBatch,
) -> Result<Option<RunStanding>, LedgerError> {
    let moved = sqlx::query!(
        "UPDATE runs SET flushed_position = $3, heard_at = now(),
             mark_at = CASE WHEN $4::timestamptz IS NULL THEN mark_at
                 ELSE greatest(mark_at, least($4, now())) END
         WHERE run = $1 AND flushed_position = $2 AND closed_at IS NULL",
        batch.run.0,
        position_column(batch.from)?,
        position_column(batch.to)?,
        batch.through.map(ToSqlx::to_sqlx) as _
    )
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() == 1 {
        return Ok(None);
    }
    Ok(Some(super::runs::standing_of(tx, batch.run).await?))
}

/// Parts what can be tried from what cannot be counted whatever Postgres says.
async fn sort_out<'a>(
    tx: &mut PgConnection,
    batch: &'a FlushBatch,
) -> Result<(Vec<Item<'a>>, Part), LedgerError> {
    let asked: BTreeSet<&str> = items(batch).map(|item| item.tenant().as_str()).collect();
    let asked: Vec<String> = asked.into_iter().map(str::to_owned).collect();
    let rows = sqlx::query!("SELECT tenant FROM tenants WHERE tenant = ANY($1)", &asked)
        .fetch_all(&mut *tx)
        .await?;
    let known: BTreeSet<String> = rows.into_iter().map(|row| row.tenant).collect();

    let mut fit = Vec::new();
    let mut unfit = Vec::new();
    for item in items(batch) {
        if !known.contains(item.tenant().as_str()) {
            let problem = format!("there is no tenant {:?}", item.tenant().as_str());
            unfit.push((item, QuarantineReason::UnknownTenant, problem));
        } else if !item.starts().all(is_in_range) {
            let problem = format!(
                "its time is not between {} and {}",
                partition::TIME_MIN,
                partition::TIME_END
            );
            unfit.push((item, QuarantineReason::OutOfRange, problem));
        } else {
            fit.push(item);
        }
    }
    Ok((fit, take_back(tx, batch, unfit).await?))
}

/// Quarantines items, and undoes what the run counted for them.
async fn take_back(
    tx: &mut PgConnection,
    batch: &FlushBatch,
    unfit: Vec<(Item<'_>, QuarantineReason, String)>,
) -> Result<Part, LedgerError> {
    let mut sums = Sums::default();
    let mut part = Part::default();
    if unfit.is_empty() {
        return Ok(part);
    }
    for (item, reason, problem) in unfit {
        item.take_back(&mut sums);
        item.quarantine(reason, &problem, &mut part.quarantined);
    }
    part.flushed.quarantined = part.quarantined.iter().map(|entry| entry.events).sum();
    sqlx::query!("SAVEPOINT back").execute(&mut *tx).await?;
    match write_sums(tx, batch.run, &sums).await {
        Ok(undone) => {
            sqlx::query!("RELEASE SAVEPOINT back").execute(&mut *tx).await?;
            part.flushed.undone = undone;
        }
        // Totals past 64 bits are far past what the shared counters can count; they must not keep
        // the rest from being flushed.
        Err(error) if error.is_about_content() => {
            sqlx::query!("ROLLBACK TO SAVEPOINT back").execute(&mut *tx).await?;
            tracing::error!(%error, run = %batch.run, "quarantined without being undone");
        }
        Err(error) => return Err(error),
    }
    Ok(part)
}

/// Counts `fit`, by halves where Postgres refuses, until each culprit is alone.
async fn count_isolating(
    tx: &mut PgConnection,
    batch: &FlushBatch,
    fit: &[Item<'_>],
    part: &mut Part,
) -> Result<(), LedgerError> {
    let mut stack = vec![fit];
    while let Some(items) = stack.pop() {
        sqlx::query!("SAVEPOINT part").execute(&mut *tx).await?;
        match count(tx, batch, items).await {
            Ok(counted) => {
                sqlx::query!("RELEASE SAVEPOINT part").execute(&mut *tx).await?;
                merge(part, counted);
            }
            Err(error) if error.is_about_content() => {
                sqlx::query!("ROLLBACK TO SAVEPOINT part").execute(&mut *tx).await?;
                if let [culprit] = items {
                    let (reason, problem) = blame(&error);
                    let back = take_back(tx, batch, vec![(*culprit, reason, problem)]).await?;
                    merge(part, back);
                } else {
                    let (earlier, later) = items.split_at(items.len() / 2);
                    stack.push(later);
                    stack.push(earlier);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn blame(error: &LedgerError) -> (QuarantineReason, String) {
    let is_too_large = matches!(error, LedgerError::TooLarge { .. })
        || error.sqlstate().as_deref() == Some("22003"); // numeric_value_out_of_range
    let reason =
        if is_too_large { QuarantineReason::OutOfRange } else { QuarantineReason::Refused };
    (reason, error.to_string())
}

/// Counts `fit` in whole.
async fn count(
    tx: &mut PgConnection,
    batch: &FlushBatch,
    fit: &[Item<'_>],
) -> Result<Part, LedgerError> {
    let mut part = Part::default();
    let mut sums = Sums::default();
    let mut raw: Vec<&FlushedEvent> = Vec::new();
    let mut keyed: Vec<&[FlushedEvent]> = Vec::new();
    for item in fit {
        match item {
            Item::Keyed(events) => keyed.push(events),
            Item::Unkeyed(slot, unkeyed) => {
                part.flushed.counted += unkeyed.sum.tally.events;
                sums.count(slot, &unkeyed.sum);
                raw.extend(&unkeyed.raw);
            }
        }
    }
    for (events, fate) in keyed.iter().zip(claim_keys(tx, batch.run, &keyed).await?) {
        let count = events.len() as u64;
        match fate {
            KeyedFate::First => {
                part.flushed.counted += count;
                for flushed in *events {
                    let event = &flushed.event;
                    sums.count(&Slot::of(event), &Sum::of(event));
                    if event.event_retention_days > 0 {
                        raw.push(flushed);
                    }
                }
            }
            KeyedFate::Duplicate => {
                part.flushed.duplicates += count;
                Item::Keyed(events).take_back(&mut sums);
            }
            KeyedFate::Conflict(problem) => {
                part.flushed.quarantined += count;
                let (item, reason) = (Item::Keyed(events), QuarantineReason::KeyConflict);
                item.take_back(&mut sums);
                item.quarantine(reason, &problem, &mut part.quarantined);
            }
        }
    }
    write_events(tx, batch.run, &raw).await?;
    lowering::share_out(tx, &mut sums).await?;
    part.flushed.undone = write_sums(tx, batch.run, &sums).await?;
    Ok(part)
}

/// Adds `later` to `part`; totals only grow, so the later ones hold.
fn merge(part: &mut Part, later: Part) {
    part.flushed.counted += later.flushed.counted;
    part.flushed.duplicates += later.flushed.duplicates;
    part.flushed.quarantined += later.flushed.quarantined;
    let mut undone: BTreeMap<_, _> = part.flushed.undone.drain(..).collect();
    undone.extend(later.flushed.undone);
    part.flushed.undone = undone.into_iter().collect();
    part.quarantined.extend(later.quarantined);
}

fn count_events(outcome: &FlushOutcome, quarantined: &[Quarantined]) {
    let FlushOutcome::Flushed(flushed) = outcome else { return };
    let name = "tollgate_ledger_events_total";
    metrics::counter!(name, "fate" => "counted").increment(flushed.counted);
    metrics::counter!(name, "fate" => "duplicate").increment(flushed.duplicates);
    for entry in quarantined {
        let reason = entry.reason().as_str();
        metrics::counter!("tollgate_ledger_quarantined_total", "reason" => reason)
            .increment(entry.events);
    }
}
