//! `RecordUsage`: it used this much. All of a batch or nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    batch_keys::{batch_keys, refuse},
    counter::Counter,
    covering::{Lowered, may_free_parts, own_units},
    directory::{
        NoCounter,
        tenant_state::{TenantState, Terms},
    },
    engine::{Engine, effective_durability},
    error::EngineError,
    held::Held,
    labelling::{self, Findings, Refused},
    owed::Owed,
    pooled::NoDraw,
    repeats::{Asked, Begun, Patience},
    settling::{Counted, Settling},
};
use crate::{
    domain::{
        catalog::compiled_plan::{MeterIndex, PlanMeter},
        cell_key::CellKey,
        invalid::{Invalid, Problems},
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
    /// Index of what it has in common with its neighbours.
    common: usize,
    /// Where a level that goes down may come free.
    may_free: Vec<Arc<Counter>>,
    /// What is recorded on a pool.
    pooled: Option<Counted>,
}

/// What neighbours in a batch have in common that are of one tenant and meter and in one window:
/// most batches are of few.
#[derive(Clone)]
struct Common {
    state: Arc<TenantState>,
    /// As they were when the batch came.
    terms: Arc<Terms>,
    /// The tenant's.
    now: Timestamp,
    meter: MeterIndex,
    window: Window,
}

impl Common {
    fn meter(&self) -> &PlanMeter {
        &self.terms.plan.meters[self.meter.get()]
    }

    fn is_summed(&self) -> bool {
        self.meter().meter.is_summed()
    }

    fn is_bounded(&self) -> bool {
        self.terms.is_bounded(self.meter())
    }

    fn is_of(&self, report: &UsageReport) -> bool {
        (&self.terms.tenant.id, &self.meter().meter.name) == (&report.tenant, &report.meter)
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
        let (labelled, commons) = self.label_all(reports).await?;
        let is_bounded = commons.iter().any(Common::is_bounded);
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
        self.spread(&mut labelled, &commons, &holds).await?;
        let counters = self.counters_of(&labelled, &commons, &holds)?;
        let events = labelled.iter().map(|one| &one.event).collect();
        let pending = self.hand_over(RecordRef::Usage(events), durability)?;
        let counted = self.count(labelled, &commons, holds, counters, pending.position());
        settling.answered(|| None, Some(pending.place()));
        settling.counted(counted);
        Owed::new(self, pending, settling, accepted).acknowledged().await?;
        Ok(receipt)
    }

    async fn label_all(
        &self,
        reports: Vec<UsageReport>,
    ) -> Result<(Vec<Labelled>, Vec<Common>), EngineError> {
        let real_now = self.clock.now();
        let mut findings = Findings::default();
        let mut labelled = Vec::with_capacity(reports.len());
        let (mut commons, mut found): (Vec<Common>, _) = (vec![], None);
        for (number, report) in reports.into_iter().enumerate() {
            let known = commons.last().filter(|last| last.is_of(&report));
            let (is_known, common) = match known {
                Some(known) => (true, known),
                None => match self.common_of(&report, real_now).await? {
                    Ok(common) => (false, &*found.insert(common)),
                    Err(refused) => {
                        refused.into_iter().for_each(|refused| findings.add(number, refused));
                        continue;
                    }
                },
            };
            let (tenant, meter, near) = (&common.terms.tenant, common.meter(), common.window);
            match labelling::label(&self.config, tenant, meter, common.now, near, report) {
                Ok((event, window)) => {
                    if !is_known || window != near {
                        let common = Common { window, ..common.clone() };
                        commons.push(common);
                    }
                    let common = commons.len() - 1;
                    labelled.push(Labelled { event, common, may_free: vec![], pooled: None });
                }
                Err(invalid) => findings.add(number, Refused::Invalid(invalid)),
            }
        }
        match findings.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok((labelled, commons)),
        }
    }

    /// Finds tenant and meter of a report, or says what of them is unknown.
    async fn common_of(
        &self,
        report: &UsageReport,
        real_now: Timestamp,
    ) -> Result<Result<Common, Vec<Refused>>, EngineError> {
        let state = match self.tenant(&report.tenant, "tenant").await {
            Ok(state) => state,
            Err(EngineError::Unknown(unknown)) => {
                return Ok(Err(unknown.into_iter().map(Refused::Unknown).collect()));
            }
            Err(error) => return Err(error),
        };
        let terms = state.terms();
        let meter = match labelling::meter(&terms.plan, &terms.tenant, &report.meter) {
            Ok(meter) => meter,
            Err(refused) => return Ok(Err(vec![refused])),
        };
        let now = terms.tenant.now(real_now);
        let window = terms.tenant.subscription.schedule.window(meter.limit.period, now);
        let meter = meter.index;
        Ok(Ok(Common { state, terms, now, meter, window }))
    }

    /// Claims the keys. Answers what is left to record, how many were repeats, the claims, and the
    /// latest place in the journal of what is repeated.
    async fn claim_all(
        &self,
        mut labelled: Vec<Labelled>,
    ) -> Result<(Vec<Labelled>, usize, Settling, Option<RecordPlace>), EngineError> {
        let (firsts, mut drop_numbers) =
            batch_keys(&self.repeats, labelled.iter().map(|one| &one.event))?;
        let mut claim = self.repeats.no_claim();
        let mut conflicts = vec![];
        let mut latest: Option<RecordPlace> = None;
        let mut patience = Patience::default();
        let mut rest = firsts.as_slice();
        loop {
            let claimed = self.repeats.claim_fresh(&mut claim, rest, |one| (one.hash, one.asked()));
            let [next, others @ ..] = &rest[claimed..] else { break };
            rest = others;
            let (number, Asked { name, content }) = (next.number, next.asked());
            let (key, content) = ((name.tenant, name.key), content.kept());
            match self.claim(key, name.verb, &content, &mut patience).await? {
                Begun::Fresh(fresh) => claim.join(fresh),
                Begun::Repeat(first) => {
                    latest = latest.into_iter().chain(first.place).reduce(RecordPlace::and);
                    drop_numbers.push(number);
                }
                Begun::Conflict(other) => conflicts.push((number, other)),
            }
        }
        refuse(conflicts)?;
        let repeats = drop_numbers.len();
        if repeats > 0 {
            drop_numbers.sort_unstable();
            let mut number = 0..;
            labelled.retain(|_| {
                number.next().is_some_and(|number| drop_numbers.binary_search(&number).is_err())
            });
        }
        let claim = Some(claim).filter(|claim| !claim.is_empty());
        Ok((labelled, repeats, Settling::new(claim), latest))
    }

    /// Finds out what else than its own counter each event counts on: where a level comes free that
    /// goes down, and the pool that its tenant draws on.
    async fn spread(
        &self,
        labelled: &mut [Labelled],
        commons: &[Common],
        holds: &Settled<'_, Held>,
    ) -> Result<(), EngineError> {
        let mut number = 0;
        for same in labelled.chunk_by_mut(|one, next| one.common == next.common) {
            let [first, ..] = same else { continue };
            let common = &commons[first.common];
            let from = number;
            number += same.len();
            let terms = common.state.terms();
            let Some(meter) = terms.plan.meter(common.meter().meter.name.as_str()) else {
                continue;
            };
            let lowers = |one: &Labelled| one.event.counted() < 0;
            let is_alone = terms.pool(meter).is_none() && !same.iter().any(lowers);
            if is_alone || !common.is_summed() {
                continue;
            }
            for (number, one) in (from..).zip(same) {
                let window = holds.get(number).map_or(common.window, |hold| hold.taken.window);
                self.spread_one(one, (&common.state, &terms, meter), window).await?;
            }
        }
        Ok(())
    }

    async fn spread_one(
        &self,
        one: &mut Labelled,
        (state, terms, meter): (&Arc<TenantState>, &Terms, &PlanMeter),
        window: Window,
    ) -> Result<(), EngineError> {
        let (pool, past_pool) = match self.pool_draw(terms, meter, one.event.time).await {
            Ok(pool) => (pool, None),
            Err(NoDraw::Past(common)) => (None, Some(common)),
            Err(NoDraw::Failed(error)) => return Err(error),
        };
        if one.event.counted() < 0 {
            let subject = one.event.key.subject.as_ref();
            let lowered = Lowered { state, terms, meter, subject };
            let own = || state.counter_or_new(&one.event.key, window, None).ok();
            one.may_free = self.may_free(&lowered, pool.as_deref(), own);
            one.event.parts = may_free_parts(&one.may_free);
            return Ok(());
        }
        let common = pool.and_then(|pool| pool.counters.first().cloned());
        let Some(key) = common.as_ref().map(|counter| counter.key.clone()).or(past_pool) else {
            return Ok(());
        };
        let own = own_units(&one.event, counted_up(&one.event));
        // What a hold had taken from the plan's counter stays there.
        let units = own - one.event.from_lease.min(own);
        if units > 0 {
            one.event.parts.push(Part { key, units, recorded: units });
            one.pooled = common.map(|counter| Counted { counter, units });
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
        commons: &[Common],
        mut holds: Settled<'_, Held>,
        counters: Vec<Option<Arc<Counter>>>,
        position: Position,
    ) -> Vec<Counted> {
        let mut counted = Vec::new();
        let now = self.leasing.now();
        let mut last: Option<Recorded> = None;
        for ((number, one), counter) in labelled.into_iter().enumerate().zip(counters) {
            let common = &commons[one.common];
            if !common.is_summed() {
                self.values.observe(&one.event, !common.is_bounded());
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
                self.leasing.recorded(&pooled.counter);
                counted.push(pooled);
            }
            for counter in &one.may_free {
                counter.journalled(position.into(), now);
            }
            let Some(counter) = counter else { continue };
            let recorded = units - one.event.from_lease;
            last = match last.take() {
                Some(last) if Arc::ptr_eq(&last.counter, &counter) => {
                    Some(last.and(units, recorded))
                }
                other => {
                    counted.extend(other.map(|other| self.record_on(other, position, now)));
                    Some(Recorded { counter, units, recorded })
                }
            };
        }
        counted.extend(last.map(|last| self.record_on(last, position, now)));
        counted
    }

    fn record_on(&self, of: Recorded, position: Position, now: Duration) -> Counted {
        let Recorded { counter, units, recorded } = of;
        counter.cell.record(recorded);
        counter.journalled(position.into(), now);
        self.leasing.recorded(&counter);
        Counted { counter, units }
    }

    /// The counter of each event; `None` where there is nothing to count: the meter is not a sum,
    /// or the window is past and only the ledger has it still.
    fn counters_of(
        &self,
        labelled: &[Labelled],
        commons: &[Common],
        holds: &Settled<'_, Held>,
    ) -> Result<Vec<Option<Arc<Counter>>>, EngineError> {
        let mut counters = Vec::with_capacity(labelled.len());
        let mut last: Option<(&CellKey, Option<Arc<Counter>>)> = None;
        for (number, one) in labelled.iter().enumerate() {
            let (key, common) = (&one.event.key, &commons[one.common]);
            let counter = match (holds.get(number), &last) {
                (Some(hold), _) => Some(hold.taken.own.counter().clone()),
                (None, _) if !common.is_summed() => None,
                (None, Some((known, counter))) if *known == key => counter.clone(),
                (None, _) => {
                    let counter = self.counter_of(key, common)?;
                    last = Some((key, counter.clone()));
                    counter
                }
            };
            counters.push(counter);
        }
        Ok(counters)
    }

    fn counter_of(
        &self,
        key: &CellKey,
        common: &Common,
    ) -> Result<Option<Arc<Counter>>, EngineError> {
        if let Some(counter) = common.state.counter(key) {
            return Ok(Some(counter));
        }
        // What is kept shares the tenant's name with all else that is kept of it.
        let kept = CellKey { tenant: common.terms.tenant.id.clone(), ..key.clone() };
        // Without subjects, the age that an event may have bounds the number of windows.
        let meter_max = key.subject.as_ref().map(|_| self.config.subjects_max);
        match common.state.counter_or_new(&kept, common.window, meter_max) {
            Ok(counter) => Ok(Some(counter)),
            Err(NoCounter::Past) => Ok(None),
            Err(NoCounter::TooMany) => Err(self.too_many_counters(key)),
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

/// Units that one counter is told of at once.
struct Recorded {
    counter: Arc<Counter>,
    units: u64,
    /// Those that no escrow covers.
    recorded: u64,
}

impl Recorded {
    /// As many again. Counters wrap too.
    fn and(self, units: u64, recorded: u64) -> Self {
        let units = self.units.wrapping_add(units);
        Self { units, recorded: self.recorded.wrapping_add(recorded), ..self }
    }
}
