//! Levels (seats, stored bytes): one charge for each month on the billing anchor, on the level's
//! peak in it or on where it ended, as the catalog says.

use jiff::Timestamp;

use super::{
    charge::{ClosedWindow, KIND},
    clock::BillingClock,
    pass::Pass,
    plans::BilledPlan,
};
use crate::{
    domain::{
        catalog::meters::LevelBilling,
        cell_key::CellKey,
        period::Period,
        window::{BillingInterval, WindowSchedule},
    },
    jobs::error::JobError,
    ledger::{
        billable_usage::WindowUsage,
        charges::Charge,
        subscribers::{Subscriber, Terms},
    },
    pricing::{
        closing::Closing,
        level::{LevelChange, level_over},
    },
};

/// Most months of one level that one run charges; a test clock may have jumped far.
const MONTHS_MAX: usize = 1_200;

impl Pass {
    pub(super) async fn level_charges(
        &mut self,
        subscriber: &Subscriber,
        usage: &WindowUsage,
        clock: BillingClock,
    ) -> Result<Vec<Charge>, JobError> {
        let key = &usage.key;
        let charged_through = self.ledger.charged_through(key, KIND).await?;
        let upcoming = charged_through.and_then(|through| month_at(subscriber, key, through));
        if upcoming.is_some_and(|month| clock.closing(subscriber, month.end).is_none()) {
            // By far the most common case: the level is charged up to the month that goes on.
            return Ok(Vec::new());
        }
        let from = charged_through.unwrap_or(Timestamp::UNIX_EPOCH);
        let changes = self.ledger.level_changes(key, from).await?;
        let changes: Vec<LevelChange> = changes
            .into_iter()
            .map(|change| LevelChange { hour: change.hour, delta: change.delta })
            .collect();
        let Some(first) = changes.first() else { return Ok(Vec::new()) };
        let mut next = month_at(subscriber, key, charged_through.unwrap_or(first.hour));
        if let (Some(month), Some(through)) = (&mut next, charged_through) {
            // An anchor that moved starts a month in the middle of one that is charged already: no
            // time is charged twice.
            month.start = month.start.max(through);
        }
        let mut charges = Vec::new();
        for _ in 0..MONTHS_MAX {
            let Some(month) = next else { break };
            let closing = match clock.closing(subscriber, month.end) {
                None => break,
                Some(Closing::Open) => {
                    self.tally.not_closed();
                    break;
                }
                Some(closing) => closing,
            };
            charges.extend(self.month_charge(subscriber, month.clone(), &changes, closing).await?);
            next = month_at(subscriber, key, month.end)
                .map(|after| Month { start: month.end, ..after });
        }
        Ok(charges)
    }

    /// The charges of months that have none though later ones are charged: a run goes on where the last
    /// charge ends.
    pub(super) async fn left_out_months(
        &mut self,
        subscriber: &Subscriber,
        level: &CellKey,
    ) -> Result<Vec<Charge>, JobError> {
        let charged = self.ledger.charged_periods(level, KIND).await?;
        let Some((charged_from, _)) = charged.first().copied() else { return Ok(Vec::new()) };
        let mut gaps = Vec::new();
        let before = self.ledger.level_changes(level, charged_from).await?;
        let first = before.first().and_then(|first| month_at(subscriber, level, first.hour));
        gaps.extend(first.map(|month| (month.start, charged_from)));
        gaps.extend(charged.iter().zip(charged.iter().skip(1)).map(|(one, next)| (one.1, next.0)));
        gaps.retain(|(from, to)| from < to);
        let Some((from, _)) = gaps.first().copied() else { return Ok(Vec::new()) };
        let changes = self.ledger.level_changes(level, from).await?;
        let changes: Vec<LevelChange> = changes
            .into_iter()
            .map(|change| LevelChange { hour: change.hour, delta: change.delta })
            .collect();
        let mut charges = Vec::new();
        for (from, to) in gaps {
            let month_from =
                |at| month_at(subscriber, level, at).map(|month| Month { start: at, ..month });
            let mut next = month_from(from);
            for _ in 0..MONTHS_MAX {
                let Some(month) = next.take_if(|month| month.end <= to) else { break };
                next = month_from(month.end);
                charges.extend(
                    self.month_charge(subscriber, month, &changes, Closing::ByMarks).await?,
                );
            }
        }
        Ok(charges)
    }

    async fn month_charge(
        &mut self,
        subscriber: &Subscriber,
        month: Month,
        changes: &[LevelChange],
        closing: Closing,
    ) -> Result<Option<Charge>, JobError> {
        let Some(terms) = subscriber.terms_until(month.end) else { return Ok(None) };
        let plan = self.plans.get(&self.ledger, &terms.plan).await?;
        Ok(self.charge_of_month((subscriber, terms), month, changes, closing, &plan))
    }

    /// The charge of a month by `plan`, if that has an overage price for the level.
    pub(super) fn charge_of_month(
        &mut self,
        (subscriber, terms): (&Subscriber, &Terms),
        month: Month,
        changes: &[LevelChange],
        closing: Closing,
        plan: &BilledPlan,
    ) -> Option<Charge> {
        let Some(over) = level_over(changes, month.start, month.end) else {
            self.tally.problem(&month.key, "its sum does not fit 63 bits");
            return None;
        };
        let priced = plan.meter(&month.key.meter).and_then(|meter| meter.overage.as_ref());
        if priced.is_some_and(|price| price.by_property.is_some()) {
            self.tally.problem(&month.key, "a price by property of a level");
            return None;
        }
        let (used, billed_on) = match plan.billed_on(&month.key.meter) {
            LevelBilling::Peak => (over.peak, "peak"),
            LevelBilling::End => (over.end, "end"),
        };
        let key = month.key.clone();
        let closed = ClosedWindow {
            subscriber,
            terms,
            key: month.key,
            start: month.start,
            end: month.end,
            used,
            used_by_value: Vec::new(),
            billed_on: Some(billed_on),
            closing,
            closed_at: self.context.real_now,
        };
        closed.charge(plan).unwrap_or_else(|problem| {
            self.tally.problem(&key, problem);
            None
        })
    }
}

/// A month that a level is charged for.
#[derive(Clone, Debug)]
pub(super) struct Month {
    pub(super) key: CellKey,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

/// The month on the billing anchor that contains `at`. Yearly subscriptions are charged by the month
/// too, since rates are per month.
fn month_at(subscriber: &Subscriber, level: &CellKey, at: Timestamp) -> Option<Month> {
    let terms = subscriber.terms_at(at)?;
    let monthly = WindowSchedule { interval: BillingInterval::Monthly, ..terms.schedule.clone() };
    let window = monthly.window(Period::BillingCycle, at);
    let key = CellKey { label: window.label, ..level.clone() };
    Some(Month { key, start: window.start, end: window.end? })
}
