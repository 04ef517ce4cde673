//! `rollover`: carries the unused part of recurring grants into the next window.
//!
//! What is unused of a window is certain once nothing can be used of it any more: the window has
//! ended by the tenant's clock, and by the marks of all open runs its usage is in the ledger and nothing
//! is held of it any more. It then becomes a grant for the window that follows, up to the cap, together
//! with what is left of what was carried into the ended window. A carry's key is the window that it
//! comes from, so the job may run again, or twice at once, and gives it once.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::{
    error::JobError,
    job::{Job, JobContext, JobResult},
    schedule::Schedule,
};
use crate::{
    domain::{
        grant::{Grant, GrantKind},
        invalid::Invalid,
        tenant::Tenant,
        window::Window,
    },
    ledger::{
        Ledger, LedgerError,
        changes::Author,
        grants::{NewGrant, StoredGrant},
    },
    pricing::closing::{Closing, ClosingFacts},
};

/// The job's name.
pub const NAME: &str = "rollover";
/// Every ten minutes.
pub const SCHEDULE: &str = "*/10 * * * *";

/// Windows of one grant that one run carries over; a test clock may have jumped far.
const WINDOWS_MAX: usize = 1_200;

const AUTHOR: Author<'static> = Author { actor: "job:rollover", reason: "" };

/// The job, due by `pattern`.
pub fn job(ledger: Ledger, pattern: &str, zone: TimeZone) -> Result<Job, Invalid> {
    let schedule = Schedule::new(pattern, zone)?;
    let does = "carry unused parts of recurring grants into their next windows";
    Ok(Job::new(NAME, does, schedule, move |context| run(ledger.clone(), context)))
}

async fn run(ledger: Ledger, context: JobContext) -> JobResult {
    // Before the totals: what the marks promise is in them then.
    let oldest_mark = ledger.oldest_open_mark().await?;
    let mut carried = 0_u64;
    let mut refused = 0_u64;
    for tenant in ledger.carrying_tenants().await? {
        context.check_stop()?;
        let Some(listed) = ledger.tenant(&tenant).await? else { continue };
        let (now, tenant) = (context.now, listed.tenant);
        let clock_set_at = ledger.clock_set_at(&tenant.account).await?;
        let pass = Pass { ledger: &ledger, tenant, now, oldest_mark, clock_set_at };
        match pass.carry_all().await {
            Ok(units) => carried += units,
            // One tenant that can be given nothing more (it has as many grants as it may) keeps no
            // other from what it has coming; its own is tried again.
            Err(JobError::Fail(error)) if is_refused(&error) => {
                tracing::error!(tenant = %pass.tenant.id, %error, "nothing can be carried over");
                refused += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(json!({ "now": context.now, "carried": carried, "tenants_refused": refused }))
}

fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LedgerError::Refused(_)))
}

/// One tenant's grants.
struct Pass<'a> {
    ledger: &'a Ledger,
    tenant: Tenant,
    now: Timestamp,
    oldest_mark: Option<Timestamp>,
    /// When the account's test clock was put where it stands, real time.
    clock_set_at: Option<Timestamp>,
}

impl Pass<'_> {
    async fn carry_all(&self) -> Result<u64, JobError> {
        let grants = self.ledger.grants(&self.tenant.id, self.tenant.now(self.now), true).await?;
        let mut carried = 0;
        for stored in &grants {
            if let Some(cap) = stored.rollover_cap.filter(|cap| *cap > 0) {
                carried += self.carry(stored, cap, &grants).await?;
            }
        }
        Ok(carried)
    }

    async fn carry(
        &self,
        stored: &StoredGrant,
        cap: u64,
        all: &[StoredGrant],
    ) -> Result<u64, JobError> {
        let grant = &stored.grant;
        let schedule = &self.tenant.subscription.schedule;
        let through = self.ledger.carried_through(&self.tenant.id, grant).await?;
        let mut at = through.unwrap_or(grant.starts_at);
        let mut given: Vec<StoredGrant> = vec![];
        let mut carried = 0;
        for _ in 0..WINDOWS_MAX {
            let Some(window) = grant.window(schedule, at) else { break };
            let Some(end) = window.end.filter(|end| self.is_closed(*end)) else { break };
            let next = grant.window(schedule, end);
            let known = all.iter().chain(&given);
            let unused = self.unused(grant, (begin(grant, window, at), window), known).await?;
            let unused = unused.min(cap);
            if let (Some(next), 1..) = (next, unused) {
                let new = carry_of(stored, unused, window, next);
                let carry = self.ledger.create_grant(&new, AUTHOR).await?;
                carried += carry.grant.amount;
                given.push(carry);
            }
            self.ledger.note_carried(&self.tenant.id, grant, end).await?;
            at = end;
        }
        Ok(carried)
    }

    /// What is left of a window: of the recurring grant, and of what was carried into it. Where the
    /// schedule has changed, the window may begin before `from`, through which was carried already.
    async fn unused(
        &self,
        grant: &Grant,
        (from, window): (Timestamp, Window),
        known: impl Iterator<Item = &StoredGrant>,
    ) -> Result<u64, JobError> {
        let tenant = &self.tenant.id;
        let spent = self.ledger.spent_of_grant(tenant, grant, from, window.end).await?;
        let mut unused = grant.amount.saturating_sub(spent);
        let source = source(grant);
        let into_it = known
            .filter(|stored| stored.source == source)
            .filter(|stored| is_within(&stored.grant, from, window));
        for stored in into_it {
            let carry = &stored.grant;
            // It has one window, whatever it was called.
            let spent = self.ledger.spent_of_grant(tenant, carry, Timestamp::MIN, None).await?;
            unused = unused.saturating_add(carry.amount.saturating_sub(spent));
        }
        Ok(unused)
    }

    fn is_closed(&self, end: Timestamp) -> bool {
        if self.tenant.now(self.now) < end {
            return false;
        }
        // A test clock passed the end at the latest when it was last put where it stands.
        let ended_at = self.clock_set_at.unwrap_or(end);
        let facts = ClosingFacts { ended_at, oldest_mark: self.oldest_mark, now: self.now };
        // A wait that is over is no proof: what a sidecar still has to flush, or holds, would be given
        // again.
        facts.closing() == Closing::ByMarks
    }
}

/// Where the labels begin that belong to `window`, when all before `at` was carried already. A grant
/// that begins within a window has the window's own start in its label.
fn begin(grant: &Grant, window: Window, at: Timestamp) -> Timestamp {
    let labelled = Timestamp::from_second(window.label.start).unwrap_or(window.start);
    if at == grant.starts_at { labelled } else { labelled.max(at) }
}

/// Whether what was carried begins in the rest of `window` from `from` on.
fn is_within(carry: &Grant, from: Timestamp, window: Window) -> bool {
    carry.starts_at >= from && window.end.is_none_or(|end| carry.starts_at < end)
}

fn source(grant: &Grant) -> String {
    format!("rollover:{}", grant.id)
}

/// It holds for the whole of the next window, so that nothing has to be told of when the job ran.
fn carry_of(stored: &StoredGrant, amount: u64, from: Window, to: Window) -> NewGrant {
    let grant = &stored.grant;
    NewGrant {
        tenant: stored.tenant.clone(),
        kind: GrantKind::Rollover,
        meter: grant.meter.clone(),
        subject: grant.subject.clone(),
        amount,
        priority: grant.priority,
        starts_at: to.start,
        expires_at: to.end,
        every: None,
        rollover_cap: None,
        covers_level: grant.covers_level,
        source: source(grant),
        source_key: format!("rollover:{}", from.label),
        price: None,
    }
}
