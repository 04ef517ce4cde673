//! Every charge once more, from the rollups and the plan version that it names, and what is due and
//! has no charge. Changes nothing, unless what is missing is to be charged.

use std::fmt;

use jiff::Timestamp;
use rust_decimal::Decimal;
use tokio_util::sync::CancellationToken;

use super::{
    charge::KIND,
    clock::BillingClock,
    grants::{BOUGHT, EMERGENCY, EMERGENCY_WAIT_MAX},
    levels::Month,
    pass::Pass,
    reached::Reached,
    windows::EndedWindow,
};
use crate::{
    domain::{
        cell_key::CellKey,
        meter::{Aggregation, MeterKind},
        money::Money,
        period::Period,
        window::WindowLabel,
    },
    jobs::{error::JobError, job::JobContext},
    ledger::{
        Ledger,
        charges::Charge,
        grants::StoredGrant,
        job_runs::JobRunStatus,
        reconcile::Scope,
        subscribers::{Subscriber, Terms},
    },
    pricing::{
        closing::{Closing, WAIT_MAX},
        level::LevelChange,
        overage::OverageFacts,
    },
};

/// Charges that are read together.
const CHARGES_PAGE: u32 = 500;

/// What is wrong with a charge, or with there being none.
#[derive(Clone, Debug)]
pub struct ChargeFinding {
    pub key: CellKey,
    /// What sort of charge.
    pub kind: String,
    pub problem: ChargeProblem,
}

/// See [`ChargeFinding`].
#[derive(Clone, Debug)]
pub enum ChargeProblem {
    /// Its amount is not what the facts lead to that it names itself; `None`: they cannot be read.
    OwnFacts { charged: Line, facts: Option<Money> },
    /// Rollups and plan version lead to something else.
    Differs { charged: Line, recomputed: Line },
    /// Usage came after it was made, which no charge is made for yet. As it should be.
    LateUsage { charged: Line, recomputed: Line },
    /// Nothing was used that the plan version has a price for.
    Superfluous { charged: Line },
    /// The job has been past it, and there is none. Its next run makes it.
    Missing { due: Box<Charge> },
    /// There is none of a month of a level, and later months are charged: no run looks at it any more.
    LeftOut { due: Box<Charge> },
    /// It is due, and the job has not run since. As it should be.
    Due { due: Box<Charge> },
    /// Whether it is right cannot be told.
    Unknown { why: String },
}

/// What a charge says in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub amount: Money,
    /// In pricing units.
    pub quantity: Decimal,
    /// Base units used; absent where the charge does not say.
    pub used: Option<u64>,
}

impl Line {
    fn of(charge: &Charge) -> Self {
        let used = charge.explanation["facts"]["used"].as_u64();
        Self { amount: charge.amount, quantity: charge.quantity, used }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.amount, self.quantity.normalize())?;
        self.used.map_or(Ok(()), |used| write!(f, " (used {used})"))
    }
}

impl ChargeProblem {
    /// Whether something is wrong, rather than on its way.
    pub fn is_difference(&self) -> bool {
        !matches!(self, Self::LateUsage { .. } | Self::Due { .. })
    }
}

/// What has no charge.
#[derive(Debug)]
struct Found {
    due: Vec<Charge>,
    left_out: Vec<Charge>,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.due.is_empty() && self.left_out.is_empty()
    }
}

/// Whether usage that came after a charge can explain that it says something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// None came.
    Nothing,
    /// Some came, which cannot have made it less.
    More,
    /// Some came, which may have made it more or less.
    MoreOrLess,
}

/// Tells what is wrong with `charge`, if anything is, from what it would be today.
fn judge(charge: &Charge, today: Option<&Charge>, since: Since) -> Option<ChargeProblem> {
    let charged = Line::of(charge);
    let facts = serde_json::from_value::<OverageFacts>(charge.explanation["facts"].clone());
    let own = facts.ok().and_then(|facts| facts.line().ok()).map(|line| line.amount);
    if own != Some(charge.amount) {
        return Some(ChargeProblem::OwnFacts { charged, facts: own });
    }
    let Some(today) = today else { return Some(ChargeProblem::Superfluous { charged }) };
    let recomputed = Line::of(today);
    if charged == recomputed {
        return None;
    }
    let is_late = match since {
        Since::Nothing => false,
        Since::More => recomputed.used > charged.used,
        Since::MoreOrLess => recomputed.used != charged.used,
    };
    Some(match is_late {
        true => ChargeProblem::LateUsage { charged, recomputed },
        false => ChargeProblem::Differs { charged, recomputed },
    })
}

/// Checks charges, tenant by tenant. Remembers the plan versions.
pub struct Recheck {
    pass: Pass,
    /// When the job's last run began that succeeded.
    last_run: Option<Timestamp>,
}

/// Runs of the job that are looked at for one that goes on.
const RUNS_LOOKED_AT: u32 = 20;

impl Recheck {
    /// Nothing is checked yet. `now` is the real present.
    pub async fn new(ledger: Ledger, now: Timestamp) -> Result<Self, JobError> {
        let last_run = ledger.last_succeeded_job_start(super::NAME).await?;
        let context = JobContext { now, real_now: now, stop: CancellationToken::new() };
        Ok(Self { pass: Pass::new(ledger, context), last_run })
    }

    /// What is wrong with one tenant's charges in `scope`.
    pub async fn findings(
        &mut self,
        subscriber: &Subscriber,
        scope: &Scope,
    ) -> Result<Vec<ChargeFinding>, JobError> {
        let mut reached = Reached::default();
        let mut findings = self.of_charges(subscriber, scope, &mut reached).await?;
        let mut found = self.without_charge(subscriber).await?;
        if found.is_empty() {
            return Ok(findings);
        }
        match self.is_running().await? {
            // What it has come to it may be about to charge.
            true => reached = Reached::default(),
            // The runs that made the charges are over: what they came to they have charged by now.
            false => found = self.without_charge(subscriber).await?,
        }
        let Found { due, left_out } = found;
        for due in due.into_iter().filter(|due| scope.covers(&due.key)) {
            findings.push(self.of_due(subscriber, due, &reached).await?);
        }
        for due in left_out.into_iter().filter(|due| scope.covers(&due.key)) {
            let (key, kind, due) = (due.key.clone(), due.kind.clone(), Box::new(due));
            findings.push(ChargeFinding { key, kind, problem: ChargeProblem::LeftOut { due } });
        }
        Ok(findings)
    }

    /// What a run would charge now, and what it would leave out.
    async fn without_charge(&mut self, subscriber: &Subscriber) -> Result<Found, JobError> {
        self.pass.only_found = Some(Vec::new());
        self.pass.left_out.clear();
        self.pass.charge(std::slice::from_ref(subscriber)).await?;
        let due = self.pass.only_found.take().unwrap_or_default();
        Ok(Found { due, left_out: std::mem::take(&mut self.pass.left_out) })
    }

    async fn is_running(&self) -> Result<bool, JobError> {
        let runs = self.pass.ledger.job_history(Some(super::NAME), RUNS_LOOKED_AT).await?;
        Ok(runs.iter().any(|run| run.status == JobRunStatus::Running))
    }

    /// The charge as it would be made today from the plan version that it names.
    pub async fn today(
        &mut self,
        subscriber: &Subscriber,
        charge: &Charge,
    ) -> Result<Option<Charge>, JobError> {
        Ok(self.recomputed(subscriber, charge).await?.0)
    }

    /// Makes a charge that is due, as the job does.
    pub async fn make(&mut self, due: &Charge) -> Result<(), JobError> {
        self.pass.only_found = None;
        self.pass.write(std::slice::from_ref(due)).await
    }

    async fn of_charges(
        &mut self,
        subscriber: &Subscriber,
        scope: &Scope,
        reached: &mut Reached,
    ) -> Result<Vec<ChargeFinding>, JobError> {
        let mut findings = Vec::new();
        let mut after: Option<Charge> = None;
        loop {
            let tenant = &subscriber.tenant;
            let page = self.pass.ledger.charges_after(tenant, after.as_ref(), CHARGES_PAGE).await?;
            let Some(last) = page.last() else { return Ok(findings) };
            after = Some(last.clone());
            page.iter().for_each(|charge| reached.add(charge));
            for charge in page.iter().filter(|charge| scope.covers(&charge.key)) {
                let problem = match charge.kind.as_str() {
                    KIND | BOUGHT | EMERGENCY => {
                        let (today, since) = self.recomputed(subscriber, charge).await?;
                        judge(charge, today.as_ref(), since)
                    }
                    kind => Some(ChargeProblem::Unknown {
                        why: format!("this version makes no charges of the kind {kind:?}"),
                    }),
                };
                let (key, kind) = (charge.key.clone(), charge.kind.clone());
                findings.extend(problem.map(|problem| ChargeFinding { key, kind, problem }));
            }
        }
    }

    async fn recomputed(
        &mut self,
        subscriber: &Subscriber,
        charge: &Charge,
    ) -> Result<(Option<Charge>, Since), JobError> {
        if charge.kind != KIND {
            return Ok((self.of_grant(subscriber, charge).await?, Since::Nothing));
        }
        let Some(terms) = subscriber.terms_until(charge.period_end) else {
            return Ok((None, Since::Nothing));
        };
        let plan = self.pass.plans.get(&self.pass.ledger, &charge.plan).await?;
        let Some(meter) = plan.meter(&charge.key.meter) else { return Ok((None, Since::Nothing)) };
        if meter.meter.kind == MeterKind::Level {
            return self.of_level(subscriber, terms, charge).await;
        }
        let aggregation = meter.meter.aggregation;
        let found = self.pass.ledger.window_usage(&charge.key).await?;
        let Some((usage, changed_at)) = found else { return Ok((None, Since::Nothing)) };
        let since = match aggregation {
            _ if changed_at <= charge.created_at => Since::Nothing,
            Aggregation::Last => Since::MoreOrLess,
            _ => Since::More,
        };
        let (start, end) = (charge.period_start, charge.period_end);
        let ended = EndedWindow { terms, start, end, closing: Closing::ByMarks };
        let today = self.pass.charge_of_window(subscriber, &usage, ended, &plan).await?;
        Ok((today, since))
    }

    async fn of_level(
        &mut self,
        subscriber: &Subscriber,
        terms: &Terms,
        charge: &Charge,
    ) -> Result<(Option<Charge>, Since), JobError> {
        let label = WindowLabel { period: Period::Lifetime, start: 0, anchor_version: 0 };
        let level = CellKey { label, ..charge.key.clone() };
        let Some((_, changed_at)) = self.pass.ledger.window_usage(&level).await? else {
            return Ok((None, Since::Nothing));
        };
        let changes = self.pass.ledger.level_changes(&level, charge.period_start).await?;
        let changes: Vec<_> = changes
            .into_iter()
            .map(|change| LevelChange { hour: change.hour, delta: change.delta })
            .collect();
        let plan = self.pass.plans.get(&self.pass.ledger, &charge.plan).await?;
        let (start, end) = (charge.period_start, charge.period_end);
        let month = Month { key: charge.key.clone(), start, end };
        let of = (subscriber, terms);
        let today = self.pass.charge_of_month(of, month, &changes, Closing::ByMarks, &plan);
        // A level goes on: what changed it last may have been of this month or of a later one.
        let is_changed = changed_at > charge.created_at;
        Ok((today, if is_changed { Since::MoreOrLess } else { Since::Nothing }))
    }

    async fn of_grant(
        &mut self,
        subscriber: &Subscriber,
        charge: &Charge,
    ) -> Result<Option<Charge>, JobError> {
        let clock = BillingClock::new(&self.pass.context, None);
        let stored = self.grant_of(subscriber, &charge.key).await?;
        let Some(stored) = stored else { return Ok(None) };
        self.pass.grant_charge(subscriber, &stored, clock).await
    }

    async fn grant_of(
        &self,
        subscriber: &Subscriber,
        key: &CellKey,
    ) -> Result<Option<StoredGrant>, JobError> {
        let Period::Grant { id } = key.label.period else { return Ok(None) };
        let ledger = &self.pass.ledger;
        let grants = ledger.grants(&subscriber.tenant, self.pass.context.now, true).await?;
        Ok(grants.into_iter().find(|stored| stored.grant.id == id))
    }

    /// Whether a charge that is due should have been made by now.
    async fn of_due(
        &self,
        subscriber: &Subscriber,
        due: Charge,
        reached: &Reached,
    ) -> Result<ChargeFinding, JobError> {
        let ended_at = subscriber.test_clock.map_or(due.period_end, |clock| clock.set_at);
        let (at, wait, is_past) = match due.kind.as_str() {
            BOUGHT => {
                let bought = self.grant_of(subscriber, &due.key).await?;
                (bought.map_or(ended_at, |stored| stored.created_at), WAIT_MAX, false)
            }
            EMERGENCY => (ended_at, EMERGENCY_WAIT_MAX, false),
            _ => {
                // Usage that came after the job's run made a window that there was not before.
                let used = self.pass.ledger.window_usage(&due.key).await?;
                let changed_at = used.map(|(_, changed_at)| changed_at);
                let is_past = changed_at.is_some_and(|at| reached.is_past(due.period_end, at));
                (
                    changed_at.map_or(ended_at, |changed_at| changed_at.max(ended_at)),
                    WAIT_MAX,
                    is_past,
                )
            }
        };
        let surely_at = at.checked_add(wait).unwrap_or(Timestamp::MAX);
        let is_missing = is_past || self.last_run.is_some_and(|began| began > surely_at);
        let (key, kind, due) = (due.key.clone(), due.kind.clone(), Box::new(due));
        let problem = match is_missing {
            true => ChargeProblem::Missing { due },
            false => ChargeProblem::Due { due },
        };
        Ok(ChargeFinding { key, kind, problem })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{
            ids::{AccountId, CatalogName, MeterName, PlanName, TenantId},
            money::Currency,
            tenant::PlanVersion,
        },
        pricing::{model::PriceModel, unit_price::UnitPrice},
    };

    /// 5 cents per unit beyond 100.
    fn charge(used: u64) -> Charge {
        let currency = Currency::new("USD").unwrap();
        let price = PriceModel::PerUnit(UnitPrice { rate: "0.05".parse().unwrap(), per: 1 });
        let facts = OverageFacts { used, included: Some(100), grace: 0, price, currency };
        let line = facts.clone().line().unwrap();
        Charge {
            id: Uuid::nil(),
            key: CellKey {
                tenant: TenantId::new("acme").unwrap(),
                meter: MeterName::new("calls").unwrap(),
                subject: None,
                label: "month:0:1".parse().unwrap(),
            },
            kind: KIND.to_owned(),
            account: AccountId::new("acme").unwrap(),
            subscription: Uuid::nil(),
            period_start: Timestamp::UNIX_EPOCH,
            period_end: Timestamp::from_second(1).unwrap(),
            quantity: Decimal::from(line.billable),
            rate: None,
            amount: line.amount,
            plan: PlanVersion {
                catalog: CatalogName::new("shop").unwrap(),
                plan: PlanName::new("basic").unwrap(),
                version: 1,
            },
            explanation: json!({ "facts": facts }),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_charge_that_can_be_computed_again_is_right() {
        assert!(judge(&charge(120), Some(&charge(120)), Since::Nothing).is_none());
    }

    #[test]
    fn a_changed_amount_does_not_follow_from_its_own_facts() {
        let mut changed = charge(120);
        changed.amount.minor += 1;
        let problem = judge(&changed, Some(&charge(120)), Since::More).unwrap();
        assert!(matches!(problem, ChargeProblem::OwnFacts { facts: Some(_), .. }), "{problem:?}");
        changed.explanation = json!({});
        let problem = judge(&changed, Some(&charge(120)), Since::More).unwrap();
        assert!(matches!(problem, ChargeProblem::OwnFacts { facts: None, .. }), "{problem:?}");
    }

    #[test]
    fn usage_that_came_later_explains_more_and_never_less() {
        let problem = |used, since| judge(&charge(120), Some(&charge(used)), since).unwrap();
        let is_late = |used, since| !problem(used, since).is_difference();
        assert!(is_late(130, Since::More) && is_late(130, Since::MoreOrLess));
        assert!(!is_late(130, Since::Nothing) && !is_late(110, Since::More));
        assert!(is_late(110, Since::MoreOrLess));
    }

    #[test]
    fn another_quantity_and_a_charge_for_nothing_are_told() {
        let mut changed = charge(120);
        changed.quantity += Decimal::ONE;
        let problem = judge(&changed, Some(&charge(120)), Since::More).unwrap();
        assert!(matches!(problem, ChargeProblem::Differs { .. }), "{problem:?}");
        let problem = judge(&charge(120), None, Since::Nothing).unwrap();
        assert!(matches!(problem, ChargeProblem::Superfluous { .. }), "{problem:?}");
    }
}
