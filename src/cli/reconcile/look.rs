//! The looks of one run of the command, in bounded memory: tenants by the page, counters by the page,
//! differences up to a number.

use std::{path::PathBuf, sync::Arc};

use anyhow::bail;
use jiff::Timestamp;

use crate::{
    cli::{
        counters::{Reached, reach},
        values::no_tenant,
    },
    domain::{cell_key::CellKey, ids::TenantId, invalid::Invalid},
    enforcement::directory::{Directory, Source},
    jobs::overages::{plans::Plans, recheck::Recheck},
    ledger::{
        Ledger,
        reconcile::{OWNERS_PAGE_MAX, Scope},
    },
    reconcile::{
        books, charges,
        difference::{Difference, Mending, Standing},
        journals::JournalLook,
        mending::{Mender, not_mended},
        shared::{CounterLook, LookTimes},
    },
    store::config::RedisConfig,
};

/// What is looked at.
pub(super) struct Look<'a> {
    pub ledger: &'a Ledger,
    /// Mends what is found.
    pub mender: Option<Mender<'a>>,
    pub journals: &'a [PathBuf],
    /// Keys of runs that began before may have been forgotten.
    pub keys_kept_from: Timestamp,
    pub redis: RedisConfig,
    /// Does not look at the shared counters.
    pub without_counters: bool,
    pub scope: Scope,
    pub times: LookTimes,
    /// The real present.
    pub now: Timestamp,
    /// Most rows that are kept to be shown.
    pub rows_max: u32,
}

/// Whether the shared counters were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Counters {
    #[default]
    Compared,
    /// There are none, because.
    None(&'static str),
    /// They could be told where they are, and were not.
    NotCompared(&'static str),
    /// Whoever asked left them out.
    LeftOut,
}

impl Counters {
    /// Why they were not compared, if they were not.
    pub fn why_not(self) -> Option<&'static str> {
        match self {
            Self::Compared => None,
            Self::None(why) | Self::NotCompared(why) => Some(why),
            Self::LeftOut => Some("left out, as asked"),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub tenants: u64,
    pub counters: u64,
    /// Runs whose journals were read.
    pub journals: u64,
    pub mended: u64,
    pub counters_looked_at: Counters,
    pub differing: u64,
    pub in_flight: u64,
    pub expected: u64,
    pub rows: Vec<Difference>,
    rows_max: usize,
}

impl Report {
    fn take(&mut self, differences: impl IntoIterator<Item = Difference>) {
        for difference in differences {
            match difference.standing {
                Standing::Differs => self.differing += 1,
                Standing::InFlight => self.in_flight += 1,
                Standing::Expected => self.expected += 1,
            }
            self.mended += u64::from(difference.mending == Some(Mending::Mended));
            if self.rows.len() < self.rows_max {
                self.rows.push(difference);
            }
        }
    }
}

impl Look<'_> {
    /// Looks at everything.
    pub async fn all(&self) -> anyhow::Result<Report> {
        let mut report = Report { rows_max: self.rows_max as usize, ..Report::default() };
        if let Some(meter) = &self.scope.meter
            && !self.ledger.has_meter(meter).await?
        {
            let remedy = "`tollgate catalog show CATALOG` lists a catalog's";
            let problem = format!("no plan has ever had a meter {meter}");
            return Err(Invalid::new("--meter", problem, remedy).into());
        }
        // What counters are compared with, and mended from, comes before them.
        self.owners(&mut report).await?;
        self.counters(&mut report).await?;
        self.journals(&mut report).await?;
        Ok(report)
    }

    async fn counters(&self, report: &mut Report) -> anyhow::Result<()> {
        let latest = self.ledger.latest_epoch().await?;
        let (latest, problem) = match latest {
            _ if self.without_counters => (None, Counters::LeftOut),
            None => (None, Counters::None("no sidecar has ever used any")),
            Some(latest) if !latest.is_shared() => {
                (None, Counters::None("those in force are in the memory of one sidecar"))
            }
            Some(_) if self.redis.url.is_empty() => (
                None,
                Counters::NotCompared(
                    "no redis.url is set; give --redis-url, or leave them out (--without-counters)",
                ),
            ),
            Some(latest) => (Some(latest), Counters::Compared),
        };
        report.counters_looked_at = problem;
        let Some(latest) = latest else { return Ok(()) };
        if !latest.is_recovered {
            bail!(
                "the shared counters are being rebuilt after a loss (epoch {}): not every run has \
                 reported; `tollgate run list` shows which runs are open",
                latest.number
            );
        }
        let reached: Reached = reach(self.redis.clone(), self.ledger).await?;
        let directory = Arc::new(Directory::new(Source::Ledger(self.ledger.clone()), None));
        let look = CounterLook {
            ledger: self.ledger,
            counters: &reached.counters,
            epoch: reached.epoch,
            directory: &directory,
            now: self.now,
            scope: &self.scope,
            times: self.times,
        };
        let found = look.compare_all().await?;
        report.counters = found.compared;
        let damaged = found.damaged.iter().map(|damaged| {
            let mending = self.mender.as_ref().map(|_| damaged.not_mended());
            Difference { mending, ..damaged.difference() }
        });
        report.take(damaged);
        let mut mended: Option<(CellKey, Mending)> = None;
        for found in &found.found {
            let mut difference = found.difference();
            if let (Some(mender), Some(redis), Standing::Differs) =
                (&self.mender, reached.redis(), difference.standing)
            {
                // The figures of one counter come one after the other.
                let known = mended.take().filter(|(key, _)| *key == found.key);
                let mending = match known {
                    Some((_, mending)) => mending,
                    None => mender.counter(redis, reached.epoch, &found.key).await?,
                };
                difference.mending = Some(mending.clone());
                mended = Some((found.key.clone(), mending));
            }
            report.take([difference]);
        }
        Ok(())
    }

    async fn journals(&self, report: &mut Report) -> anyhow::Result<()> {
        let (ledger, scope) = (self.ledger, &self.scope);
        let look = JournalLook { ledger, scope, keys_kept_from: self.keys_kept_from };
        for data_dir in self.journals {
            let (runs, found) = look.compare_all(data_dir).await?;
            report.journals += runs;
            report.take(self.standing(found));
        }
        Ok(())
    }

    /// What nothing mends says so, where mending was asked for.
    fn standing(&self, mut found: Vec<Difference>) -> Vec<Difference> {
        let differs = |row: &&mut Difference| row.standing == Standing::Differs;
        if self.mender.is_some() {
            for difference in found.iter_mut().filter(differs) {
                difference.mending = Some(not_mended(difference.leg));
            }
        }
        found
    }

    async fn owners(&self, report: &mut Report) -> anyhow::Result<()> {
        let mut plans = Plans::default();
        let mut recheck = Recheck::new(self.ledger.clone(), self.now).await?;
        if let Some(tenant) = &self.scope.tenant {
            if tenant.pool().is_none() && self.ledger.tenant(tenant).await?.is_none() {
                return Err(no_tenant(tenant).into());
            }
            if let Some(pool) = tenant.pool()
                && self.ledger.pool(pool).await?.is_none()
            {
                let remedy = "`tollgate pool list` lists all";
                return Err(Invalid::new("--tenant", format!("there is no {pool}"), remedy).into());
            }
            return self.owner(tenant, &mut plans, &mut recheck, report).await;
        }
        let mut after: Option<TenantId> = None;
        loop {
            let page = self.ledger.owners_after(after.as_ref(), OWNERS_PAGE_MAX).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for owner in &page {
                self.owner(owner, &mut plans, &mut recheck, report).await?;
            }
        }
    }

    async fn owner(
        &self,
        owner: &TenantId,
        plans: &mut Plans,
        recheck: &mut Recheck,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let (ledger, scope, rows_max) = (self.ledger, &self.scope, self.rows_max);
        let mut totals = books::totals(ledger, owner, scope, rows_max).await?;
        if let Some(mender) = &self.mender {
            mender.windows(owner, &mut totals).await?;
        }
        report.take(totals);
        if owner.pool().is_some() {
            return Ok(());
        }
        report.tenants += 1;
        let Some(subscriber) = ledger.subscriber(owner).await? else { return Ok(()) };
        let events = books::events(ledger, plans, &subscriber, scope, self.now, rows_max).await?;
        report.take(self.standing(events));
        for finding in recheck.findings(&subscriber, scope).await? {
            let mending = match &self.mender {
                Some(mender) => mender.charge(recheck, &finding).await?,
                None => None,
            };
            report.take([Difference { mending, ..charges::difference(finding) }]);
        }
        Ok(())
    }
}
