//! `overages`: charges what subscribers used beyond what their plans include.
//!
//! Every window of a meter with an overage price that has ended by its tenant's clock and is closed
//! for billing gets one charge: (used − included − grace) × rate, by the plan version in force at
//! the window's end. A window in which nothing is owed gets a charge of 0, which says that it is
//! closed: what reaches it later is in the ledger and in no charge, and the figure that the charge
//! was made of tells the difference. A level is charged for each month on the billing anchor.
//!
//! What grants covered is no overage. A bought grant is charged its price, emergency usage what was
//! used of it.
//!
//! A charge's key is its window, so the job may run again, or twice at once, and changes nothing.

mod charge;
mod clock;
mod grants;
mod levels;
mod pass;
pub mod plans;
mod reached;
pub mod recheck;
mod tally;
mod windows;

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use self::{charge::KIND, clock::BillingClock, pass::Pass};
use super::{
    error::JobError,
    job::{Job, JobContext, JobResult},
    schedule::Schedule,
};
use crate::{
    domain::{ids::TenantId, invalid::Invalid},
    ledger::{
        Ledger,
        billable_usage::PricedMeter,
        charges::{CHARGES_BATCH_MAX, Charge},
        subscribers::Subscriber,
    },
};

/// The job's name.
pub const NAME: &str = "overages";
/// The 1st of the month at 02:00.
pub const SCHEDULE: &str = "0 2 1 * *";

/// Subscribers that are looked at together.
const SUBSCRIBERS_PAGE: u32 = 200;
/// Windows that are read together.
const WINDOWS_PAGE: u32 = 1_000;

/// The job, due by `schedule`.
pub fn job(ledger: Ledger, pattern: &str, zone: TimeZone) -> Result<Job, Invalid> {
    let schedule = Schedule::new(pattern, zone)?;
    let does = "charge usage beyond what plans include, for windows that have ended";
    Ok(Job::new(NAME, does, schedule, move |context| run(ledger.clone(), context)))
}

/// Charges all that is due by the context's present.
async fn run(ledger: Ledger, context: JobContext) -> JobResult {
    let mut pass = Pass::new(ledger, context);
    let mut after: Option<TenantId> = None;
    loop {
        let mut page = pass.ledger.subscribers_after(after.as_ref(), SUBSCRIBERS_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.tenant.clone());
        // A database orders texts by its locale, which may not be how they are searched here.
        page.sort_unstable_by(|one, other| one.tenant.cmp(&other.tenant));
        pass.charge(&page).await?;
    }
    let Pass { tally, context, .. } = pass;
    tally.into_result(context.now)
}

impl Pass {
    /// Charges what is due of `subscribers`, which are in the order of their ids' bytes.
    async fn charge(&mut self, subscribers: &[Subscriber]) -> Result<(), JobError> {
        // Before the totals: what the marks promise is in them then.
        let clock = BillingClock::new(&self.context, self.ledger.oldest_open_mark().await?);
        self.charge_grants(subscribers, clock).await?;
        let mut meters = Vec::new();
        for subscriber in subscribers {
            let mut priced = BTreeSet::new();
            for terms in &subscriber.terms {
                let plan = self.plans.get(&self.ledger, &terms.plan).await?;
                priced.extend(plan.overage_meters());
            }
            let tenant = &subscriber.tenant;
            let of_tenant = |meter| PricedMeter { tenant: tenant.clone(), meter };
            meters.extend(priced.into_iter().map(of_tenant));
        }
        if meters.is_empty() {
            return Ok(());
        }
        let mut after = None;
        loop {
            self.context.check_stop()?;
            let windows =
                self.ledger.uncharged_windows(&meters, KIND, after.as_ref(), WINDOWS_PAGE).await?;
            let Some(last) = windows.last() else { return Ok(()) };
            after = Some(last.key.clone());
            let mut charges = Vec::new();
            for usage in &windows {
                let at = subscribers.binary_search_by(|s| s.tenant.cmp(&usage.key.tenant));
                // Asked for by these tenants, so it is one of them.
                let Some(subscriber) = at.ok().and_then(|at| subscribers.get(at)) else { continue };
                charges.extend(self.charges_for(subscriber, usage, clock).await?);
            }
            self.write(&charges).await?;
        }
    }

    async fn write(&mut self, charges: &[Charge]) -> Result<(), JobError> {
        if let Some(found) = &mut self.only_found {
            found.extend_from_slice(charges);
            return Ok(());
        }
        for batch in charges.chunks(CHARGES_BATCH_MAX) {
            let written = self.ledger.add_charges(batch).await?;
            self.tally.count(batch.len(), &written);
        }
        Ok(())
    }
}
