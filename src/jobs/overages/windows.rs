//! Counters: one charge for each window.

use jiff::Timestamp;

use super::{charge::ClosedWindow, clock::BillingClock, pass::Pass, plans::BilledPlan};
use crate::{
    domain::{
        distinct::DistinctCount,
        invalid::Invalid,
        meter::{Aggregation, MeterKind},
        period::Period,
        window::Window,
    },
    jobs::error::JobError,
    ledger::{
        billable_usage::WindowUsage,
        charges::Charge,
        subscribers::{Subscriber, Terms},
    },
    pricing::closing::Closing,
};

/// A window that is charged: its bounds, and the terms in force at its end.
pub(super) struct EndedWindow<'a> {
    pub(super) terms: &'a Terms,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) closing: Closing,
}

impl Pass {
    /// The charges that are due for one counter: of a window at most one, of a level one for each
    /// month. What cannot be charged is tallied and left.
    pub(super) async fn charges_for(
        &mut self,
        subscriber: &Subscriber,
        usage: &WindowUsage,
        clock: BillingClock,
    ) -> Result<Vec<Charge>, JobError> {
        if usage.key.label.period == Period::Lifetime {
            if self.only_found.is_some() {
                let left_out = self.left_out_months(subscriber, &usage.key).await?;
                self.left_out.extend(left_out);
            }
            return self.level_charges(subscriber, usage, clock).await;
        }
        let label = usage.key.label;
        let schedule = subscriber.schedule_version(label.anchor_version);
        let Some(window) = schedule.and_then(|schedule| schedule.window_of_label(label)) else {
            self.tally.problem(&usage.key, "no schedule of the tenant ever had this window");
            return Ok(Vec::new());
        };
        let charge = self.window_charge(subscriber, usage, window, clock).await?;
        Ok(charge.into_iter().collect())
    }

    async fn window_charge(
        &mut self,
        subscriber: &Subscriber,
        usage: &WindowUsage,
        window: Window,
        clock: BillingClock,
    ) -> Result<Option<Charge>, JobError> {
        let Some(window_end) = window.end else { return Ok(None) };
        // A schedule that was replaced ends its windows: a new one counts from there.
        let replaced_at = subscriber.schedule_replaced_at(window.label.anchor_version);
        let end = replaced_at.filter(|at| *at > window.start).unwrap_or(window_end).min(window_end);
        let closing = match clock.closing(subscriber, end) {
            None => return Ok(None),
            Some(Closing::Open) => {
                self.tally.not_closed();
                return Ok(None);
            }
            Some(closing) => closing,
        };
        let Some(terms) = subscriber.terms_until(end) else { return Ok(None) };
        let plan = self.plans.get(&self.ledger, &terms.plan).await?;
        let ended = EndedWindow { terms, start: window.start, end, closing };
        self.charge_of_window(subscriber, usage, ended, &plan).await
    }

    /// The charge of a window by `plan`, if that has an overage price for the meter.
    pub(super) async fn charge_of_window(
        &mut self,
        subscriber: &Subscriber,
        usage: &WindowUsage,
        ended: EndedWindow<'_>,
        plan: &BilledPlan,
    ) -> Result<Option<Charge>, JobError> {
        let Some(meter) = plan.meter(&usage.key.meter) else { return Ok(None) };
        let Some(price) = &meter.overage else { return Ok(None) };
        let aggregation = meter.meter.aggregation;
        if meter.meter.kind != MeterKind::Counter {
            self.tally.problem(&usage.key, "a level in a window that ends");
            return Ok(None);
        }
        let (used, used_by_value) = match &price.by_property {
            None => match used(usage, aggregation) {
                Ok(used) => (used, Vec::new()),
                Err(problem) => {
                    self.tally.problem(&usage.key, problem);
                    return Ok(None);
                }
            },
            Some(by) if meter.meter.is_summed() => {
                let by_events = aggregation == Aggregation::Count;
                // With the total of the same moment: usage that comes late may have come since the
                // page of windows was read.
                let parts =
                    self.ledger.usage_by_property(&usage.key, &by.property, by_events).await?;
                (u64::try_from(parts.used).unwrap_or(0), parts.by_value)
            }
            Some(_) => {
                let problem = "a price by property of a meter that is not a sum";
                self.tally.problem(&usage.key, problem);
                return Ok(None);
            }
        };
        let closed = ClosedWindow {
            subscriber,
            terms: ended.terms,
            key: usage.key.clone(),
            start: ended.start,
            end: ended.end,
            used,
            used_by_value,
            billed_on: None,
            closing: ended.closing,
            closed_at: self.context.real_now,
        };
        Ok(closed.charge(plan).unwrap_or_else(|problem| {
            self.tally.problem(&usage.key, problem);
            None
        }))
    }
}

/// Base units used in a window; what would be below zero counts as nothing.
fn used(usage: &WindowUsage, aggregation: Aggregation) -> Result<u64, Invalid> {
    let used = match aggregation {
        Aggregation::Sum | Aggregation::Count => usage.used,
        Aggregation::Max => usage.amount_max.unwrap_or(0),
        Aggregation::Last => usage.last_amount.unwrap_or(0),
        Aggregation::DistinctCount => {
            let sketch = usage.distinct_sketch.as_deref().map(DistinctCount::from_bytes);
            return Ok(sketch.transpose()?.map_or(0, |distinct| distinct.count()));
        }
    };
    Ok(u64::try_from(used).unwrap_or(0))
}
