//! What is known of a counter beyond this run: what lost keys are rebuilt from, and the settled
//! values of the meters that are not sums.

use std::sync::{Arc, Mutex};

use super::embedded::EmbeddedTotals;
use crate::{
    domain::{cell_key::CellKey, distinct::DistinctCount, ids::RunId},
    journal::embedded::EmbeddedStore,
    leases::message::{Floor, Flushed},
    ledger::Ledger,
};

/// Where floors and settled values come from.
#[derive(Clone)]
pub enum Floors {
    /// The shared ledger.
    Ledger(Ledger),
    /// The counters live and end with this process; they start with what the embedded store had.
    Embedded {
        totals: EmbeddedTotals,
        /// Guards the store: held for a look-up here, for a checkpoint by its flusher.
        store: Arc<Mutex<EmbeddedStore>>,
    },
}

/// What is known of one counter to a run.
#[derive(Clone, Debug)]
pub enum Known {
    Floor(Box<Floor>),
    /// The run is closed: it may not build a counter.
    RunClosed,
}

/// The settled value of a window, in the ways that a meter may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettledValue {
    pub max: u64,
    pub last: u64,
    pub distinct: u64,
}

impl Floors {
    /// The floor of one key for a run; `None` while the ledger is out of reach.
    pub async fn floor(&self, key: &CellKey, run: RunId) -> Option<Known> {
        match self {
            Self::Ledger(ledger) => match ledger.floors(std::slice::from_ref(key), run).await {
                Ok(floors) => floors.into_iter().next().map(|floor| match floor.is_closed {
                    true => Known::RunClosed,
                    false => Known::Floor(Box::new(floor.into())),
                }),
                Err(error) => {
                    tracing::warn!(%key, %error, "cannot read a floor");
                    None
                }
            },
            Self::Embedded { totals, .. } => {
                let floor = Floor { base_used: totals.used(key), ..Floor::default() };
                Some(Known::Floor(Box::new(floor)))
            }
        }
    }

    /// The distinct values that are settled of one window; `None` while the ledger is out of reach.
    pub async fn distinct(&self, key: &CellKey) -> Option<DistinctCount> {
        let known = match self {
            Self::Ledger(ledger) => {
                let totals = ledger.window_totals(std::slice::from_ref(key)).await.ok()?;
                totals.into_iter().next().flatten().and_then(|totals| totals.tally.distinct)
            }
            Self::Embedded { store, .. } => {
                let store = store.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                store.total(key).and_then(|total| total.distinct).map(|distinct| *distinct)
            }
        };
        Some(known.unwrap_or_default())
    }

    /// The settled value of one window; `None` where nothing was counted or the ledger is out of
    /// reach.
    pub async fn value(&self, key: &CellKey) -> Option<SettledValue> {
        let unsigned = |amount: i64| u64::try_from(amount).unwrap_or(0);
        match self {
            Self::Ledger(ledger) => {
                let totals = ledger.window_totals(std::slice::from_ref(key)).await.ok()?;
                let tally = totals.into_iter().next()??.tally;
                Some(SettledValue {
                    max: unsigned(tally.amount_max.unwrap_or(0)),
                    last: unsigned(tally.last_amount.unwrap_or(0)),
                    distinct: tally.distinct.map_or(0, |distinct| distinct.count()),
                })
            }
            Self::Embedded { store, .. } => {
                let store = store.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let total = store.total(key)?;
                Some(SettledValue {
                    max: unsigned(total.amount_max),
                    last: unsigned(total.last_amount),
                    distinct: total.distinct.as_ref().map_or(0, |distinct| distinct.count()),
                })
            }
        }
    }
}

impl From<crate::ledger::floors::Floor> for Floor {
    fn from(floor: crate::ledger::floors::Floor) -> Self {
        let open_runs = floor.open_runs.into_iter().map(|totals| Flushed {
            run: totals.run,
            used: totals.consumed + totals.recorded,
            undone: totals.undone,
        });
        Self {
            closed_seq: floor.closed_seq,
            base_used: floor.base_used,
            base_forfeited: floor.base_forfeited,
            ceiling_version: floor.ceiling_version,
            open_runs: open_runs.collect(),
        }
    }
}

impl std::fmt::Debug for Floors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ledger(_) => "Floors::Ledger",
            Self::Embedded { .. } => "Floors::Embedded",
        })
    }
}
