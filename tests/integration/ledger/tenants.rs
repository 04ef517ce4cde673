//! Catalogs, tenants, subscriptions and the changes that sidecars follow.

use std::time::Duration;

use tollgate::{
    domain::{
        ids::{CatalogName, PlanName},
        tenant::{PlanVersion, SubscriptionStatus},
        window::BillingInterval,
    },
    ledger::{
        Ledger, LedgerError, Refusal,
        catalogs::WhichVersion,
        subscriptions::{PlanChange, WindowsAfter},
        tenants::ChangeCursor,
    },
};

use super::world::{AUTHOR, World, at, catalog, new_tenant, tenant};

fn shop() -> CatalogName {
    CatalogName::new("shop").unwrap()
}

fn plan(name: &str) -> PlanName {
    PlanName::new(name).unwrap()
}

fn basic(version: u32) -> PlanVersion {
    PlanVersion { catalog: shop(), plan: plan("basic"), version }
}

fn change_to(name: &str, plan_version: WhichVersion) -> PlanChange {
    PlanChange {
        catalog: shop(),
        plan: plan(name),
        plan_version,
        interval: None,
        windows: WindowsAfter::Keep,
        effective_at: at("2026-02-15T00:00:00Z"),
    }
}

#[tokio::test]
async fn applying_a_catalog_twice_changes_nothing() {
    let world = World::new().await;
    let before = world.ledger.change_version().await.unwrap();
    let applied = world.ledger.apply_catalog(&catalog("1", &[("basic", "1")]), AUTHOR).await;
    let applied = applied.unwrap();
    assert!(!applied.is_new && applied.changed_plans.is_empty(), "{applied:?}");
    assert_eq!(world.ledger.change_version().await.unwrap(), before);
}

#[tokio::test]
async fn a_changed_plan_becomes_a_version_and_subscribers_keep_theirs() {
    let world = World::new().await;
    let content = catalog("2", &[("basic", "2"), ("extra", "1")]);
    let applied = world.ledger.apply_catalog(&content, AUTHOR).await.unwrap();
    assert_eq!(applied.version, 2);
    assert_eq!(applied.changed_plans, [(plan("basic"), 2), (plan("extra"), 1)]);
    let kept = world.ledger.tenant(&tenant("t1")).await.unwrap().unwrap().tenant;
    assert_eq!(kept.subscription.plan, basic(1));
    let definition = world.ledger.plan_definition(&basic(1)).await.unwrap().unwrap();
    assert_eq!(definition["content"], "1");
    let created = world.ledger.create_tenants(&[new_tenant("new")], AUTHOR).await.unwrap();
    assert_eq!(created[0].subscription.plan, basic(2));

    // Back to the first content is a version of its own, and the other plan retires.
    let applied = world.ledger.apply_catalog(&catalog("1", &[("basic", "1")]), AUTHOR).await;
    let applied = applied.unwrap();
    assert_eq!(applied.changed_plans, [(plan("basic"), 3)]);
    assert_eq!(applied.retired_plans, [plan("extra")]);
    let stored = world.ledger.catalog(&shop(), WhichVersion::Exactly(2)).await.unwrap().unwrap();
    assert_eq!(stored.definition["content"], "2");
    let current = world.ledger.catalog(&shop(), WhichVersion::Current).await.unwrap().unwrap();
    assert_eq!(current.version, 3);
    let error = world
        .ledger
        .set_plan(&tenant("t1"), &change_to("extra", WhichVersion::Current), AUTHOR)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("shop/extra"), "{error}");
}

#[tokio::test]
async fn a_tenant_reads_back_as_it_was_created() {
    let world = World::new().await;
    let mut new = new_tenant("clocked");
    new.test_clock = Some(at("2015-05-17T00:00:00Z"));
    let created = world.ledger.create_tenants(&[new], AUTHOR).await.unwrap().remove(0);
    let read = world.ledger.tenant(&tenant("clocked")).await.unwrap().unwrap();
    assert_eq!(read.tenant, created);
    assert_eq!(created.test_clock, Some(at("2015-05-17T00:00:00Z")));
    assert_eq!(read.name, "The tenant clocked");
}

#[tokio::test]
async fn tenants_are_created_all_or_none() {
    let world = World::new().await;
    let both = [new_tenant("fresh"), new_tenant("t1")];
    let error = world.ledger.create_tenants(&both, AUTHOR).await.unwrap_err();
    assert!(
        matches!(&error, LedgerError::Refused(Refusal::Exists { what: "tenant", id }) if id == "t1"),
        "{error}"
    );
    assert_eq!(world.ledger.tenant(&tenant("fresh")).await.unwrap(), None);
    let mut odd = new_tenant("fresh");
    odd.zone = "Europe/Atlantis".into();
    let error = world.ledger.create_tenants(&[odd], AUTHOR).await.unwrap_err();
    assert!(error.to_string().contains("Europe/Atlantis"), "{error}");
}

#[tokio::test]
async fn a_change_of_plan_keeps_the_windows_unless_asked_to_reset_them() {
    let world = World::new().await;
    world
        .ledger
        .apply_catalog(&catalog("2", &[("basic", "1"), ("extra", "1")]), AUTHOR)
        .await
        .unwrap();
    let before = world.ledger.tenant(&tenant("t1")).await.unwrap().unwrap().tenant;
    let mut change = change_to("extra", WhichVersion::Current);
    let kept = world.ledger.set_plan(&tenant("t1"), &change, AUTHOR).await.unwrap();
    assert_eq!(kept.subscription.plan.plan, plan("extra"));
    assert_eq!(kept.subscription.schedule, before.subscription.schedule);
    assert!(kept.version > before.version);

    change = change_to("basic", WhichVersion::Exactly(1));
    change.windows = WindowsAfter::Reset;
    let reset = world.ledger.set_plan(&tenant("t1"), &change, AUTHOR).await.unwrap();
    assert_eq!(reset.subscription.schedule.version, 2);
    assert_eq!(reset.subscription.schedule.anchor, change.effective_at);

    change.windows = WindowsAfter::Keep;
    change.interval = Some(BillingInterval::Yearly);
    let yearly = world.ledger.set_plan(&tenant("t1"), &change, AUTHOR).await.unwrap();
    assert_eq!(yearly.subscription.schedule.version, 3);

    let history = world.ledger.subscription_history(&tenant("t1")).await.unwrap();
    let plans: Vec<_> =
        history.iter().map(|it| it.subscription.plan.plan.as_str().to_owned()).collect();
    assert_eq!(plans, ["basic", "extra", "basic", "basic"]);
    assert_eq!(history.last().unwrap().subscription, yearly.subscription);
}

#[tokio::test]
async fn a_status_changes_with_its_history() {
    let world = World::new().await;
    let suspended = world
        .ledger
        .set_status(
            &tenant("t1"),
            SubscriptionStatus::Suspended,
            at("2026-02-01T00:00:00Z"),
            AUTHOR,
        )
        .await
        .unwrap();
    assert!(!suspended.subscription.status.is_served());
    let history = world.ledger.subscription_history(&tenant("t1")).await.unwrap();
    assert_eq!(history[1].effective_at, at("2026-02-01T00:00:00Z"));
    let audited: Vec<(String,)> =
        sqlx::query_as("SELECT action FROM audit_log WHERE tenant = 't1' ORDER BY entry")
            .fetch_all(&world.database.pool().await)
            .await
            .unwrap();
    assert_eq!(audited, [("tenant.create".to_owned(),), ("tenant.set_status".to_owned(),)]);
}

#[tokio::test]
async fn a_test_clock_goes_forward_and_reaches_the_accounts_tenants() {
    let world = World::new().await;
    let account = "account-of-t1".parse().unwrap();
    let version = world.ledger.change_version().await.unwrap();
    let noon = at("2026-02-01T12:00:00Z");
    world.ledger.set_test_clock(&account, Some(noon), AUTHOR).await.unwrap();
    let (changed, _) =
        world.ledger.tenants_changed_since(&ChangeCursor::after(version), 10).await.unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].test_clock, Some(noon));
    let back = Some(at("2026-02-01T11:00:00Z"));
    let error = world.ledger.set_test_clock(&account, back, AUTHOR).await.unwrap_err();
    assert!(error.to_string().contains("test_clock"), "{error}");
    let nobody = "nobody".parse().unwrap();
    let error = world.ledger.set_test_clock(&nobody, Some(noon), AUTHOR).await.unwrap_err();
    assert!(error.to_string().contains("nobody"), "{error}");
}

#[tokio::test]
async fn changed_tenants_come_in_pages_that_miss_none() {
    let world = World::new().await;
    let mut cursor = ChangeCursor::default();
    let mut seen = Vec::new();
    loop {
        let (page, next) = world.ledger.tenants_changed_since(&cursor, 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        seen.extend(page.into_iter().map(|tenant| tenant.id.to_string()));
        cursor = next;
    }
    // All ten were created by one change.
    assert_eq!(seen, (0..10).map(|n| format!("t{n}")).collect::<Vec<_>>());
    let clock = Some(at("2026-02-01T12:00:00Z"));
    world.ledger.set_test_clock(&"account-of-t4".parse().unwrap(), clock, AUTHOR).await.unwrap();
    let (page, _) = world.ledger.tenants_changed_since(&cursor, 3).await.unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].id, tenant("t4"));
}

#[tokio::test]
async fn tenants_are_listed_and_searched_in_pages() {
    let world = World::new().await;
    let page = world.ledger.list_tenants("", Some(&tenant("t3")), 2).await.unwrap();
    let ids: Vec<_> = page.iter().map(|it| it.tenant.id.as_str()).collect();
    assert_eq!(ids, ["t4", "t5"]);
    let found = world.ledger.list_tenants("TENANT T7", None, 20).await.unwrap();
    assert_eq!(found.len(), 1);
    // Search text is text, not a pattern.
    assert!(world.ledger.list_tenants("t_", None, 20).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_listener_hears_of_a_change_by_another_connection() {
    let world = World::new().await;
    let mut listener = world.ledger.listen_changes().await.unwrap();
    let other = Ledger::new(&tollgate::ledger::config::LedgerConfig::at(&world.database.url));
    let clock = Some(at("2026-02-01T12:00:00Z"));
    other.unwrap().set_test_clock(&"account-of-t4".parse().unwrap(), clock, AUTHOR).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), listener.next()).await.unwrap().unwrap();
}
