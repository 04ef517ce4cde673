//! `RecordUsage`: it used this much. All of a batch or nothing.

use std::{sync::Arc, time::Instant};

use super::{
    counter::Counter,
    covering::{Lowered, may_free_parts, own_units},
    directory::NoCounter,
    engine::{Engine, effective_durability},
    error::{EngineError, Unknown},
    held::Held,
    labelling::{self, Refused},
    owed::Owed,
    pooled::NoDraw,
    quota::conflict,
    repeats::{Begun, Content, Patience, Verb},
    settling::{Counted, Settling},
};
use crate::{
    domain::{
        cell_key::CellKey,
        invalid::{Invalid, Problems},
        meter::Meter,
        reservation::ReservationId,
        usage::{Durability, Part, RecordReceipt, UsageEvent, UsageReport},
        window::Window,
    },
    journal::{
        position::{Position, RecordPlace},
        record::RecordRef,
    },
    leases::holds::Settled,
};

/// One report on its way through.
struct Labelled {
    event: UsageEvent,
    window: Window,
    is_bounded: bool,
    state: Arc<super::directory::tenant_state::TenantState>,
    is_summed: bool,
    /// Where a level that goes down may come free.
    may_free: Vec<Arc<Counter>>,
    /// What is recorded on a pool.
    pooled: Option<Counted>,
}

/// What is wrong with a batch, and what is unknown in it.
#[derive(Default)]
struct Findings {
    problems: Problems,
    unknown: Vec<Unknown>,
}

impl Findings {
    fn add(&mut self, number: usize, refused: Refused) {
        let prefix = format!("events[{number}]");
        match refused {
            Refused::Invalid(invalid) => self.problems.push(invalid.within(&prefix)),
            Refused::Unknown(unknown) => {
                if self.unknown.len() < crate::domain::invalid::PROBLEMS_LISTED_MAX {
                    let field = format!("{prefix}.{}", unknown.field);
                    self.unknown.push(Unknown { field, ..unknown });
                }
            }
        }
    }
}

impl Engine {
    /// Records what was used. Limits are not asked: it has happened.
    ///
    /// One invalid event refuses the batch, and every problem is told. Events whose keys this
    /// sidecar knows are not recorded again.
    pub async fn record_usage(
        &self,
        reports: Vec<UsageReport>,
        durability: Option<Durability>,
    ) -> Result<RecordReceipt, EngineError> {
        let began = Instant::now();
        let receipt = self.take_in(reports, durability).await?;
        self.metrics.recorded(receipt, began.elapsed());
        Ok(receipt)
    }

    async fn take_in(
        &self,
        reports: Vec<UsageReport>,
        durability: Option<Durability>,
    ) -> Result<RecordReceipt, EngineError> {
        self.check_open()?;
        let labelled = self.label_all(reports).await?;
        let is_bounded = labelled.iter().any(|one| one.is_bounded);
        let durability = effective_durability(durability, self.config.durability, is_bounded)?;
        let (labelled, repeats, mut settling, latest) = self.claim_all(labelled).await?;
        let (accepted, duplicates) = (labelled.len() as u64, repeats as u64);
        let receipt = RecordReceipt { accepted, duplicates, late: 0 };
        if let Some(place) = latest {
            Box::pin(self.wait_durable(place, durability)).await?;
        }
        if labelled.is_empty() {
            return Ok(receipt);
        }
        let (mut labelled, holds) = self.settle_holds(labelled)?;
        let late = labelled.iter().enumerate().filter(|(number, one)| {
            one.event.reservation.is_some() && holds.get(*number).is_none()
        });
        let receipt = RecordReceipt { late: late.count() as u64, ..receipt };
        self.spread(&mut labelled).await?;
        let counters = self.counters_of(&labelled, &holds)?;
        let events = labelled.iter().map(|one| &one.event).collect();
        let pending = self.hand_over(RecordRef::Usage(events), durability)?;
        let counted = self.count(labelled, holds, counters, pending.position());
        settling.answered(|| None, Some(pending.place()));
        settling.counted(counted);
        Owed::new(self, pending, settling, accepted).acknowledged().await?;
        Ok(receipt)
    }

    async fn label_all(&self, reports: Vec<UsageReport>) -> Result<Vec<Labelled>, EngineError> {
        let real_now = self.clock.now();
        let mut findings = Findings::default();
        let mut labelled = Vec::with_capacity(reports.len());
        for (number, report) in reports.into_iter().enumerate() {
            let state = match self.tenant(&report.tenant, "tenant").await {
                Ok(state) => state,
                Err(EngineError::Unknown(unknown)) => {
                    unknown.into_iter().for_each(|u| findings.add(number, Refused::Unknown(u)));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let terms = state.terms();
            let now = terms.tenant.now(real_now);
            let meter = terms.plan.meter(report.meter.as_str());
            let is_bounded = meter.is_some_and(|meter| terms.is_bounded(meter));
            let is_summed = meter.is_some_and(|meter| Meter::is_summed(&meter.meter));
            match labelling::label(&self.config, &terms.tenant, &terms.plan, now, report) {
                Ok((event, window)) => {
                    let (may_free, pooled) = (vec![], None);
                    labelled.push(Labelled {
                        event,
                        window,
                        is_bounded,
                        state,
                        is_summed,
                        may_free,
                        pooled,
                    });
                }
                Err(refused) => findings.add(number, refused),
            }
        }
        match EngineError::refusal(findings.problems, findings.unknown) {
            Some(refusal) => Err(refusal),
            None => Ok(labelled),
        }
    }

    /// Claims the keys. Answers what is left to record, how many were repeats, the claims, and the
    /// latest place in the journal of what is repeated.
    async fn claim_all(
        &self,
        labelled: Vec<Labelled>,
    ) -> Result<(Vec<Labelled>, usize, Settling, Option<RecordPlace>), EngineError> {
        let (firsts, mut drop_numbers) = batch_keys(&labelled)?;
        let mut claims = Vec::with_capacity(firsts.len());
        let mut conflicts = Problems::default();
        let mut latest: Option<RecordPlace> = None;
        let mut patience = Patience::default();
        for number in firsts {
            let event = &labelled[number].event;
            let Some(key) = &event.idempotency_key else { continue };
            let (key, content) = ((&event.key.tenant, key), content(event));
            match self.claim(key, Verb::Use, &content, &mut patience).await? {
                Begun::Fresh(claim) => claims.push(claim),
                Begun::Repeat(first) => {
                    latest = latest.into_iter().chain(first.place).reduce(RecordPlace::and);
                    drop_numbers.push(number);
                }
                Begun::Conflict(other) => {
                    conflicts.push(conflict(&format!("events[{number}].idempotency_key"), &other));
                }
            }
        }
        if !conflicts.is_empty() {
            return Err(EngineError::IdempotencyConflict(conflicts));
        }
        drop_numbers.sort_unstable();
        let repeats = drop_numbers.len();
        let kept = labelled
            .into_iter()
            .enumerate()
            .filter(|(number, _)| drop_numbers.binary_search(number).is_err())
            .map(|(_, one)| one)
            .collect();
        Ok((kept, repeats, Settling::new(claims), latest))
    }

    /// Finds out what else than its own counter each event counts on: where a level comes free that
    /// goes down, and the pool that its tenant draws on.
    async fn spread(&self, labelled: &mut [Labelled]) -> Result<(), EngineError> {
        for one in labelled.iter_mut().filter(|one| one.is_summed) {
            let terms = one.state.terms();
            let Some(meter) = terms.plan.meter(one.event.key.meter.as_str()) else { continue };
            let (pool, past_pool) = match self.pool_draw(&terms, meter, one.event.time).await {
                Ok(pool) => (pool, None),
                Err(NoDraw::Past(common)) => (None, Some(common)),
                Err(NoDraw::Failed(error)) => return Err(error),
            };
            let lowers = one.event.counted().min(0).unsigned_abs();
            if lowers > 0 {
                let subject = one.event.key.subject.as_ref();
                let lowered = Lowered { state: &one.state, terms: &terms, meter, subject };
                let own = || one.state.counter_or_new(&one.event.key, one.window, None).ok();
                one.may_free = self.may_free(&lowered, pool.as_deref(), own);
                one.event.parts = may_free_parts(&one.may_free);
                continue;
            }
            let common = pool.and_then(|pool| pool.counters.first().cloned());
            let Some(key) = common.as_ref().map(|counter| counter.key.clone()).or(past_pool) else {
                continue;
            };
            let own = own_units(&one.event, counted_up(&one.event));
            // What a hold had taken from the plan's counter stays there.
            let units = own - one.event.from_lease.min(own);
            if units > 0 {
                one.event.parts.push(Part { key, units, recorded: units });
                one.pooled = common.map(|counter| Counted { counter, units });
            }
        }
        Ok(())
    }

    /// Takes out the holds that the events settle; each event then belongs to its hold's window.
    fn settle_holds(
        &self,
        mut labelled: Vec<Labelled>,
    ) -> Result<(Vec<Labelled>, Settled<'_, Held>), EngineError> {
        let mut holds = Settled::none(&self.holds);
        let mut problems = Problems::default();
        for (number, one) in labelled.iter_mut().enumerate() {
            let Some(id) = one.event.reservation else { continue };
            let hold = match self.has_hold(id, &one.event) {
                Ok(true) => holds.take(number, id.number),
                Ok(false) => None,
                Err(invalid) => {
                    problems.push(invalid.within(&format!("events[{number}]")));
                    continue;
                }
            };
            let Some(hold) = hold else {
                self.metrics.events_late.increment(1);
                continue;
            };
            one.event.key.label = hold.taken.key.label;
            one.window = hold.taken.window;
            let units = counted_up(&one.event);
            hold.taken.share_out(&mut one.event, units);
        }
        match problems.is_empty() {
            true => Ok((labelled, holds)),
            false => Err(EngineError::InvalidRequest(problems)),
        }
    }

    /// Whether this run keeps the hold; if it has ended, or another run keeps it, the usage is
    /// recorded as late.
    fn has_hold(&self, id: ReservationId, event: &UsageEvent) -> Result<bool, Invalid> {
        if id.run != self.run {
            return Ok(false);
        }
        let fits = self.holds.peek(id.number, |hold| {
            let held = &hold.taken.key;
            held.tenant == event.key.tenant
                && held.meter == event.key.meter
                && held.subject == event.key.subject
        });
        match fits {
            Some(true) => Ok(true),
            None => Ok(false),
            Some(false) => Err(Invalid::new(
                "reservation_id",
                "is of another tenant, meter or subject",
                "settle a reservation with usage of what was reserved",
            )),
        }
    }

    /// Counts what the journal now has.
    fn count(
        &self,
        labelled: Vec<Labelled>,
        mut holds: Settled<'_, Held>,
        counters: Vec<Option<Arc<Counter>>>,
        position: Position,
    ) -> Vec<Counted> {
        let mut counted = Vec::with_capacity(counters.len());
        let now = self.leasing.now();
        for ((number, one), counter) in labelled.into_iter().enumerate().zip(counters) {
            if !one.is_summed {
                self.values.observe(&one.event, !one.is_bounded);
            }
            let units = own_units(&one.event, counted_up(&one.event));
            if let Some(hold) = holds.end(number) {
                for (cover, part) in hold.taken.covers.iter().zip(&one.event.parts) {
                    cover.counter().journalled(position.into(), now);
                    counted.push(Counted { counter: cover.counter().clone(), units: part.units });
                }
                hold.taken.unreserve();
                hold.taken.spend(counted_up(&one.event));
            }
            if let Some(pooled) = one.pooled {
                pooled.counter.cell.record(pooled.units);
                pooled.counter.journalled(position.into(), now);
                self.leasing.spent(&pooled.counter);
                counted.push(pooled);
            }
            for counter in &one.may_free {
                counter.journalled(position.into(), now);
            }
            let Some(counter) = counter else { continue };
            counter.cell.record(units - one.event.from_lease);
            counter.journalled(position.into(), now);
            self.leasing.spent(&counter);
            counted.push(Counted { counter, units });
        }
        counted
    }

    /// The counter of each event; `None` where there is nothing to count: the meter is not a sum,
    /// or the window is past and only the ledger has it still.
    fn counters_of(
        &self,
        labelled: &[Labelled],
        holds: &Settled<'_, Held>,
    ) -> Result<Vec<Option<Arc<Counter>>>, EngineError> {
        let mut counters = Vec::with_capacity(labelled.len());
        for (number, one) in labelled.iter().enumerate() {
            counters.push(match holds.get(number) {
                Some(hold) => Some(hold.taken.own.counter().clone()),
                None if one.is_summed => self.counter_of(one)?,
                None => None,
            });
        }
        Ok(counters)
    }

    fn counter_of(&self, one: &Labelled) -> Result<Option<Arc<Counter>>, EngineError> {
        // Without subjects, the age that an event may have bounds the number of windows.
        let meter_max = one.event.key.subject.as_ref().map(|_| self.config.subjects_max);
        match one.state.counter_or_new(&one.event.key, one.window, meter_max) {
            Ok(counter) => Ok(Some(counter)),
            Err(NoCounter::Past) => Ok(None),
            Err(NoCounter::TooMany) => Err(self.too_many_counters(&one.event.key)),
        }
    }

    pub(super) fn too_many_counters(&self, key: &CellKey) -> EngineError {
        let bound = self.config.subjects_max;
        tracing::warn!(%key, bound, "too many live counters");
        EngineError::Overloaded { what: "subjects and past windows of a meter", bound }
    }
}

/// Units that an event adds; 0 when it lowers a level, which counts once the ledger has it.
fn counted_up(event: &UsageEvent) -> u64 {
    u64::try_from(event.counted()).unwrap_or(0)
}

/// The numbers of the events that are the first of the batch with their keys, in an order that all
/// batches share: two batches that have keys in common claim them in the same order, so neither
/// waits for the other for ever. And the numbers of those that repeat an earlier one.
fn batch_keys(labelled: &[Labelled]) -> Result<(Vec<usize>, Vec<usize>), EngineError> {
    let key = |number: &usize| {
        let event = &labelled[*number].event;
        (&event.key.tenant, &event.idempotency_key)
    };
    let mut numbers: Vec<_> = (0..labelled.len())
        .filter(|number| labelled[*number].event.idempotency_key.is_some())
        .collect();
    numbers.sort_by(|a, b| key(a).cmp(&key(b)));
    let (mut firsts, mut repeated, mut conflicting) = (Vec::new(), vec![], vec![]);
    firsts.reserve_exact(numbers.len());
    for same in numbers.chunk_by(|a, b| key(a) == key(b)) {
        let [first, others @ ..] = same else { continue };
        firsts.push(*first);
        for other in others {
            match is_same_content(&labelled[*first].event, &labelled[*other].event) {
                true => repeated.push(*other),
                false => conflicting.push((*other, *first)),
            }
        }
    }
    if conflicting.is_empty() {
        return Ok((firsts, repeated));
    }
    conflicting.sort_unstable();
    let mut conflicts = Problems::default();
    for (number, first) in conflicting {
        let content = content(&labelled[first].event);
        conflicts.push(conflict(&format!("events[{number}].idempotency_key"), &content));
    }
    Err(EngineError::IdempotencyConflict(conflicts))
}

/// What a key stands for that comes with the event.
fn content(event: &UsageEvent) -> Content {
    Content::Units {
        meter: event.key.meter.clone(),
        subject: event.key.subject.clone(),
        amount: event.amount,
    }
}

fn is_same_content(one: &UsageEvent, other: &UsageEvent) -> bool {
    (&one.key.meter, &one.key.subject, one.amount)
        == (&other.key.meter, &other.key.subject, other.amount)
}
