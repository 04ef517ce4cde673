//! The looks of one run of the command, in bounded memory: tenants by the page, counters by the page,
//! differences up to a number.

use std::{path::PathBuf, sync::Arc};

use anyhow::bail;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    cli::counters::{Reached, reach},
    domain::{
        cell_key::CellKey,
        ids::{RunId, TenantId},
    },
    enforcement::{
        counter::CounterSeed,
        directory::{Directory, Source},
    },
    jobs::overages::{plans::Plans, recheck::Recheck},
    leases::holder::LeaseTimes,
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
    pub scope: Scope,
    pub times: LookTimes,
    /// The real present.
    pub now: Timestamp,
    /// Most rows that are kept to be shown.
    pub rows_max: u32,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub tenants: u64,
    pub counters: u64,
    /// Runs whose journals were read.
    pub journals: u64,
    pub mended: u64,
    /// Shared counters were not looked at, because.
    pub without_counters: Option<&'static str>,
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
        // What counters are compared with, and mended from, comes before them.
        self.owners(&mut report).await?;
        self.counters(&mut report).await?;
        self.journals(&mut report).await?;
        Ok(report)
    }

    async fn counters(&self, report: &mut Report) -> anyhow::Result<()> {
        if self.redis.url.is_empty() {
            report.without_counters = Some("no redis.url is set");
            return Ok(());
        }
        let Some(latest) = self.ledger.latest_epoch().await? else {
            report.without_counters = Some("no sidecar has ever used any");
            return Ok(());
        };
        if !latest.is_recovered {
            bail!(
                "the shared counters are being rebuilt after a loss (epoch {}): not every run has \
                 reported; `tollgate run list` shows which runs are open",
                latest.number
            );
        }
        let reached: Reached = reach(self.redis.clone(), self.ledger).await?;
        let seed = CounterSeed { run: RunId(Uuid::nil()), times: LeaseTimes::default() };
        let directory = Arc::new(Directory::new(Source::Ledger(self.ledger.clone()), seed, None));
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
                bail!("there is no tenant {tenant}; `tollgate tenant list` lists all");
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
