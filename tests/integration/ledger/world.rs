//! A ledger with a catalog, tenants and runs, and the events that tests flush into it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use tollgate::{
    domain::{
        cell_key::CellKey,
        ids::{CatalogName, IdempotencyKey, MeterName, PlanName, RunId, TenantId},
        meter::Aggregation,
        properties::Properties,
        tenant::SubscriptionStatus,
        usage::UsageEvent,
        window::BillingInterval,
    },
    ledger::{
        Ledger,
        catalogs::{CatalogContent, PlanContent, WhichVersion},
        changes::Author,
        config::LedgerConfig,
        flush::{FlushBatch, FlushOutcome, Flushed},
        reconcile::Scope,
        runs::NewRun,
        tenants::NewTenant,
    },
};
use uuid::Uuid;

use crate::fixture::Database;

pub const AUTHOR: Author<'static> = Author { actor: "test", reason: "" };
/// The month that events fall into unless told otherwise.
pub const LABEL: &str = "month:1772323200:1";
pub const TIME: &str = "2026-03-05T10:20:30Z";

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub struct World {
    pub ledger: Ledger,
    pub database: Database,
}

impl World {
    /// A ledger with the catalog `shop`, plan `basic`, and tenants `t0` to `t9`.
    pub async fn new() -> Self {
        let database = Database::create().await;
        let ledger = Ledger::new(&LedgerConfig::at(&database.url)).unwrap();
        ledger.apply_catalog(&catalog("1", &[("basic", "1")]), AUTHOR).await.unwrap();
        let tenants: Vec<_> = (0..10).map(|n| new_tenant(&format!("t{n}"))).collect();
        ledger.create_tenants(&tenants, AUTHOR).await.unwrap();
        Self { ledger, database }
    }

    /// A registered run.
    pub async fn run(&self) -> RunId {
        run_on(&self.ledger).await
    }

    /// Flushes `events` as the stretch from the run's mark `from` on, one position each.
    pub async fn flush(&self, run: RunId, from: u64, events: &[UsageEvent]) -> Flushed {
        match self.ledger.flush(&batch(run, from, events)).await.unwrap() {
            FlushOutcome::Flushed(flushed) => flushed,
            FlushOutcome::NotHere(standing) => panic!("the mark is elsewhere: {standing:?}"),
        }
    }

    /// What is used of `key`.
    pub async fn used(&self, key: &CellKey) -> i64 {
        let totals = self.ledger.window_totals(std::slice::from_ref(key)).await.unwrap();
        totals[0].as_ref().map_or(0, |totals| totals.used)
    }

    /// The ledger agrees with itself.
    pub async fn check(&self) {
        assert_eq!(self.ledger.disagreements(&Scope::default(), 100).await.unwrap(), []);
    }
}

pub async fn run_on(ledger: &Ledger) -> RunId {
    let run = RunId(Uuid::new_v4());
    let started_at = at("2026-03-01T00:00:00Z");
    let (host, boot_id) = ("host".into(), "boot".into());
    let new = NewRun { run, host, boot_id, started_at, mark_at: started_at, flushed_position: 0 };
    ledger.register_run(&new).await.unwrap();
    run
}

pub fn batch(run: RunId, from: u64, events: &[UsageEvent]) -> FlushBatch {
    let mut batch = FlushBatch::new(run, from);
    for (event, position) in events.iter().zip(from + 1..) {
        batch.push(position, event.clone());
    }
    batch.advance(from + events.len() as u64, at("2026-03-05T10:20:31Z"));
    batch
}

pub fn catalog(content: &str, plans: &[(&str, &str)]) -> CatalogContent {
    let plan = |(name, content): &(&str, &str)| PlanContent {
        plan: PlanName::new(name).unwrap(),
        content_hash: format!("hash of {content}"),
        definition: json!({ "content": content }),
    };
    CatalogContent {
        catalog: CatalogName::new("shop").unwrap(),
        content_hash: format!("hash of {content}"),
        definition: json!({ "content": content }),
        plans: plans.iter().map(plan).collect(),
    }
}

pub fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

pub fn new_tenant(name: &str) -> NewTenant {
    NewTenant {
        tenant: tenant(name),
        account: format!("account-of-{name}").parse().unwrap(),
        name: format!("The tenant {name}"),
        catalog: CatalogName::new("shop").unwrap(),
        plan: PlanName::new("basic").unwrap(),
        plan_version: WhichVersion::Current,
        status: SubscriptionStatus::Active,
        zone: "Europe/London".into(),
        anchor: at("2026-01-01T00:00:00Z"),
        interval: BillingInterval::Monthly,
        started_at: at("2026-01-01T00:00:00Z"),
        test_clock: None,
    }
}

pub fn key(tenant: &str, meter: &str) -> CellKey {
    CellKey {
        tenant: TenantId::new(tenant).unwrap(),
        meter: MeterName::new(meter).unwrap(),
        subject: None,
        label: LABEL.parse().unwrap(),
    }
}

/// An event of the meter `tokens`, recorded without escrow.
pub fn event(tenant: &str, amount: i64) -> UsageEvent {
    UsageEvent {
        key: key(tenant, "tokens"),
        aggregation: Aggregation::Sum,
        amount,
        distinct_value: None,
        time: at(TIME),
        idempotency_key: None,
        properties: Properties::default(),
        group_by: Vec::new(),
        event_retention_days: 0,
        from_lease: 0,
        reservation: None,
        parts: vec![],
        operation: None,
    }
}

pub fn keyed(tenant: &str, amount: i64, key: &str) -> UsageEvent {
    let idempotency_key = Some(IdempotencyKey::new(key).unwrap());
    UsageEvent { idempotency_key, ..event(tenant, amount) }
}

pub fn properties(entries: &[(&str, &str)]) -> Properties {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Properties::new(entries.iter().map(own).collect::<BTreeMap<_, _>>()).unwrap()
}
