//! `GetUsage`: how much a tenant has used.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    answer::{Figures, overage, remaining},
    counter::Counter,
    directory::tenant_state::{TenantState, Terms},
    engine::Engine,
    error::EngineError,
    labelling,
    pool_draw::PoolDraw,
};
use crate::domain::{
    catalog::compiled_plan::PlanMeter,
    cell_key::CellKey,
    ids::Subject,
    meter::{Aggregation, MeterKind},
    usage_status::{GrantStatus, MeterStatus, PoolStatus, UsageQuery, UsageStatus},
};

impl Engine {
    /// Usage in the current windows: asked of the shared counters where they can be reached, and
    /// else as of the last time they were.
    pub async fn get_usage(&self, query: &UsageQuery) -> Result<UsageStatus, EngineError> {
        self.usage_as_of(query, Duration::ZERO).await
    }

    /// As [`Engine::get_usage`], without asking the shared counters about what they have told
    /// within `fresh_for`.
    pub(super) async fn usage_as_of(
        &self,
        query: &UsageQuery,
        fresh_for: Duration,
    ) -> Result<UsageStatus, EngineError> {
        self.check_open()?;
        let state = self.tenant(&query.tenant, "tenant").await?;
        let terms = state.terms();
        let now = terms.tenant.now(self.clock.now());
        let asked: Vec<&PlanMeter> = if query.meters.is_empty() {
            let per_subject = query.subject.is_some();
            terms.plan.meters.iter().filter(|m| !m.limit.per_subject || per_subject).collect()
        } else {
            let find = |(number, name)| {
                let found = labelling::meter(&terms.plan, &terms.tenant, name);
                found.map_err(|refused| refused.at(format!("meters[{number}]")))
            };
            query.meters.iter().enumerate().map(find).collect::<Result<_, _>>()?
        };
        let mut meters = Vec::with_capacity(asked.len());
        let mut alerts = vec![];
        for meter in asked {
            let subject = labelling::counted_subject(meter, query.subject.as_ref())?;
            let asked = AskedMeter { state: &state, terms: &terms, meter, subject, now, fresh_for };
            let status = self.meter_status(asked).await?;
            alerts.extend(self.alerts.of(&terms, meter, &status));
            meters.push(status);
        }
        Ok(UsageStatus { as_of: now, meters, alerts })
    }

    async fn meter_status(&self, asked: AskedMeter<'_>) -> Result<MeterStatus, EngineError> {
        let AskedMeter { state, terms, meter, subject, now, fresh_for } = asked;
        let window = terms.tenant.subscription.schedule.window(meter.limit.period, now);
        let key = CellKey {
            tenant: terms.tenant.id.clone(),
            meter: meter.meter.name.clone(),
            subject,
            label: window.label,
        };
        let counted = match (meter.meter.kind, meter.meter.is_summed()) {
            (MeterKind::Static, _) => Counted::default(),
            (_, true) => {
                let subjects_max = key.subject.as_ref().map(|_| self.config.subjects_max);
                let counter = state
                    .counter_or_new(&key, window, subjects_max)
                    .map_err(|_| self.too_many_counters(&key))?;
                let age = counter.answer_age(self.leasing.now());
                if age.is_none_or(|age| age >= fresh_for) {
                    self.leasing.refresh(&counter, self.config.look_wait()).await;
                }
                let figures = Figures::of(&counter);
                let unsettled = counter.look_at_slow(|slow| slow.holder.unsettled(&counter.cell));
                Counted {
                    debt: u64::try_from(-counter.cell.used()).unwrap_or(0),
                    figures,
                    reserved: counter.reserved.load(std::sync::atomic::Ordering::Relaxed),
                    forfeited: counter.cell.forfeited(),
                    unsettled,
                    settled_at: self.settled_at(&counter),
                }
            }
            (_, false) => Counted {
                figures: self.settled_value(meter, &key).await,
                settled_at: Some(self.clock.now()),
                ..Counted::default()
            },
        };
        let used = counted.figures.used.cast_signed() - counted.debt.cast_signed();
        let grants = self.grant_statuses(state, terms, meter, key.subject.as_ref(), now).await;
        let granted =
            grants.iter().map(|grant| grant.remaining).fold(counted.debt, u64::saturating_add);
        let pool = self.pool_status(terms, meter, now).await?;
        let (limit, left) = match &pool {
            Some(pool) => (Some(pool.limit), Some(pool.remaining)),
            None => (meter.limit.amount, remaining(meter, counted.figures)),
        };
        Ok(MeterStatus {
            meter: key.meter,
            subject: key.subject,
            unit: meter.meter.unit.clone(),
            display_unit: meter.display_unit.clone(),
            kind: meter.meter.kind,
            enforcement: meter.limit.enforcement,
            limit,
            used,
            remaining: left.map(|left| left.saturating_add(granted)),
            overage: overage(meter, counted.figures.used),
            reserved: counted.reserved,
            forfeited: counted.forfeited,
            settled: used.saturating_sub(counted.unsettled),
            unsettled: counted.unsettled,
            settled_at: match &pool {
                Some(pool) => counted.settled_at.min(pool.settled_at),
                None => counted.settled_at,
            },
            window,
            grants,
            pool,
        })
    }

    async fn pool_status(
        &self,
        terms: &Terms,
        meter: &PlanMeter,
        now: Timestamp,
    ) -> Result<Option<PoolStatus>, EngineError> {
        let Some(draw) = self.pool_draw(terms, meter, now).await? else { return Ok(None) };
        let Some(label) = draw.counters.first().map(|counter| counter.key.label) else {
            return Ok(None);
        };
        for counter in &draw.counters {
            self.freshen(counter).await;
        }
        Ok(Some(PoolStatus {
            id: draw.share.pool,
            limit: draw.share.units,
            used: draw.figures().used,
            remaining: draw.left(),
            label,
            forfeited: draw.counters.iter().map(|counter| counter.cell.forfeited()).sum(),
            resets_at: draw.window_end(),
            settled_at: draw
                .counters
                .iter()
                .map(|counter| self.settled_at(counter))
                .min()
                .flatten(),
            member_used: self.member_used(terms, &draw).await,
            class: draw.class.clone(),
        }))
    }

    /// What a tenant has used of the pool, in the pool's window.
    async fn member_used(&self, terms: &Terms, draw: &PoolDraw) -> Option<u64> {
        let label = draw.counters.first()?.key.label.to_string();
        let used = self.directory.ledger()?.pool_used(&terms.tenant.id, draw.share.pool, &label);
        let used = tokio::time::timeout(self.config.look_wait(), used).await.ok()?.ok()?;
        // A level that went down by more than it went up in the pool is a debt, and shows as 0.
        Some(u64::try_from(used).unwrap_or(0))
    }

    async fn grant_statuses(
        &self,
        state: &TenantState,
        terms: &Terms,
        meter: &PlanMeter,
        subject: Option<&Subject>,
        now: Timestamp,
    ) -> Vec<GrantStatus> {
        let mut statuses = Vec::new();
        for grant in terms.grants(meter, subject).filter(|grant| grant.is_in_force(now)) {
            // A window that was dropped because it is over has nothing to show.
            let Ok(counter) = state.grant_counter(terms, grant, now) else { continue };
            self.freshen(&counter).await;
            let Figures { used, blocked } = Figures::of(&counter);
            statuses.push(GrantStatus {
                id: grant.id,
                kind: grant.kind,
                subject: grant.subject.clone(),
                amount: grant.amount,
                used,
                remaining: grant.amount.saturating_sub(used).saturating_sub(blocked),
                forfeited: counter.cell.forfeited(),
                expires_at: counter.window.end().or(grant.expires_at),
            });
        }
        statuses
    }

    fn settled_at(&self, counter: &Counter) -> Option<Timestamp> {
        let age = SignedDuration::try_from(counter.answer_age(self.leasing.now())?).ok()?;
        self.clock.now().checked_sub(age).ok()
    }

    /// What this sidecar has seen of a value meter since it started.
    pub(super) fn value_figures(&self, meter: &PlanMeter, key: &CellKey) -> Figures {
        let seen = self.values.get(key);
        let used = seen.map_or(0, |value| match meter.meter.aggregation {
            Aggregation::Max => value.max,
            Aggregation::Last => value.last,
            Aggregation::DistinctCount => value.distinct,
            Aggregation::Sum | Aggregation::Count => 0,
        });
        Figures { used, blocked: 0 }
    }

    /// A value meter as the ledger has it, and what this sidecar has seen since.
    async fn settled_value(&self, meter: &PlanMeter, key: &CellKey) -> Figures {
        let seen = self.values.get(key);
        let ledger = self.leasing.floors.value(key).await;
        let used = match (meter.meter.aggregation, ledger, seen) {
            (_, None, None) => 0,
            (_, None, Some(_)) => return self.value_figures(meter, key),
            (Aggregation::Max, Some(ledger), seen) => ledger.max.max(seen.map_or(0, |s| s.max)),
            (Aggregation::Last, Some(ledger), _) => ledger.last,
            (_, Some(ledger), seen) => ledger.distinct.max(seen.map_or(0, |s| s.distinct)),
        };
        Figures { used, blocked: 0 }
    }
}

/// A meter whose status is asked for.
struct AskedMeter<'a> {
    state: &'a TenantState,
    terms: &'a Terms,
    meter: &'a PlanMeter,
    subject: Option<Subject>,
    now: Timestamp,
    fresh_for: Duration,
}

#[derive(Default)]
struct Counted {
    figures: Figures,
    /// What the counter stands below 0.
    debt: u64,
    reserved: u64,
    forfeited: u64,
    unsettled: i64,
    settled_at: Option<Timestamp>,
}
