//! Closes a run whose journal is flushed, or is beyond reach: in the ledger first, then in every
//! counter that it touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    directory::{Directory, tenant_state::TenantState},
    error::EngineError,
    retention::key_retention,
    tell_each::{Heard, tell_each},
};
use crate::{
    clock::Clock,
    domain::{cell_key::CellKey, ids::RunId},
    leases::message::{CloseAnswer, CloseCall, CloseStep},
    ledger::{
        Ledger, LedgerError,
        changes::Author,
        floors::FlushedTotals,
        folding::Folding,
        runs::{ClosedHow, Closing, Forfeits},
    },
    store::{StoreError, counters::Counters, keys::counter_name},
};

/// Why a run could not be closed, or not in all counters.
#[derive(Debug, thiserror::Error)]
pub enum CloseRunError {
    #[error(transparent)]
    Ledger(LedgerError),
    #[error("the shared counters cannot be reached")]
    NoCounters,
    #[error("the shared counters have changed, or lost data")]
    EpochOver,
    #[error(
        "the counter {key} waits for too many closings that were cut off; sidecars finish them within \
         minutes, or log what keeps them from it"
    )]
    Crowded { key: CellKey },
    #[error("what holds for the counter {key} is not known now: {error}")]
    NoTerms { key: CellKey, error: Box<EngineError> },
}

/// A run that is closed.
#[derive(Debug)]
pub struct Closed {
    pub closing: Closing,
    /// Counters that could not be told, because what Redis has in their place is no counter: the run
    /// is not folded until they are deleted, and rebuilt.
    pub damaged: Vec<CellKey>,
}

/// What a counter says to a step of a closing.
enum Told {
    Answer(CloseAnswer),
    /// What Redis has in its place is no counter.
    Damaged(StoreError),
}

/// What came of telling one counter of a closing.
enum Folded {
    Told,
    Damaged(CellKey),
    Crowded(CloseRunError),
}

impl From<LedgerError> for CloseRunError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::EpochOver(_) | LedgerError::SharedByNow => Self::EpochOver,
            error => Self::Ledger(error),
        }
    }
}

/// Closed runs that a counter remembers by name, at some 50 bytes each, before it forgets those that
/// are folded everywhere. A run that first uses a counter which has forgotten some has to show by
/// a look at the ledger that it is open.
const FENCED_MAX: u64 = 64;

/// Closes runs, in one epoch of the counters.
pub struct RunCloser<'a> {
    pub ledger: &'a Ledger,
    pub counters: &'a Counters,
    /// The epoch in force.
    pub epoch: u64,
    /// Knows when windows end.
    pub directory: &'a Arc<Directory>,
    pub clock: &'a Clock,
}

impl RunCloser<'_> {
    /// Tells the ledger of the counters that a run touched and did not flush, for a run whose
    /// journal cannot be read.
    pub async fn find_touched(&self, run: RunId) -> Result<(), CloseRunError> {
        let found = self.counters.keys_of_run(run).await.map_err(|_| CloseRunError::NoCounters)?;
        Ok(self.ledger.note_touched(run, &found.into_iter().collect()).await?)
    }

    /// What a run may have spent without a trace in the ledger: all that it held and did not
    /// consume there, or all that is free, where the counters do not know what it held, or are no
    /// counters any more. Its calls are refused from now on.
    pub async fn fence(&self, run: RunId) -> Result<Vec<(CellKey, u64)>, CloseRunError> {
        let is_known = self.is_known(run).await?;
        let folding = self.ledger.folding(run).await?;
        let totals = self.ledger.run_totals(run).await?;
        let fenced = tell_each(totals, |(key, totals)| async move {
            let units = match self.tell(&key, run, CloseStep::Fence, folding).await {
                Ok(Told::Answer(CloseAnswer::Fenced { taken: Some(taken) })) => {
                    taken.saturating_sub(totals.consumed + totals.recorded)
                }
                // It never asked for anything here.
                Ok(Told::Answer(_)) if is_known => 0,
                Ok(_) => self.free_in_ledger(&key).await?,
                Err(CloseRunError::NoCounters) => return Ok(Heard::Silent((key, totals))),
                Err(error) => return Err(error),
            };
            Ok(Heard::Answer((key, units)))
        });
        let mut unspent = fenced.await?.ok_or(CloseRunError::NoCounters)?;
        unspent.retain(|(_, units)| *units > 0);
        unspent.sort_unstable();
        Ok(unspent)
    }

    /// Closes a run, which forfeits what [`Self::fence`] told of it, if it was asked. What it forfeits
    /// is noted with its closing, so that closing it again after a failure folds the same. One that is
    /// folded already is folded no second time: counters forget whom nobody will fold again.
    pub async fn close(
        &self,
        run: RunId,
        how: ClosedHow,
        fenced: Option<&[(CellKey, u64)]>,
        author: Option<Author<'_>>,
    ) -> Result<Closed, CloseRunError> {
        let forfeits =
            fenced.map_or(Forfeits::NONE, |units| Forfeits { units, epoch: self.shared_epoch() });
        let closing = self.ledger.close_run(run, how, forfeits, author).await?;
        // Unless somebody else has closed it otherwise.
        let units: u64 = forfeits.units.iter().map(|(_, units)| units).sum();
        if units > 0 && closing.how == how {
            metrics::counter!("tollgate_forfeited_units_total").increment(units);
            let counters = forfeits.units.len();
            tracing::warn!(%run, units, counters, "forfeited what a run may have spent unheard");
        }
        let folding = self.ledger.folding(run).await?;
        let mut damaged = vec![];
        if !folding.is_folded {
            damaged = self.fold(run, &closing, folding, |_| true).await?;
            // A counter that came back as it was would count nothing of a run that is taken for folded.
            if damaged.is_empty() {
                self.ledger.note_folded(run, self.shared_epoch()).await?;
            }
        }
        Ok(Closed { closing, damaged })
    }

    /// Takes a closed run out of counters that it began to use while it was being closed. What it
    /// used there comes by its successor.
    pub async fn fold_late(&self, run: RunId) -> Result<(), CloseRunError> {
        let found = self.counters.keys_of_run(run).await.map_err(|_| CloseRunError::NoCounters)?;
        let found: BTreeSet<_> = found.into_iter().collect();
        let closing = self.ledger.run(run).await?.and_then(|run| run.closing);
        let (Some(closing), false) = (closing, found.is_empty()) else { return Ok(()) };
        self.ledger.note_touched(run, &found).await?;
        let folding = self.ledger.folding(run).await?;
        self.fold(run, &closing, folding, |key| found.contains(key)).await.map(drop)
    }

    /// Tells all counters that can be told; which could not because they are damaged.
    async fn fold(
        &self,
        run: RunId,
        closing: &Closing,
        folding: Folding,
        which: impl Fn(&CellKey) -> bool,
    ) -> Result<Vec<CellKey>, CloseRunError> {
        let noted: BTreeMap<_, _> = self.ledger.run_forfeits(run).await?.into_iter().collect();
        let mut folds = vec![];
        for (key, totals) in
            self.ledger.run_totals(run).await?.into_iter().filter(|(key, _)| which(key))
        {
            let FlushedTotals { consumed, recorded, undone, .. } = totals;
            let forfeit = noted.get(&key).copied().unwrap_or(0);
            let (closed_seq, used) = (closing.seq, consumed + recorded);
            folds.push((key, CloseStep::Fold { closed_seq, used, undone, forfeit }));
        }
        let told = tell_each(folds, |(key, fold)| async move {
            match self.tell(&key, run, fold, folding).await {
                Ok(Told::Answer(_)) => Ok(Heard::Answer(Folded::Told)),
                Ok(Told::Damaged(error)) => {
                    warn_of_damage(&key, run, &error);
                    Ok(Heard::Answer(Folded::Damaged(key)))
                }
                Err(CloseRunError::NoCounters) => Ok(Heard::Silent((key, fold))),
                Err(error @ CloseRunError::Crowded { .. }) => {
                    Ok(Heard::Answer(Folded::Crowded(error)))
                }
                Err(error) => Err(error),
            }
        });
        let mut damaged = vec![];
        for one in told.await?.ok_or(CloseRunError::NoCounters)? {
            match one {
                Folded::Told => {}
                Folded::Damaged(key) => damaged.push(key),
                Folded::Crowded(error) => return Err(error),
            }
        }
        damaged.sort_unstable();
        Ok(damaged)
    }

    async fn tell(
        &self,
        key: &CellKey,
        run: RunId,
        step: CloseStep,
        folding: Folding,
    ) -> Result<Told, CloseRunError> {
        let call = CloseCall {
            epoch: self.epoch,
            run,
            step,
            folded_through: folding.through,
            fenced_max: FENCED_MAX,
            retention: self.retention(key).await?,
        };
        match accepted(self.counters.close(key, &call).await)? {
            Told::Answer(CloseAnswer::Crowded) => Err(CloseRunError::Crowded { key: key.clone() }),
            told => Ok(told),
        }
    }

    /// The run may have been the last one to use the key.
    async fn retention(&self, key: &CellKey) -> Result<Option<Duration>, CloseRunError> {
        let state = self.tenant_of(key).await?;
        Ok(state
            .and_then(|state| key_retention(&state.terms().tenant, key.label, self.clock.now())))
    }

    /// `None`: nobody knows the tenant any more. A ledger that does not say is an error.
    async fn tenant_of(&self, key: &CellKey) -> Result<Option<Arc<TenantState>>, CloseRunError> {
        match self.directory.find(&key.tenant, "tenant").await {
            Ok(state) => Ok(Some(state)),
            Err(EngineError::Unknown(_)) => Ok(None),
            Err(error) => Err(CloseRunError::NoTerms { key: key.clone(), error: Box::new(error) }),
        }
    }

    /// The epoch that what these counters were told holds in. `None`: what those of one process were
    /// told holds whoever has begun an epoch since, whose own are founded on the ledger alone.
    fn shared_epoch(&self) -> Option<u64> {
        match self.counters {
            Counters::Redis(_) => Some(self.epoch),
            Counters::Local(_) => None,
        }
    }

    /// Whether these counters know all that the run holds: it has told them, and they have lost
    /// nothing since.
    async fn is_known(&self, run: RunId) -> Result<bool, CloseRunError> {
        let is_shared = matches!(self.counters, Counters::Redis(_));
        Ok(is_shared && !self.ledger.unreported_runs(self.epoch).await?.contains(&run))
    }

    /// What the ledger knows nothing of being used, below the ceiling. Also of a window that seems to
    /// be over: whose clock says so may be wrong, as those of hosts that start again are.
    async fn free_in_ledger(&self, key: &CellKey) -> Result<u64, CloseRunError> {
        let Some(state) = self.tenant_of(key).await? else { return Ok(0) };
        let terms = state.terms();
        let ceiling = terms.ceiling_of(key).and_then(|ceiling| ceiling.units);
        let Some(ceiling) = ceiling else { return Ok(0) };
        let totals = self.ledger.window_totals(std::slice::from_ref(key)).await?;
        // Below zero, a level has left more to be held than its ceiling.
        let counted = totals
            .into_iter()
            .next()
            .flatten()
            .map_or(0, |totals| totals.used.saturating_add(totals.forfeited.cast_signed()));
        let free = ceiling.cast_signed().saturating_sub(counted);
        Ok(u64::try_from(free).unwrap_or(0))
    }
}

fn warn_of_damage(key: &CellKey, run: RunId, error: &StoreError) {
    let name = counter_name(key);
    metrics::counter!("tollgate_damaged_counters_total").increment(1);
    tracing::error!(
        %run, name, %error,
        "cannot tell a counter that a run is closed: what Redis has in its place is no counter; DEL \
         it and tg:life in Redis, which begins a new epoch"
    );
}

/// A counter that does not answer says nothing of the epoch.
fn accepted(answer: Result<CloseAnswer, StoreError>) -> Result<Told, CloseRunError> {
    match answer {
        Ok(CloseAnswer::StaleEpoch { .. } | CloseAnswer::EpochLost) => {
            Err(CloseRunError::EpochOver)
        }
        Ok(answer) => Ok(Told::Answer(answer)),
        Err(error) if error.is_about_content() => Ok(Told::Damaged(error)),
        Err(error) => {
            tracing::debug!(%error, "a run cannot be closed in its counters now");
            Err(CloseRunError::NoCounters)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::ids::{MeterName, TenantId},
        enforcement::directory::Source,
        ledger::config::LedgerConfig,
        store::LocalCounters,
    };

    /// Where the ledger does not say what holds, nothing may be taken for free, or kept for ever.
    #[tokio::test]
    async fn a_ledger_that_is_away_stops_a_closing() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("postgres://nobody@localhost/none?host={}", dir.path().display());
        let ledger = Ledger::new(&LedgerConfig { url, ..LedgerConfig::default() }).unwrap();
        let directory = Arc::new(Directory::new(Source::Ledger(ledger.clone()), None));
        let closer = RunCloser {
            ledger: &ledger,
            counters: &Counters::Local(LocalCounters::new()),
            epoch: 1,
            directory: &directory,
            clock: &Clock::System,
        };
        let key = CellKey {
            tenant: TenantId::new("acme").unwrap(),
            meter: MeterName::new("calls").unwrap(),
            subject: None,
            label: "month:0:1".parse().unwrap(),
        };
        let unknown = |error| matches!(error, CloseRunError::NoTerms { .. });
        assert!(closer.free_in_ledger(&key).await.is_err_and(unknown));
        assert!(closer.retention(&key).await.is_err_and(unknown));
    }

    #[test]
    fn only_an_answer_tells_that_the_epoch_is_over() {
        for over in [CloseAnswer::StaleEpoch { epoch: 2 }, CloseAnswer::EpochLost] {
            assert!(matches!(accepted(Ok(over)), Err(CloseRunError::EpochOver)));
        }
        for silent in [StoreError::Unreachable, StoreError::Overloaded, StoreError::Timeout(1)] {
            assert!(matches!(accepted(Err(silent)), Err(CloseRunError::NoCounters)));
        }
        assert!(matches!(accepted(Ok(CloseAnswer::Folded)), Ok(Told::Answer(CloseAnswer::Folded))));
        let unreadable = StoreError::Unreadable { script: "close", answer: "7".into() };
        assert!(matches!(accepted(Err(unreadable)), Ok(Told::Damaged(_))));
    }
}
