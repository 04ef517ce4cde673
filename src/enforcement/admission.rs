//! Whether a request may go ahead, and what it takes for that.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, SemaphorePermit};

use super::{
    answer::{Decision, Figures, answer, reason_allowed},
    asked::Asked,
    counter::Counter,
    covering::{Lowered, Split, may_free_parts},
    directory::NoCounter,
    engine::Engine,
    error::EngineError,
    held::Held,
    labelling,
    leasing::Leasing,
    pool_draw::PoolDraw,
    settling::Counted,
    taken::Taken,
};
use crate::{
    domain::{
        bounds::Bounds,
        catalog::names::OperationName,
        cell_key::CellKey,
        invalid::Invalid,
        limit::OutagePolicy,
        meter::Aggregation,
        quota::{DecidedBy, QuotaAnswer, QuotaReason},
        usage::UsageEvent,
        window::Window,
    },
    journal::{position::Position, record::PlainEvent},
};

/// What came of a request.
pub(super) enum Admission {
    Admitted(Admitted),
    Denied(QuotaAnswer),
}

/// An admitted request that is not recorded yet. Dropped, it leaves no trace.
pub(super) struct Admitted {
    place: Place,
    /// Escrow of the counter, where the meter has a ceiling.
    taken: Option<Taken>,
    /// Escrow of grants, in burn order.
    covers: Vec<Taken>,
    /// Where a level that goes down may come free.
    may_free: Vec<Arc<Counter>>,
    decided_by: DecidedBy,
    /// Let go when the value is remembered; see `Leasing::untold_values`.
    _untold_value: Option<OwnedRwLockReadGuard<()>>,
}

/// Where what was admitted counts.
enum Place {
    /// In the counter of a summed meter.
    Counter(Arc<Counter>),
    /// Under a key whose values are not added up.
    Value { key: CellKey, window: Bounds },
}

impl Place {
    fn key(&self) -> &CellKey {
        match self {
            Self::Counter(counter) => &counter.key,
            Self::Value { key, .. } => key,
        }
    }

    fn window(&self) -> &Bounds {
        match self {
            Self::Counter(counter) => &counter.window,
            Self::Value { window, .. } => window,
        }
    }

    fn counter(&self) -> Option<&Arc<Counter>> {
        match self {
            Self::Counter(counter) => Some(counter),
            Self::Value { .. } => None,
        }
    }
}

impl Admitted {
    /// Where it counts.
    pub fn key(&self) -> &CellKey {
        self.place.key()
    }

    /// The counter of a summed meter.
    pub fn counter(&self) -> Option<Arc<Counter>> {
        self.place.counter().cloned()
    }

    /// Where it was decided.
    pub fn decided_by(&self) -> DecidedBy {
        self.decided_by
    }

    /// Units that only the outage policy stands for.
    pub fn unbacked(&self, asked: &Asked<'_>) -> u64 {
        match (self.decided_by, asked.meter.meter.aggregation) {
            (DecidedBy::Fallback, Aggregation::DistinctCount) => 1,
            (DecidedBy::Fallback, _) => asked.units,
            _ => 0,
        }
    }

    /// Whether grants cover some of it.
    pub fn is_granted(&self) -> bool {
        self.covers.iter().any(|cover| cover.counter().key.label.is_of_grant())
    }

    /// The event that records it as a part of `operation`, if there is nothing more to it.
    pub fn plain_event<'e>(
        &'e self,
        asked: &Asked<'e>,
        operation: &'e OperationName,
    ) -> Option<PlainEvent<'e>> {
        let Place::Counter(counter) = &self.place else { return None };
        let has_parts = !self.covers.is_empty() || !self.may_free.is_empty();
        if has_parts || !asked.said.properties.is_empty() {
            return None;
        }
        Some(PlainEvent {
            key: &counter.key,
            meter: &asked.meter.meter,
            amount: asked.said.amount,
            from_lease: self.taken.as_ref().map_or(0, Taken::amount),
            time: asked.now,
            idempotency_key: asked.said.idempotency_key.map_or("", |key| key.as_str()),
            operation: Some(operation),
        })
    }

    /// The event that records it.
    pub fn event(&self, asked: &Asked<'_>) -> Result<UsageEvent, Invalid> {
        let mut event = asked.event(self.place.key().clone())?;
        event.from_lease = self.taken.as_ref().map_or(0, Taken::amount);
        event.parts = may_free_parts(&self.may_free);
        event.parts.extend(self.covers.iter().map(Taken::part));
        Ok(event)
    }

    /// The escrow, to be held. `None` where nothing can be held: the meter is not a sum.
    pub fn into_held(self, leasing: &Arc<Leasing>) -> Option<Held> {
        let Self { place, taken, covers, .. } = self;
        let key = place.key().clone();
        let window = Window::of(key.label, *place.window());
        let own = match taken {
            Some(taken) => taken,
            None => Taken::new(place.counter()?.clone(), leasing.clone(), 0),
        };
        Some(Held { key, window, own, covers })
    }

    /// What the counters are told of it.
    pub fn counted(&self, asked: &Asked<'_>) -> impl Iterator<Item = Counted> + use<> {
        let covered = self.covers.iter().map(Taken::amount).sum();
        let units = asked.units.saturating_sub(covered);
        let own = self.counter().map(|counter| Counted { counter, units });
        let of_cover =
            |cover: &Taken| Counted { counter: cover.counter().clone(), units: cover.amount() };
        let covers: Vec<_> = self.covers.iter().map(of_cover).collect();
        own.into_iter().chain(covers)
    }

    /// Gives back what was taken, because another part of the operation denied; the answer is that
    /// of a look.
    pub fn untaken(self, engine: &Engine, asked: &Asked<'_>) -> QuotaAnswer {
        let (window, decided_by) = (*self.place.window(), self.decided_by);
        let figures = match &self.place {
            Place::Counter(counter) => Figures::of(counter),
            Place::Value { key, .. } => engine.value_figures(asked.meter, key),
        };
        let reason = match decided_by {
            DecidedBy::Fallback => QuotaReason::AllowedByOutagePolicy,
            _ if self.is_granted() => QuotaReason::WithinGrant,
            _ if asked.pool.is_some() => QuotaReason::WithinLimit,
            _ => reason_allowed(asked.meter, figures.used.saturating_add(asked.units)),
        };
        drop(self);
        asked.answer(&window, figures, Decision { reason, decided_by })
    }

    /// Counts what the journal now has, and answers.
    pub fn settle(self, engine: &Engine, asked: &Asked<'_>, position: Position) -> QuotaAnswer {
        let unbacked = self.unbacked(asked);
        if unbacked > 0 {
            engine.metrics.units_unbacked.increment(unbacked);
        }
        let now = asked.began;
        let is_granted = self.is_granted();
        let is_covered = !self.covers.is_empty();
        let mut units = asked.units;
        for cover in self.covers {
            cover.counter().journalled(position.into(), now);
            units -= cover.amount();
            let all = cover.amount();
            cover.spend(all);
        }
        for counter in &self.may_free {
            counter.journalled(position.into(), now);
        }
        let figures = match &self.place {
            Place::Counter(counter) => {
                counter.journalled(position.into(), now);
                match self.taken {
                    Some(taken) => taken.spend(units),
                    None if is_covered => {}
                    None => {
                        counter.cell.record(units);
                        engine.leasing.spent(counter);
                    }
                }
                // A decrease counts once the ledger has it: until then nothing of it can be had.
                Figures::of(counter)
            }
            Place::Value { key, .. } => engine.value_figures(asked.meter, key),
        };
        let reason = match self.decided_by {
            DecidedBy::Fallback => QuotaReason::AllowedByOutagePolicy,
            _ if is_granted => QuotaReason::WithinGrant,
            _ if asked.pool.is_some() => QuotaReason::WithinLimit,
            _ => reason_allowed(asked.meter, figures.used),
        };
        let decision = Decision { reason, decided_by: self.decided_by };
        asked.answer(self.place.window(), figures, decision)
    }
}

impl Engine {
    /// Decides whether what is asked may go ahead, and takes what it needs.
    pub(super) async fn admit(&self, asked: &Asked<'_>) -> Result<Admission, EngineError> {
        match asked.meter.meter.aggregation {
            Aggregation::Sum | Aggregation::Count => self.admit_units(asked).await,
            Aggregation::Max | Aggregation::Last => Ok(self.admit_value(asked)),
            Aggregation::DistinctCount => Box::pin(self.admit_distinct(asked)).await,
        }
    }

    /// The counter that what is asked counts in; `None` when the meter has too many subjects.
    pub(super) fn current_counter(
        &self,
        asked: &Asked<'_>,
    ) -> Result<Option<Arc<Counter>>, EngineError> {
        let Asked { terms, meter, subject, now, .. } = asked;
        let subjects_max = self.config.subjects_max;
        match asked.state.current_counter(terms, meter, subject.as_ref(), *now, subjects_max) {
            Ok(counter) => Ok(Some(counter)),
            Err(NoCounter::TooMany) => Ok(None),
            Err(NoCounter::Past) => Err(EngineError::Unavailable(
                "the clock went back to a window that is over; it serves again when it has caught up"
                    .into(),
            )),
        }
    }

    async fn admit_units(&self, asked: &Asked<'_>) -> Result<Admission, EngineError> {
        let counter = match self.current_counter(asked)? {
            Some(counter) => counter,
            None => return Ok(Admission::Denied(asked.denial(QuotaReason::TooManySubjects))),
        };
        counter.touch(asked.began);
        if asked.said.amount < 0 {
            return Ok(Admission::Admitted(self.lowered(asked, counter)));
        }
        if let Some(pool) = &asked.pool {
            return Box::pin(self.admit_pooled(asked, pool, counter)).await;
        }
        if let Some(admitted) = self.admit_from_hand(asked, &counter) {
            return Ok(Admission::Admitted(admitted));
        }
        let _permit = self.slow_permit()?;
        let mut counters = vec![counter.clone()];
        counters.extend(self.grant_counters(asked));
        Ok(match Box::pin(self.split(&counters, asked.units)).await {
            Split::Taken(mut covers) => {
                let is_own =
                    covers.first().is_some_and(|first| Arc::ptr_eq(first.counter(), &counter));
                let taken = is_own.then(|| covers.remove(0));
                let unleased = unleased(Place::Counter(counter), self.leasing.asked());
                Admission::Admitted(Admitted { taken, covers, ..unleased })
            }
            Split::Denied { remaining } => {
                Admission::Denied(self.denied(asked, &counter, remaining))
            }
            // Once its own counter has said that there is no more, only a grant could allow it.
            Split::Unavailable { is_first } => match asked.meter.limit.on_outage {
                OutagePolicy::Allow if is_first => {
                    Admission::Admitted(unleased(Place::Counter(counter), DecidedBy::Fallback))
                }
                OutagePolicy::Allow | OutagePolicy::Deny => {
                    let figures = Figures::of(&counter);
                    Admission::Denied(denied_by_outage(asked, &counter.window, figures))
                }
            },
        })
    }

    /// Admits what the counter has in hand, or what nothing limits.
    #[inline]
    pub(super) fn admit_from_hand(
        &self,
        asked: &Asked<'_>,
        counter: &Arc<Counter>,
    ) -> Option<Admitted> {
        let taken = match asked.meter.limit.ceiling() {
            Some(_) => Some(self.leasing.take(counter, asked.units)?),
            None => None,
        };
        let place = Place::Counter(counter.clone());
        Some(Admitted { taken, ..unleased(place, DecidedBy::Memory) })
    }

    fn slow_permit(&self) -> Result<SemaphorePermit<'_>, EngineError> {
        let bound = self.config.slow_path_max;
        self.slow_path
            .try_acquire()
            .map_err(|_| EngineError::Overloaded { what: "checks that wait for a refill", bound })
    }

    /// All of it is covered by the pool's cells, and by grants beyond them. A pool denies while the
    /// shared counters are out of reach, whatever the plan's policy: others draw on it too.
    async fn admit_pooled(
        &self,
        asked: &Asked<'_>,
        pool: &PoolDraw,
        counter: Arc<Counter>,
    ) -> Result<Admission, EngineError> {
        let admitted = |covers, decided_by| {
            let unleased = unleased(Place::Counter(counter.clone()), decided_by);
            Admission::Admitted(Admitted { covers, ..unleased })
        };
        if let Some(first) = pool.drawable().next() {
            first.touch(asked.began);
            if let Some(taken) = self.leasing.take(first, asked.units) {
                return Ok(admitted(vec![taken], DecidedBy::Memory));
            }
        }
        let _permit = self.slow_permit()?;
        let mut counters: Vec<_> = pool.drawable().cloned().collect();
        counters.extend(self.grant_counters(asked));
        Ok(match self.split(&counters, asked.units).await {
            Split::Taken(covers) => admitted(covers, self.leasing.asked()),
            Split::Denied { remaining } => {
                Admission::Denied(self.denied(asked, &counter, remaining))
            }
            Split::Unavailable { .. } => {
                let figures = Figures::of(&counter);
                Admission::Denied(denied_by_outage(asked, &counter.window, figures))
            }
        })
    }

    fn lowered(&self, asked: &Asked<'_>, counter: Arc<Counter>) -> Admitted {
        let lowered = Lowered {
            state: asked.state,
            terms: asked.terms,
            meter: asked.meter,
            subject: asked.subject.as_ref(),
        };
        let own = || Some(counter.clone());
        let may_free = self.may_free(&lowered, asked.pool.as_deref(), own);
        Admitted { may_free, ..unleased(Place::Counter(counter), DecidedBy::Memory) }
    }

    /// A value stands for itself: it is compared with the limit, and nothing is taken.
    fn admit_value(&self, asked: &Asked<'_>) -> Admission {
        let window = asked.window();
        let (key, window) = (asked.key(&window), window.bounds());
        if asked.meter.limit.ceiling().is_some_and(|ceiling| asked.units > ceiling) {
            let figures = self.value_figures(asked.meter, &key);
            let decision =
                Decision { reason: QuotaReason::LimitExceeded, decided_by: DecidedBy::Memory };
            return Admission::Denied(answer(asked.meter, Some(&window), figures, decision));
        }
        admitted_value(key, window, DecidedBy::Memory)
    }

    /// A value that this sidecar knows to be counted costs nothing; a new one is asked for once.
    async fn admit_distinct(&self, asked: &Asked<'_>) -> Result<Admission, EngineError> {
        let window = asked.window();
        let (key, window) = (asked.key(&window), window.bounds());
        let value = labelling::distinct_value(&asked.meter.meter, asked.said.properties)?;
        let (Some(value), Some(ceiling)) = (value, asked.meter.limit.ceiling()) else {
            return Ok(admitted_value(key, window, DecidedBy::Memory));
        };
        if self.values.knows(&key, value) {
            return Ok(admitted_value(key, window, DecidedBy::Memory));
        }
        let figures = |used| Figures { used, blocked: 0 };
        let untold_value = Some(self.leasing.untold_values.clone().read_owned().await);
        Ok(match self.leasing.admit_distinct(&key, value, ceiling).await {
            Some((true, _)) => Admission::Admitted(Admitted {
                _untold_value: untold_value,
                ..unleased(Place::Value { key, window }, self.leasing.asked())
            }),
            Some((false, count)) => {
                let decided_by = self.leasing.asked();
                let decision = Decision { reason: QuotaReason::LimitExceeded, decided_by };
                let denial = answer(asked.meter, Some(&window), figures(count), decision);
                Admission::Denied(denial)
            }
            None if asked.meter.limit.on_outage == OutagePolicy::Allow => {
                admitted_value(key, window, DecidedBy::Fallback)
            }
            None => {
                let used = self.value_figures(asked.meter, &key);
                Admission::Denied(denied_by_outage(asked, &window, used))
            }
        })
    }

    fn denied(&self, asked: &Asked<'_>, counter: &Counter, remaining: u64) -> QuotaAnswer {
        let decided_by = self.leasing.asked();
        let decision = Decision { reason: QuotaReason::LimitExceeded, decided_by };
        let denial = asked.answer(&counter.window, Figures::of(counter), decision);
        QuotaAnswer { remaining: Some(remaining), ..denial }
    }
}

fn admitted_value(key: CellKey, window: Bounds, decided_by: DecidedBy) -> Admission {
    Admission::Admitted(unleased(Place::Value { key, window }, decided_by))
}

fn unleased(place: Place, decided_by: DecidedBy) -> Admitted {
    Admitted {
        place,
        taken: None,
        covers: vec![],
        may_free: vec![],
        decided_by,
        _untold_value: None,
    }
}

fn denied_by_outage(asked: &Asked<'_>, window: &Bounds, figures: Figures) -> QuotaAnswer {
    let decision =
        Decision { reason: QuotaReason::DeniedByOutagePolicy, decided_by: DecidedBy::Fallback };
    answer(asked.meter, Some(window), figures, decision)
}
