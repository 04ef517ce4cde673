//! The engine: what every request of the sidecar is answered by.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::Semaphore;

use super::{
    alerts::Alerts,
    config::EnforcementConfig,
    counter::Counter,
    directory::{Directory, tenant_state::TenantState},
    error::EngineError,
    held::Held,
    leasing::Leasing,
    metrics::EngineMetrics,
    rates::Rates,
    repeats::Repeats,
    values::Values,
};
use crate::{
    clock::Clock,
    domain::{
        cell_key::CellKey,
        ids::{RunId, TenantId},
        usage::Durability,
        window::{Window, WindowLabel},
    },
    journal::{Journal, error::AppendError, position::RecordPlace},
    lanes::Lanes,
    leases::holds::Holds,
};

/// Answers checks and takes usage in. One per run; shared by all faces.
pub struct Engine {
    pub(super) run: RunId,
    pub(super) config: EnforcementConfig,
    pub(super) clock: Clock,
    pub(super) directory: Arc<Directory>,
    pub(super) leasing: Arc<Leasing>,
    pub(super) journal: Journal,
    pub(super) repeats: Repeats<RecordPlace>,
    pub(super) holds: Holds<Held>,
    pub(super) values: Arc<Values>,
    pub(super) rates: Rates,
    pub alerts: Arc<Alerts>,
    pub(super) metrics: EngineMetrics,
    /// Bounds how many requests wait for a refill at a time.
    pub(super) slow_path: Semaphore,
    /// Bounds how many streams watch usage at a time.
    pub(super) watchers: Arc<Semaphore>,
    /// Where the latest acknowledged event is in the journal, or a later place.
    pub(super) handed_over: Lanes<AtomicU64>,
    /// Where the ledger's mark of this run stands.
    pub(super) flushed_to: AtomicU64,
    is_closed: AtomicBool,
}

/// What an engine is made of.
pub struct EngineParts {
    pub config: EnforcementConfig,
    pub clock: Clock,
    pub directory: Arc<Directory>,
    pub leasing: Arc<Leasing>,
    pub journal: Journal,
    pub values: Arc<Values>,
}

impl Engine {
    /// Puts the parts together.
    pub fn new(parts: EngineParts) -> Self {
        let EngineParts { config, clock, directory, leasing, journal, values } = parts;
        Self {
            run: journal.run(),
            repeats: Repeats::new(config.repeats_max),
            holds: Holds::new(config.reservations_max),
            slow_path: Semaphore::new(config.slow_path_max),
            rates: Rates::new(&config, journal.run(), &leasing, &clock),
            watchers: Arc::new(Semaphore::new(config.watchers_max)),
            alerts: Arc::new(Alerts::new(directory.ledger().is_some())),
            metrics: EngineMetrics::register(),
            handed_over: Lanes::default(),
            flushed_to: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            config,
            clock,
            directory,
            leasing,
            journal,
            values,
        }
    }

    /// The run that this engine serves.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Takes nothing new from now on; what is under way is finished.
    pub fn close_intake(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// Whether everything that was acknowledged is in the ledger.
    pub fn is_flushed(&self) -> bool {
        self.flushed_to() >= self.handed_over()
    }

    /// Where the ledger's mark of this run stands, by all that it has confirmed.
    pub fn flushed_to(&self) -> u64 {
        self.flushed_to.load(Ordering::Acquire)
    }

    /// Where the latest event is in the journal that is, or may yet be, acknowledged; or a later
    /// place. What the journal has refused is not there.
    pub(super) fn handed_over(&self) -> u64 {
        let places = self.handed_over.all().map(|place| place.load(Ordering::Acquire));
        places.max().unwrap_or(0).min(self.journal.tail().into())
    }

    /// Refuses when the intake is closed, or this run has been closed by someone else.
    pub(super) fn check_open(&self) -> Result<(), EngineError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(EngineError::ShuttingDown);
        }
        if self.leasing.fence.is_down() {
            return Err(EngineError::Unavailable(
                "this sidecar's run is over (its log says why); restart it".into(),
            ));
        }
        Ok(())
    }

    /// The tenant of a request, loaded if need be. Loading is rare, and a future of its own: what
    /// every request carries along is small.
    pub(super) async fn tenant(
        &self,
        tenant: &TenantId,
        field: &str,
    ) -> Result<Arc<TenantState>, EngineError> {
        match self.directory.known(tenant) {
            Some(state) => Ok(state),
            None => Box::pin(self.directory.find(tenant, field)).await,
        }
    }

    /// Gives units of `key` back that the ledger did not count, `total` of them in this run:
    /// repeats that it found, events that it quarantined, decreases of a level that it has now
    /// counted as such. `false`: not now, since the tenant cannot be read.
    pub async fn undo_to(&self, key: &CellKey, total: u64) -> bool {
        let Ok(state) = self.tenant(&key.tenant, "tenant").await else { return false };
        if let Some(counter) = self.counter_of_key(&state, key) {
            let units = counter.undo_to(total);
            self.metrics.undone_units.increment(units);
            if units > 0 {
                // At once: what was freed here may be waited for elsewhere.
                counter.slow().holder.look();
                self.leasing.wake(&counter);
            }
        }
        true
    }

    /// The counter of a key that the ledger named; `None` when its window is past.
    fn counter_of_key(&self, state: &TenantState, key: &CellKey) -> Option<Arc<Counter>> {
        let window = state.terms().tenant.window_of_label(key.label);
        let window = window.unwrap_or(endless(key.label));
        state.counter_or_new(key, window, None).ok()
    }
}

/// The window of a label whose schedule has changed since: it is never current again, and its end
/// is not known any more.
fn endless(label: WindowLabel) -> Window {
    let start = jiff::Timestamp::from_second(label.start).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    Window { label, start, end: None }
}

/// The durability of a call, against what its limit allows.
pub(super) fn effective_durability(
    asked: Option<Durability>,
    default: Durability,
    is_bounded: bool,
) -> Result<Durability, EngineError> {
    let durability = asked.unwrap_or(default);
    if durability == Durability::Memory && is_bounded {
        return Err(crate::domain::invalid::Invalid::new(
            "durability",
            "is memory on a meter with a hard limit or a pool",
            "use written or sync: a crash would forget what was admitted",
        )
        .into());
    }
    Ok(durability)
}

impl From<AppendError> for EngineError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::BudgetFull { budget_bytes } => Self::JournalFull { budget_bytes },
            AppendError::NoSpace { problem } => Self::Unavailable(problem.to_string()),
            AppendError::QueueFull { records, .. } => {
                Self::Overloaded { what: "records that wait for the journal", bound: records }
            }
            AppendError::TooLarge { bytes, bytes_max } => crate::domain::invalid::Invalid::new(
                "events",
                format!("take {bytes} bytes in the journal"),
                format!("send batches of at most {bytes_max} bytes"),
            )
            .into(),
            AppendError::Stopped { reason } | AppendError::Uncertain { reason } => {
                Self::JournalStopped(reason.to_string())
            }
        }
    }
}
