//! Runs: every start of every sidecar, its high-water mark, and its closing.

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

use super::{
    cell_rows::{CellColumns, CellRow, read_column, read_unsigned},
    changes::Author,
    closing_audit::audit_closing,
    epochs::{check_epoch, lock_recovery},
    error::LedgerError,
    pool::Ledger,
};
use crate::domain::{cell_key::CellKey, ids::RunId};

/// What a sidecar says about itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    pub run: RunId,
    /// Name of the host.
    pub host: String,
    /// Boot id of the host.
    pub boot_id: String,
    /// Real time.
    pub started_at: Timestamp,
    /// Real time through which all its usage is in the ledger: its start, or long ago where another
    /// one registers it, whose own start says nothing of its usage.
    pub mark_at: Timestamp,
    /// Where its mark begins: 0, unless another run has already flushed what lies before.
    pub flushed_position: u64,
}

/// A run as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub run: RunId,
    pub host: String,
    pub boot_id: String,
    pub started_at: Timestamp,
    /// High-water mark: everything before this journal position is in the ledger.
    pub flushed_position: u64,
    /// Real time through which everything it acknowledged is in the ledger: by its own clock, but
    /// never later than by Postgres', so that a clock that is ahead closes no period early.
    pub mark_at: Timestamp,
    /// Postgres' time at which it last registered, flushed, or said that it is there.
    pub heard_at: Timestamp,
    /// How long that was ago when the ledger was asked.
    pub silent_for: SignedDuration,
    pub closing: Option<Closing>,
}

/// The end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Real time.
    pub at: Timestamp,
    /// Grows from closing to closing, in the order in which they commit.
    pub seq: u64,
    pub how: ClosedHow,
}

/// Who closed a run, and what became of its escrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedHow {
    /// It stopped by itself and returned what it had.
    Stopped,
    /// Its successor settled it from its journal.
    Recovered,
    /// An operator closed it; its escrow counts as spent.
    Forfeited,
    /// An operator closed it and made its escrow spendable again.
    Released,
}

impl ClosedHow {
    /// As the ledger and the tools name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Recovered => "recovered",
            Self::Forfeited => "forfeited",
            Self::Released => "released",
        }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        Ok(match text {
            "stopped" => Self::Stopped,
            "recovered" => Self::Recovered,
            "forfeited" => Self::Forfeited,
            "released" => Self::Released,
            _ => return Err("not a way to close a run"),
        })
    }
}

/// Where a run's high-water mark stands, for a caller that expected it somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStanding {
    /// Open, with its mark at this position.
    Open { flushed_position: u64 },
    /// Closed: nothing of it is taken any more.
    Closed { seq: u64, flushed_position: u64 },
    /// Never registered.
    Unknown,
}

/// What of a run's escrow counts as spent although no event accounts for it.
#[derive(Clone, Copy, Debug)]
pub struct Forfeits<'a> {
    /// Units per counter.
    pub units: &'a [(CellKey, u64)],
    /// The epoch in which its calls were refused from then on, and this was found out. `None`: nobody
    /// asked the counters, since the run has nothing that nobody knows of, or they are one process' own.
    pub epoch: Option<u64>,
}

impl Forfeits<'_> {
    pub const NONE: Self = Self { units: &[], epoch: None };
}

impl Ledger {
    /// Registers a run. It must be registered before its first call to the shared counters, since
    /// their recovery waits for the registered runs only. Registering again changes nothing.
    pub async fn register_run(&self, new: &NewRun) -> Result<(), LedgerError> {
        self.run_tx("register_run", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                let inserted = sqlx::query!(
                    "INSERT INTO runs
                     (run, host, boot_id, started_at, mark_at, flushed_position, heard_at)
                 VALUES ($1, $2, $3, $4, least($6, now()), $5, now())
                 ON CONFLICT (run) DO NOTHING",
                    new.run.0,
                    new.host,
                    new.boot_id,
                    new.started_at.to_sqlx() as _,
                    position_column(new.flushed_position)?,
                    new.mark_at.to_sqlx() as _
                )
                .execute(&mut *tx)
                .await?;
                if inserted.rows_affected() == 1 {
                    // A new run holds nothing that an earlier Redis granted: it has nothing to report.
                    sqlx::query!(
                        "INSERT INTO epoch_reports (epoch, run)
                     SELECT max(epoch), $1 FROM epochs HAVING max(epoch) IS NOT NULL",
                        new.run.0
                    )
                    .execute(&mut *tx)
                    .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Says that all that `run` acknowledged until `through` (real time) lies before its mark at
    /// `position`: what keeps billing from waiting for an idle sidecar. Nothing is changed unless
    /// the run is open and its mark stands there; the answer tells where it stands.
    pub async fn mark_run(
        &self,
        run: RunId,
        position: u64,
        through: Timestamp,
    ) -> Result<RunStanding, LedgerError> {
        let marked = sqlx::query!(
            "UPDATE runs SET mark_at = greatest(mark_at, least($3, now())), heard_at = now()
             WHERE run = $1 AND flushed_position = $2 AND closed_at IS NULL",
            run.0,
            position_column(position)?,
            through.to_sqlx() as _
        )
        .execute(self.query("mark_run"))
        .await?;
        if marked.rows_affected() == 1 {
            return Ok(RunStanding::Open { flushed_position: position });
        }
        self.run_standing(run).await
    }

    /// Where the mark of `run` stands.
    pub async fn run_standing(&self, run: RunId) -> Result<RunStanding, LedgerError> {
        standing_of(&mut *self.pool.acquire().await?, run).await
    }

    /// The run with this id.
    pub async fn run(&self, run: RunId) -> Result<Option<Run>, LedgerError> {
        let row = sqlx::query_as!(
            RunRow,
            r#"SELECT run, host, boot_id, started_at, flushed_position, mark_at, closed_at,
                    closed_seq, closed_how, greatest(heard_at, mark_at) AS "heard_at!", now() AS "asked_at!"
             FROM runs WHERE run = $1"#,
            run.0
        )
        .fetch_optional(self.query("run"))
        .await?;
        row.map(RunRow::into_run).transpose()
    }

    /// All open runs, oldest mark first.
    pub async fn open_runs(&self) -> Result<Vec<Run>, LedgerError> {
        let rows = sqlx::query_as!(
            RunRow,
            r#"SELECT run, host, boot_id, started_at, flushed_position, mark_at, closed_at,
                    closed_seq, closed_how, greatest(heard_at, mark_at) AS "heard_at!", now() AS "asked_at!"
             FROM runs WHERE closed_at IS NULL ORDER BY mark_at, run"#
        )
        .fetch_all(self.query("open_runs"))
        .await?;
        rows.into_iter().map(RunRow::into_run).collect()
    }

    /// The latest started runs, open or not, newest first.
    pub async fn latest_runs(&self, count_max: u32) -> Result<Vec<Run>, LedgerError> {
        let rows = sqlx::query_as!(
            RunRow,
            r#"SELECT run, host, boot_id, started_at, flushed_position, mark_at, closed_at,
                    closed_seq, closed_how, greatest(heard_at, mark_at) AS "heard_at!", now() AS "asked_at!"
             FROM runs ORDER BY started_at DESC, run LIMIT $1"#,
            i64::from(count_max)
        )
        .fetch_all(self.query("latest_runs"))
        .await?;
        rows.into_iter().map(RunRow::into_run).collect()
    }

    /// The oldest mark of the open runs: everything acknowledged before it is in the ledger. `None`
    /// without open runs.
    pub async fn oldest_open_mark(&self) -> Result<Option<Timestamp>, LedgerError> {
        let row = sqlx::query!("SELECT min(mark_at) AS oldest FROM runs WHERE closed_at IS NULL")
            .fetch_one(self.query("oldest_open_mark"))
            .await?;
        Ok(row.oldest.map(|oldest| oldest.to_jiff()))
    }

    /// Closes a run after everything in its journal has been flushed: nothing of it is taken any
    /// more, and its totals become part of the base of every floor. `author` is who closes it, for
    /// the audit log; a run that returns what it had leaves no entry. Closing a closed run again
    /// changes nothing and gives the same answer.
    ///
    /// # Errors
    ///
    /// [`LedgerError::EpochOver`] if what is forfeited was found out in an epoch that is not in force
    /// any more: in the next one the run may have been granted more.
    pub async fn close_run(
        &self,
        run: RunId,
        how: ClosedHow,
        forfeits: Forfeits<'_>,
        author: Option<Author<'_>>,
    ) -> Result<Closing, LedgerError> {
        self.run_tx("close_run", |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                // Before the run's row, as everybody takes them.
                lock_recovery(tx).await?;
                wait_briefly(tx).await?;
                let row = sqlx::query_as!(
                    RunRow,
                    r#"SELECT run, host, boot_id, started_at, flushed_position, mark_at, closed_at,
                        closed_seq, closed_how, greatest(heard_at, mark_at) AS "heard_at!", now() AS "asked_at!"
                 FROM runs WHERE run = $1 FOR UPDATE"#,
                    run.0
                )
                .fetch_optional(&mut *tx)
                .await?
                .ok_or_else(|| LedgerError::not_found("run", run))?
                .into_run()?;
                if let Some(closing) = row.closing {
                    return Ok(closing);
                }
                if let Some(epoch) = forfeits.epoch {
                    check_epoch(tx, epoch).await?;
                }
                add_forfeited(tx, run, forfeits.units).await?;
                if let Some(author) = author {
                    audit_closing(tx, author, run, how.as_str(), forfeits.units).await?;
                }
                let closed = sqlx::query!(
                    "WITH closing AS (
                     UPDATE commit_sequences SET value = value + 1 WHERE name = 'closing'
                     RETURNING value
                 )
                 UPDATE runs SET closed_at = now(), closed_seq = closing.value, closed_how = $2
                 FROM closing WHERE run = $1 AND closed_at IS NULL
                 RETURNING closed_at AS \"at!\", closed_seq AS \"seq!\"",
                    run.0,
                    how.as_str()
                )
                .fetch_one(&mut *tx)
                .await?;
                let seq = read_unsigned("runs", "closed_seq", run, closed.seq)?;
                Ok(Closing { at: closed.at.to_jiff(), seq, how })
            })
        })
        .await
    }

    /// What a closed run forfeited, of the counters where it did.
    pub async fn run_forfeits(&self, run: RunId) -> Result<Vec<(CellKey, u64)>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT tenant, meter, label, subject, forfeited
             FROM run_totals WHERE run = $1 AND forfeited > 0
             ORDER BY tenant, meter, label, subject",
            run.0
        )
        .fetch_all(self.query("run_forfeits"))
        .await?;
        let table = "run_totals";
        rows.into_iter()
            .map(|row| {
                let units = read_unsigned(table, "forfeited", run, row.forfeited)?;
                let key = CellRow {
                    table,
                    tenant: row.tenant,
                    meter: row.meter,
                    label: row.label,
                    subject: row.subject,
                };
                Ok((key.into_key()?, units))
            })
            .collect()
    }
}

/// How long a closing waits for a flush that has the run's row: what stands still in one must not keep
/// all other closings, and the counters' recovery, waiting with it.
async fn wait_briefly(tx: &mut PgConnection) -> Result<(), LedgerError> {
    sqlx::query!("SELECT set_config('lock_timeout', '1s', true)").fetch_one(tx).await?;
    Ok(())
}

/// Where the mark of `run` stands, as the transaction sees it.
pub(super) async fn standing_of(
    connection: &mut PgConnection,
    run: RunId,
) -> Result<RunStanding, LedgerError> {
    let row = sqlx::query!("SELECT flushed_position, closed_seq FROM runs WHERE run = $1", run.0)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(RunStanding::Unknown) };
    let flushed_position = read_unsigned("runs", "flushed_position", run, row.flushed_position)?;
    Ok(match row.closed_seq {
        None => RunStanding::Open { flushed_position },
        Some(seq) => RunStanding::Closed {
            seq: read_unsigned("runs", "closed_seq", run, seq)?,
            flushed_position,
        },
    })
}

async fn add_forfeited(
    tx: &mut PgConnection,
    run: RunId,
    forfeited: &[(CellKey, u64)],
) -> Result<(), LedgerError> {
    // In the order in which every flush writes windows' totals, so that none deadlocks with another:
    // first those that have events of their own, and then those that cover events, each by key.
    let mut sorted: Vec<_> = forfeited.iter().filter(|(_, units)| *units > 0).collect();
    sorted.sort_unstable_by_key(|(key, _)| (key.is_covering(), key));
    if sorted.is_empty() {
        return Ok(());
    }
    let keys: CellColumns = sorted.iter().map(|(key, _)| key).collect();
    let units: Vec<i64> = sorted
        .iter()
        .map(|(key, units)| read_column("run_totals", "forfeited", key, units, (*units).try_into()))
        .collect::<Result<_, _>>()?;
    sqlx::query_file!(
        "src/ledger/queries/add_forfeited.sql",
        run.0,
        &keys.tenants,
        &keys.meters,
        &keys.labels,
        &keys.subjects,
        &units
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// A journal position as a bigint. Positions begin with a segment number of 32 bits, of which no
/// journal uses half.
pub(super) fn position_column(position: u64) -> Result<i64, LedgerError> {
    read_column("runs", "flushed_position", "a run", position, i64::try_from(position))
}

#[derive(Debug)]
struct RunRow {
    run: uuid::Uuid,
    host: String,
    boot_id: String,
    started_at: jiff_sqlx::Timestamp,
    flushed_position: i64,
    mark_at: jiff_sqlx::Timestamp,
    heard_at: jiff_sqlx::Timestamp,
    asked_at: jiff_sqlx::Timestamp,
    closed_at: Option<jiff_sqlx::Timestamp>,
    closed_seq: Option<i64>,
    closed_how: Option<String>,
}

impl RunRow {
    fn into_run(self) -> Result<Run, LedgerError> {
        let run = RunId(self.run);
        let closing = match (self.closed_at, self.closed_seq, self.closed_how) {
            (Some(at), Some(seq), Some(how)) => Some(Closing {
                at: at.to_jiff(),
                seq: read_unsigned("runs", "closed_seq", run, seq)?,
                how: read_column("runs", "closed_how", run, &how, ClosedHow::read(&how))?,
            }),
            _ => None,
        };
        let heard_at = self.heard_at.to_jiff();
        Ok(Run {
            run,
            host: self.host,
            boot_id: self.boot_id,
            started_at: self.started_at.to_jiff(),
            flushed_position: read_unsigned(
                "runs",
                "flushed_position",
                run,
                self.flushed_position,
            )?,
            mark_at: self.mark_at.to_jiff(),
            heard_at,
            silent_for: self.asked_at.to_jiff().duration_since(heard_at),
            closing,
        })
    }
}
