//! The tenants that this sidecar knows, by id.
//!
//! A tenant is loaded when it is first asked for; changes reach it by [`Directory::follow`]. One of the
//! ledger stays. What is known is also kept on disk, so that a sidecar which starts while Postgres is
//! away serves whom it served before. One of a file stays until nothing of it is live: its counters were
//! idle for so long that they were dropped (`dropping`).

mod catalogs;
mod counters;
mod dropping;
mod known_grant;
mod left_behind;
mod live;
mod loads;
mod looking;
mod meter_names;
mod onlooker;
mod roster;
mod settling_pools;
mod snapshot;
mod source;
pub mod tenant_state;
#[cfg(test)]
mod test_tenants;
mod unknown;
mod views;
pub mod walking;

use std::{
    borrow::Borrow,
    hash::Hash,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ahash::RandomState;
use dashmap::{DashMap, Entry};
use tokio::sync::RwLock;

use self::{
    catalogs::CatalogInForce,
    counters::CounterSeed,
    loads::Loads,
    roster::Roster,
    settling_pools::SettlingPools,
    snapshot::{Snapshot, SnapshotParts},
    tenant_state::{TenantState, Terms},
    unknown::UnknownTenants,
    views::DirectoryNumber,
};
pub use self::{
    counters::NoCounter,
    source::{FileSource, Source},
};
use super::{
    counter::Counter,
    error::{EngineError, Unknown, UnknownName},
};
use crate::{
    domain::{
        catalog::compiled_plan::CompiledPlan,
        ids::{CatalogName, TenantId},
        pool::Pool,
        tenant::{PlanVersion, Tenant},
    },
    ledger::{Ledger, tenants::ChangeCursor},
};

/// How long a name that nobody knows is refused from memory.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// Unknown names remembered at a time.
const UNKNOWN_MAX: usize = 10_000;

/// A plan version, with the definition that it was made of.
#[derive(Debug)]
struct KnownPlan {
    compiled: Arc<CompiledPlan>,
    definition: serde_json::Value,
}

/// The tenants in memory.
#[derive(Debug)]
pub struct Directory {
    number: Option<DirectoryNumber>,
    tenants: DashMap<TenantId, Arc<TenantState>, RandomState>,
    roster: Roster,
    plans: DashMap<PlanVersion, Arc<KnownPlan>, RandomState>,
    catalogs: DashMap<CatalogName, Arc<CatalogInForce>, RandomState>,
    unknown: UnknownTenants,
    tenant_loads: Loads<TenantId, Option<Arc<TenantState>>>,
    plan_loads: Loads<PlanVersion, Arc<CompiledPlan>>,
    catalog_loads: Loads<CatalogName, Arc<CatalogInForce>>,
    settling: SettlingPools,
    source: Source,
    seed: Arc<CounterSeed>,
    /// Read while a tenant is looked up and put in, written while changes are taken in: a tenant
    /// that was read before a change is in when the change comes, and does not miss it.
    loading: RwLock<()>,
    /// Guards how far changes are in; held for a copy.
    cursor: Mutex<ChangeCursor>,
    /// The last change of a catalog that is in.
    catalogs_seen: AtomicU64,
    snapshot_path: Option<PathBuf>,
    /// Something is known that the snapshot does not have.
    is_unsaved: AtomicBool,
}

impl Directory {
    /// An empty directory, filled from `source` as tenants are asked for.
    pub fn new(source: Source, snapshot_path: Option<PathBuf>) -> Self {
        Self {
            number: DirectoryNumber::next(),
            tenants: DashMap::with_hasher(RandomState::new()),
            roster: Roster::default(),
            plans: DashMap::with_hasher(RandomState::new()),
            catalogs: DashMap::with_hasher(RandomState::new()),
            unknown: UnknownTenants::new(UNKNOWN_FOR, UNKNOWN_MAX),
            tenant_loads: Loads::default(),
            plan_loads: Loads::default(),
            catalog_loads: Loads::default(),
            settling: SettlingPools::default(),
            source,
            seed: Arc::default(),
            loading: RwLock::new(()),
            cursor: Mutex::new(ChangeCursor::after(0)),
            catalogs_seen: AtomicU64::new(0),
            snapshot_path,
            is_unsaved: AtomicBool::new(false),
        }
    }

    /// The tenant, if it is in memory.
    #[inline]
    pub fn known<I>(&self, tenant: &I) -> Option<Arc<TenantState>>
    where
        TenantId: Borrow<I>,
        I: Hash + Eq + ?Sized,
    {
        self.tenants.get(tenant).map(|state| state.clone())
    }

    /// The tenant, loaded if need be. `field` is what the caller calls it.
    pub async fn find(
        &self,
        tenant: &TenantId,
        field: &str,
    ) -> Result<Arc<TenantState>, EngineError> {
        if let Some(state) = self.known(tenant) {
            return Ok(state);
        }
        let found = match self.unknown.holds(tenant) {
            true => None,
            false => self.tenant_loads.one(tenant, || self.load(tenant)).await?,
        };
        found.ok_or_else(|| {
            let name = UnknownName::Tenant(tenant.clone());
            EngineError::from(Unknown { field: field.to_owned(), name })
        })
    }

    /// Looks a tenant up; `None` when there is none of that name. One at a time for each.
    async fn load(&self, tenant: &TenantId) -> Result<Option<Arc<TenantState>>, EngineError> {
        // By nobody who waits for another's look-up: a change that waits for this lock would keep
        // that one from getting it.
        let _loading = self.loading.read().await;
        if let Some(state) = self.known(tenant) {
            return Ok(Some(state));
        }
        if self.unknown.holds(tenant) {
            return Ok(None);
        }
        if let Some(pool) = tenant.pool() {
            let stored = self.source.pool(pool).await?;
            let cell = stored.as_ref().and_then(|stored| stored.cell(tenant));
            let Some((cell, definition)) = cell else { return Ok(None) };
            self.learn_cell(cell, &definition).await?;
            return Ok(self.known(tenant));
        }
        match self.source.tenant(tenant).await? {
            Some(loaded) => {
                self.follow_pools(&loaded).await?;
                self.admit(loaded).await.map(Some)
            }
            None => {
                self.unknown.remember(tenant.clone());
                Ok(None)
            }
        }
    }

    async fn admit(&self, tenant: Arc<Tenant>) -> Result<Arc<TenantState>, EngineError> {
        let id = tenant.id.clone();
        let state = TenantState::new(self.terms(tenant).await?, self.seed.clone());
        self.is_unsaved.store(true, Ordering::Relaxed);
        Ok(self.tenants.entry(id).or_insert_with(|| self.enrolled(state)).clone())
    }

    async fn terms(&self, tenant: Arc<Tenant>) -> Result<Terms, EngineError> {
        let plan = self.plan(&tenant.subscription.plan).await?;
        let catalog = self.catalog(&tenant.subscription.plan.catalog).await?;
        Ok(Terms::new(tenant, plan, catalog))
    }

    async fn catalog(&self, name: &CatalogName) -> Result<Arc<CatalogInForce>, EngineError> {
        if let Some(known) = self.catalogs.get(name) {
            return Ok(known.clone());
        }
        let load = || async {
            if let Some(known) = self.catalogs.get(name).map(|known| known.clone()) {
                return Ok(known);
            }
            let (version, definition) = self.source.catalog(name).await?;
            self.learn_catalog(name, version, definition)
        };
        self.catalog_loads.one(name, load).await
    }

    fn learn_catalog(
        &self,
        name: &CatalogName,
        version: u32,
        definition: serde_json::Value,
    ) -> Result<Arc<CatalogInForce>, EngineError> {
        let read = CatalogInForce::read(version, definition).map_err(|invalid| {
            EngineError::Unavailable(format!("the stored catalog {name} cannot be read: {invalid}"))
        })?;
        Ok(self.catalogs.entry(name.clone()).or_insert_with(|| Arc::new(read)).clone())
    }

    /// Puts the versions of the known catalogs in force that were applied since the last time.
    async fn follow_catalogs(&self) -> Result<(), EngineError> {
        let since = self.catalogs_seen.load(Ordering::Relaxed);
        for changed in self.source.catalogs_changed_since(since).await? {
            let known = self.catalogs.get(&changed.catalog).map(|known| known.clone());
            if let Some(known) = known
                && known.version() != changed.version
                && let Some(stored) = self.source.newer_catalog(&changed.catalog).await?
            {
                match known.replace(stored) {
                    Ok(()) => self.is_unsaved.store(true, Ordering::Relaxed),
                    // An older sidecar goes on with what it can read.
                    Err(error) => tracing::warn!(
                        catalog = %changed.catalog, version = changed.version, %error,
                        "cannot read the new version of a catalog; the one before stays in force"
                    ),
                }
            }
            self.catalogs_seen.fetch_max(changed.change, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn plan(&self, version: &PlanVersion) -> Result<Arc<CompiledPlan>, EngineError> {
        if let Some(known) = self.plans.get(version) {
            return Ok(known.compiled.clone());
        }
        let load = || async {
            if let Some(known) = self.plans.get(version).map(|known| known.compiled.clone()) {
                return Ok(known);
            }
            let definition = self.source.plan_definition(version).await?;
            self.learn_plan(version.clone(), definition)
        };
        self.plan_loads.one(version, load).await
    }

    fn learn_plan(
        &self,
        version: PlanVersion,
        definition: serde_json::Value,
    ) -> Result<Arc<CompiledPlan>, EngineError> {
        let compiled = CompiledPlan::from_json(&definition).map_err(|invalid| {
            EngineError::Unavailable(format!(
                "the stored definition of plan {}/{} version {} cannot be read: {invalid}",
                version.catalog, version.plan, version.version
            ))
        })?;
        let compiled = Arc::new(compiled);
        let known = KnownPlan { compiled: compiled.clone(), definition };
        self.plans.insert(version, Arc::new(known));
        Ok(compiled)
    }

    /// Takes in what has changed since the last time, at most one page of it. Answers the counters
    /// whose ceilings changed, and whether there may be more.
    pub async fn follow(&self) -> Result<(Vec<Arc<Counter>>, bool), EngineError> {
        let _changing = self.loading.write().await;
        self.follow_catalogs().await?;
        let since = self.lock_cursor().clone();
        let (tenants, cursor) = self.source.changes_since(since).await?;
        let has_more = !tenants.is_empty();
        let mut counters = vec![];
        for tenant in tenants {
            self.unknown.forget(&tenant.id);
            counters.extend(self.follow_pools(&tenant).await?);
            if let Some(state) = self.known(&tenant.id) {
                counters.extend(state.replace_terms(self.terms(tenant.into()).await?));
                self.is_unsaved.store(true, Ordering::Relaxed);
            }
        }
        *self.lock_cursor() = cursor;
        Ok((counters, has_more))
    }

    /// Reads a known tenant again, at once. Answers the counters whose ceilings changed.
    pub async fn reload(&self, tenant: &TenantId) -> Result<Vec<Arc<Counter>>, EngineError> {
        let _loading = self.loading.read().await;
        let Some(state) = self.known(tenant) else { return Ok(vec![]) };
        let Some(loaded) = self.source.tenant(tenant).await? else { return Ok(vec![]) };
        self.is_unsaved.store(true, Ordering::Relaxed);
        let mut counters = self.follow_pools(&loaded).await?;
        counters.extend(state.replace_terms(self.terms(loaded).await?));
        Ok(counters)
    }

    /// The shared ledger, unless everything is in a file.
    pub fn ledger(&self) -> Option<&Ledger> {
        match &self.source {
            Source::Ledger(ledger) => Some(ledger),
            Source::File(_) => None,
        }
    }

    /// The pools of a tenant are known, have at least the sizes that it was read with, and follow its
    /// account's clock. Answers the counters whose ceilings changed.
    ///
    /// It comes before the tenant's own terms: so no member is ever known by newer terms of a pool
    /// than the pool's cells, here and in the snapshot.
    async fn follow_pools(&self, tenant: &Tenant) -> Result<Vec<Arc<Counter>>, EngineError> {
        let mut counters = vec![];
        for pool in tenant.pools.iter().map(|membership| &membership.pool) {
            self.settling.note(pool);
            let is_behind = |owner: &TenantId| {
                self.known(owner).is_none_or(|cell| cell.terms().tenant.version < pool.version)
            };
            if pool.owners().any(|owner| is_behind(&owner))
                && let Some(stored) = self.source.pool(pool.id).await?
            {
                for (cell, definition) in pool.owners().filter_map(|owner| stored.cell(&owner)) {
                    counters.extend(self.learn_cell(cell, &definition).await?);
                }
            }
            for cell in pool.owners().filter_map(|owner| self.known(&owner)) {
                let terms = cell.terms();
                if terms.tenant.test_clock != tenant.test_clock {
                    let known = Tenant::clone(&terms.tenant);
                    let moved = Tenant { test_clock: tenant.test_clock, ..known };
                    cell.replace_terms(terms.of(moved));
                }
            }
        }
        Ok(counters)
    }

    /// Takes in a cell of a pool, whose plan is its own. Answers the counters whose ceilings changed.
    async fn learn_cell(
        &self,
        cell: Tenant,
        definition: &serde_json::Value,
    ) -> Result<Vec<Arc<Counter>>, EngineError> {
        let catalog = self.catalog(&cell.subscription.plan.catalog).await?;
        let terms = cell_terms(cell, definition, catalog)?;
        self.is_unsaved.store(true, Ordering::Relaxed);
        let known = match self.tenants.entry(terms.tenant.id.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(self.enrolled(TenantState::new(terms, self.seed.clone())));
                return Ok(vec![]);
            }
            Entry::Occupied(known) => known.get().clone(),
        };
        Ok(known.replace_terms(terms))
    }

    /// Begins with what the last snapshot knew. An unreadable one is as good as none.
    pub fn restore(&self) {
        let Some(path) = &self.snapshot_path else { return };
        let snapshot = match Snapshot::read(path) {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "ignoring an unreadable snapshot");
                return;
            }
        };
        for (version, definition) in &snapshot.plans {
            if let Err(error) = self.learn_plan(version.clone(), definition.clone()) {
                tracing::warn!(%error, "ignoring a plan of the snapshot");
            }
        }
        for (name, version, definition) in &snapshot.catalogs {
            if let Err(error) = self.learn_catalog(name, *version, definition.clone()) {
                tracing::warn!(%error, "ignoring a catalog of the snapshot");
            }
        }
        *self.lock_cursor() = ChangeCursor::after(snapshot.change_version);
        let (tenants, cells) = snapshot.into_tenants();
        for (cell, definition) in cells {
            let catalog = self.catalogs.get(&cell.subscription.plan.catalog);
            let Some(catalog) = catalog.map(|catalog| catalog.clone()) else { continue };
            match cell_terms(cell, &definition, catalog) {
                Ok(terms) => self.put(terms),
                Err(error) => tracing::warn!(%error, "ignoring a pool of the snapshot"),
            }
        }
        for tenant in tenants {
            let version = &tenant.subscription.plan;
            let plan = self.plans.get(version).map(|plan| plan.compiled.clone());
            let catalog = self.catalogs.get(&version.catalog).map(|catalog| catalog.clone());
            if let Some((plan, catalog)) = plan.zip(catalog) {
                tenant.pools.iter().for_each(|one| self.settling.note(&one.pool));
                self.put(Terms::new(tenant.into(), plan, catalog));
            }
        }
        tracing::info!(tenants = self.tenants.len(), "serving from the snapshot");
    }

    fn put(&self, terms: Terms) {
        let id = terms.tenant.id.clone();
        let state = Arc::new(TenantState::new(terms, self.seed.clone()));
        match self.tenants.insert(id, state.clone()) {
            Some(before) => {
                self.roster.replace(&before, state);
                before.send_onlookers_away();
            }
            None => self.roster.add(state),
        }
    }

    /// A tenant that is about to be found.
    fn enrolled(&self, state: TenantState) -> Arc<TenantState> {
        let state = Arc::new(state);
        self.roster.add(state.clone());
        state
    }

    /// Writes the snapshot if there is anything new. Blocks on the disk.
    pub fn save(&self) -> std::io::Result<()> {
        let Some(path) = &self.snapshot_path else { return Ok(()) };
        if !self.is_unsaved.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        // Of the cursor's own version some tenants may be missing: they are looked at again.
        let version = self.lock_cursor().version.saturating_sub(1);
        let terms_of = |are_cells: bool| {
            let wanted =
                self.tenants.iter().filter(|state| state.key().pool().is_some() == are_cells);
            wanted.map(|state| state.terms()).collect::<Vec<_>>()
        };
        // Pools after their members: none is older than what a member knows of it.
        let tenants = terms_of(false);
        let cells = terms_of(true);
        let plans =
            self.plans.iter().map(|plan| (plan.key().clone(), plan.definition.clone())).collect();
        let catalogs = self.catalogs.iter().map(|catalog| {
            let (version, definition) = catalog.stored();
            (catalog.key().clone(), version, definition)
        });
        let tenant = |terms: &Arc<Terms>| Tenant::clone(&terms.tenant);
        let cell = |terms: &Arc<Terms>| (tenant(terms), terms.plan.definition.to_json());
        Snapshot::new(SnapshotParts {
            change_version: version,
            tenants: tenants.iter().map(tenant),
            pool_cells: cells.iter().map(cell),
            plans,
            catalogs: catalogs.collect(),
        })
        .write(path)
        .inspect_err(|_| self.is_unsaved.store(true, Ordering::Relaxed))
    }

    fn lock_cursor(&self) -> MutexGuard<'_, ChangeCursor> {
        self.cursor.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The pools of known tenants that are settling at another size.
    pub fn settling_pools(&self) -> Vec<Pool> {
        self.settling.all()
    }
}

/// The terms of a pool's cell. Its plan is made of its own definition, and never looked up by name.
fn cell_terms(
    cell: Tenant,
    definition: &serde_json::Value,
    catalog: Arc<CatalogInForce>,
) -> Result<Terms, EngineError> {
    let plan = CompiledPlan::from_json(definition).map_err(|invalid| {
        EngineError::Unavailable(format!("the pool of {} cannot be read: {invalid}", cell.id))
    })?;
    Ok(Terms::new(cell.into(), Arc::new(plan), catalog))
}
