//! A ledger with catalogs, tenants and usage in it, as sidecars and operators would leave it.

use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tollgate::{
    clock::Clock,
    domain::{
        catalog::{compiled_plan::CompiledPlan, file::Catalog, plan_definition::PlanDefinition},
        cell_key::CellKey,
        ids::{AccountId, MeterName, PlanName, RunId, Subject, TenantId},
        properties::Properties,
        tenant::SubscriptionStatus,
        usage::UsageEvent,
        window::{BillingInterval, WindowSchedule},
    },
    jobs::{
        overages,
        runner::{HandRun, HandRunEnd, Outcome, Runner},
    },
    ledger::{
        Ledger,
        catalogs::{CatalogContent, PlanContent, WhichVersion},
        changes::Author,
        charges::{Charge, ChargesQuery},
        config::LedgerConfig,
        flush::{FlushBatch, FlushOutcome},
        runs::{ClosedHow, Forfeits, NewRun},
        subscriptions::{PlanChange, WindowsAfter},
        tenants::NewTenant,
    },
};
use uuid::Uuid;

use crate::fixture::Database;

/// The billing anchor and the start of every subscription, unless told otherwise.
pub const STARTED_AT: &str = "2015-01-01T00:00:00Z";

const AUTHOR: Author<'_> = Author { actor: "test", reason: "" };

/// See the module.
pub struct World {
    pub ledger: Ledger,
    pub pool: PgPool,
    /// Of the database.
    pub url: String,
    plans: Vec<CompiledPlan>,
    run: RunId,
    position: Mutex<u64>,
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl World {
    /// A world with the catalog of that name in `deploy/catalogs`.
    pub async fn with_catalog(name: &str) -> Self {
        let path = format!("{}/deploy/catalogs/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        Self::with_catalog_text(name, &std::fs::read_to_string(path).unwrap()).await
    }

    pub async fn with_catalog_text(name: &str, text: &str) -> Self {
        Self::on(Database::create().await, name, text).await
    }

    /// A world in an empty database.
    pub async fn on(database: Database, name: &str, text: &str) -> Self {
        let ledger = Ledger::new(&LedgerConfig::at(&database.url)).unwrap();
        let run = RunId(Uuid::new_v4());
        let new = NewRun {
            run,
            host: "host".to_owned(),
            boot_id: "boot".to_owned(),
            started_at: at(STARTED_AT),
            mark_at: at(STARTED_AT),
            flushed_position: 0,
        };
        ledger.register_run(&new).await.unwrap();
        let pool = database.pool().await;
        let url = database.url;
        let mut world = Self { ledger, pool, url, plans: Vec::new(), run, position: Mutex::new(0) };
        world.apply(name, text).await;
        world
    }

    /// Closes the run that the world flushes as, so that real ones need not wait for it.
    pub async fn close_own_run(&self) {
        self.ledger.close_run(self.run, ClosedHow::Stopped, Forfeits::NONE, None).await.unwrap();
        self.ledger.note_folded(self.run, None).await.unwrap();
    }

    /// Puts a catalog in force; plans whose content changed go one version up.
    pub async fn apply(&mut self, name: &str, text: &str) {
        let catalog = Catalog::parse(name, text).unwrap();
        let plan = |plan: PlanDefinition| PlanContent {
            plan: plan.plan.name.clone(),
            content_hash: plan.hash().as_str().to_owned(),
            definition: plan.to_json(),
        };
        let content = CatalogContent {
            catalog: catalog.name().clone(),
            content_hash: catalog.hash().as_str().to_owned(),
            definition: catalog.to_json(),
            plans: catalog.plans().map(plan).collect(),
        };
        self.ledger.apply_catalog(&content, AUTHOR).await.unwrap();
        self.plans = catalog.plans().map(|plan| CompiledPlan::compile(plan).unwrap()).collect();
    }

    /// A tenant, alone in its account, on the current version of `plan`, in UTC.
    pub async fn tenant(&self, tenant: &str, plan: &str) {
        self.tenants([(tenant, plan)]).await;
    }

    /// As [`World::tenant`], many at once.
    pub async fn tenants<'a>(&self, tenants: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.tenants_at(None, tenants).await;
    }

    /// As [`World::tenants`], their accounts on a test clock that stands at `clock`.
    pub async fn tenants_at<'a>(
        &self,
        clock: Option<Timestamp>,
        tenants: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let new = tenants.into_iter().map(|(tenant, plan)| NewTenant {
            test_clock: clock,
            ..self.new_tenant(tenant, tenant, plan)
        });
        self.ledger.create_tenants(&new.collect::<Vec<_>>(), AUTHOR).await.unwrap();
    }

    /// As [`World::tenants_at`], all in one account.
    pub async fn tenants_of<'a>(
        &self,
        account: &str,
        clock: Timestamp,
        tenants: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let new = tenants.into_iter().map(|(tenant, plan)| NewTenant {
            test_clock: Some(clock),
            ..self.new_tenant(account, tenant, plan)
        });
        self.ledger.create_tenants(&new.collect::<Vec<_>>(), AUTHOR).await.unwrap();
    }

    fn new_tenant(&self, account: &str, tenant: &str, plan: &str) -> NewTenant {
        NewTenant {
            tenant: TenantId::new(tenant).unwrap(),
            account: AccountId::new(account).unwrap(),
            name: String::new(),
            catalog: self.plans[0].catalog.clone(),
            plan: PlanName::new(plan).unwrap(),
            plan_version: WhichVersion::Current,
            status: SubscriptionStatus::Active,
            zone: "UTC".to_owned(),
            anchor: at(STARTED_AT),
            interval: BillingInterval::Monthly,
            started_at: at(STARTED_AT),
            test_clock: None,
        }
    }

    /// Puts a tenant on the current version of `plan`.
    pub async fn set_plan(
        &self,
        tenant: &str,
        plan: &str,
        effective_at: &str,
        windows: WindowsAfter,
    ) {
        let change = PlanChange {
            catalog: self.plans[0].catalog.clone(),
            plan: PlanName::new(plan).unwrap(),
            plan_version: WhichVersion::Current,
            interval: None,
            windows,
            effective_at: at(effective_at),
        };
        let tenant = TenantId::new(tenant).unwrap();
        self.ledger.set_plan(&tenant, &change, AUTHOR).await.unwrap();
    }

    /// Puts the tenant's account on a test clock, as if at `set_at` (real time).
    pub async fn set_clock(&self, tenant: &str, to: Timestamp, set_at: Timestamp) {
        let sql = format!(
            "UPDATE accounts SET test_clock = '{to}', clock_set_at = '{set_at}'
             WHERE account = '{tenant}'"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    /// One event as a sidecar would journal it, by the current plans' meters.
    pub fn event(&self, tenant: &str, meter: &str, amount: i64, time: Timestamp) -> UsageEvent {
        let terms = self.plans.iter().find_map(|plan| plan.meter(meter)).unwrap();
        let schedule = WindowSchedule {
            zone: TimeZone::UTC,
            anchor: at(STARTED_AT),
            interval: BillingInterval::Monthly,
            version: 1,
        };
        UsageEvent {
            key: CellKey {
                tenant: TenantId::new(tenant).unwrap(),
                meter: MeterName::new(meter).unwrap(),
                subject: None,
                label: schedule.window(terms.limit.period, time).label,
            },
            aggregation: terms.meter.aggregation,
            amount,
            distinct_value: None,
            time,
            idempotency_key: None,
            properties: Properties::default(),
            group_by: terms.meter.group_by.clone(),
            event_retention_days: 0,
            from_lease: 0,
            reservation: None,
            parts: vec![],
            operation: None,
        }
    }

    /// Records one amount.
    pub async fn record(&self, tenant: &str, meter: &str, amount: i64, time: &str) {
        self.flush(vec![self.event(tenant, meter, amount, at(time))]).await;
    }

    /// Records one amount for a subject of the tenant.
    pub async fn record_for(
        &self,
        tenant: &str,
        meter: &str,
        subject: &str,
        amount: i64,
        time: &str,
    ) {
        let mut event = self.event(tenant, meter, amount, at(time));
        event.key.subject = Some(Subject::new(subject).unwrap());
        self.flush(vec![event]).await;
    }

    /// Flushes events; the run's mark stays where it is.
    pub async fn flush(&self, events: Vec<UsageEvent>) {
        self.flush_through(events, at(STARTED_AT)).await;
    }

    /// Says that everything the run acknowledged until `through` is in the ledger.
    pub async fn mark(&self, through: &str) {
        self.flush_through(Vec::new(), at(through)).await;
    }

    async fn flush_through(&self, events: Vec<UsageEvent>, through: Timestamp) {
        let mut position = self.position.lock().await;
        let mut batch = FlushBatch::new(self.run, *position);
        for event in events {
            *position += 1;
            batch.push(*position, event);
        }
        *position += 1;
        batch.advance(*position, through);
        let outcome = self.ledger.flush(&batch).await.unwrap();
        let FlushOutcome::Flushed(flushed) = outcome else { panic!("{outcome:?}") };
        assert_eq!(flushed.quarantined, 0);
    }

    /// A worker whose machine says that it is `real_now`.
    pub fn worker(&self, real_now: &str) -> Arc<Runner> {
        let job = overages::job(self.ledger.clone(), overages::SCHEDULE, TimeZone::UTC).unwrap();
        let clock = Clock::manual(at(real_now));
        Arc::new(Runner::new(self.ledger.clone(), vec![job], clock, Uuid::new_v4().to_string()))
    }

    /// Runs the job by hand at `now` by the machine's clock, and gives its summary.
    pub async fn charge(&self, now: &str) -> Value {
        succeeded(self.worker(now), None, None).await
    }

    /// Every charge, also those of 0.
    pub async fn charges(&self) -> Vec<Charge> {
        let asked = ChargesQuery { tenant: None, with_zero: true, limit: 100_000 };
        self.ledger.charges(asked).await.unwrap()
    }

    /// Every charge as (tenant, start of the period, minor units).
    pub async fn amounts(&self) -> Vec<(String, String, i64)> {
        let charges = self.charges().await;
        let shown = |charge: &Charge| {
            let start = charge.period_start.strftime("%Y-%m-%d").to_string();
            (charge.key.tenant.to_string(), start, charge.amount.minor)
        };
        charges.iter().map(shown).collect()
    }
}

/// Runs the job by hand, as its own tick or as `scheduled_at`, and gives its summary.
pub async fn succeeded(
    worker: Arc<Runner>,
    scheduled_at: Option<Timestamp>,
    now: Option<Timestamp>,
) -> Value {
    match by_hand(worker, scheduled_at, now).await {
        HandRunEnd::Ran(report) => match report.outcome {
            Outcome::Succeeded { summary } => summary,
            other => panic!("{other:?}"),
        },
        HandRunEnd::AlreadyRun(_) => json!("already run"),
        HandRunEnd::UnknownJob => panic!("no such job"),
    }
}

pub async fn by_hand(
    worker: Arc<Runner>,
    scheduled_at: Option<Timestamp>,
    now: Option<Timestamp>,
) -> HandRunEnd {
    let asked = HandRun { job: overages::NAME, scheduled_at, now };
    worker.run_by_hand(asked, &CancellationToken::new()).await.unwrap()
}
