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
        ids::{MeterName, RunId, Subject, TenantId},
        properties::Properties,
        usage::UsageEvent,
        window::{BillingInterval, WindowSchedule},
    },
    jobs::{
        overages,
        runner::{HandRun, HandRunEnd, Outcome, Runner},
    },
    ledger::{
        Ledger,
        charges::{Charge, ChargesQuery},
        config::LedgerConfig,
        flush::{FlushBatch, FlushOutcome},
        runs::NewRun,
    },
};
use uuid::Uuid;

use crate::fixture::Database;

/// The billing anchor and the start of every subscription, unless told otherwise.
pub const STARTED_AT: &str = "2015-01-01T00:00:00Z";

/// See the module.
pub struct World {
    pub ledger: Ledger,
    pub pool: PgPool,
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
        let database = Database::create().await;
        let ledger = Ledger::new(&LedgerConfig::at(&database.url)).unwrap();
        let run = RunId(Uuid::new_v4());
        let new = NewRun {
            run,
            host: "host".to_owned(),
            boot_id: "boot".to_owned(),
            started_at: at(STARTED_AT),
        };
        ledger.register_run(&new).await.unwrap();
        let pool = database.pool().await;
        let mut world = Self { ledger, pool, plans: Vec::new(), run, position: Mutex::new(0) };
        world.apply(name, text).await;
        world
    }

    /// Puts a catalog in force, each plan one version up.
    pub async fn apply(&mut self, name: &str, text: &str) {
        let catalog = Catalog::parse(name, text).unwrap();
        self.plans.clear();
        sqlx::query(
            "WITH v AS (INSERT INTO catalogs VALUES ($1, 1, 1)
                        ON CONFLICT (catalog) DO UPDATE
                        SET current_version = catalogs.current_version + 1
                        RETURNING current_version)
             INSERT INTO catalog_versions SELECT $1, current_version, '', '{}' FROM v",
        )
        .bind(name)
        .execute(&self.pool)
        .await
        .unwrap();
        for plan in &catalog.definition().plans {
            let definition = PlanDefinition::of(catalog.definition(), plan);
            sqlx::query(
                "WITH v AS (SELECT current_version AS number FROM catalogs WHERE catalog = $1)
                 INSERT INTO plan_versions SELECT $1, $2, number, number, '', $3 FROM v",
            )
            .bind(name)
            .bind(plan.name.as_str())
            .bind(serde_json::to_value(&definition).unwrap())
            .execute(&self.pool)
            .await
            .unwrap();
            self.plans.push(CompiledPlan::compile(definition).unwrap());
        }
    }

    /// A tenant, alone in its account, on the first version of `plan`, in UTC.
    pub async fn tenant(&self, tenant: &str, plan: &str) {
        self.tenant_since(tenant, plan, 1, at(STARTED_AT)).await;
    }

    /// As [`World::tenant`]; for an existing tenant, a change of plan at that time.
    pub async fn tenant_since(&self, tenant: &str, plan: &str, version: i32, since: Timestamp) {
        let catalog = self.plans[0].catalog.as_str();
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "INSERT INTO accounts (account, zone) VALUES ('{tenant}', 'UTC') ON CONFLICT DO NOTHING;
             INSERT INTO tenants (tenant, account, change_version)
             SELECT '{tenant}', '{tenant}', count(*) + 1 FROM tenants ON CONFLICT DO NOTHING;
             INSERT INTO subscription_history
             SELECT '{tenant}',
                    coalesce((SELECT subscription FROM subscription_history
                              WHERE tenant = '{tenant}' LIMIT 1), gen_random_uuid()),
                    (SELECT count(*) + 1 FROM subscription_history WHERE tenant = '{tenant}'),
                    '{since}', '{catalog}', '{plan}', {version}, 'active', 'UTC', '{STARTED_AT}',
                    'monthly', 1, 1, 'test', ''"
        )))
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Puts the tenant's account on a test clock, set at `set_at` (real time).
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
