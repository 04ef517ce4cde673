//! The overages job: from flushed usage to charges, once.

mod grants;
mod reconcile;
pub mod world;

use jiff::Timestamp;
use tollgate::{
    domain::{
        cell_key::CellKey,
        usage::{Part, UsageEvent},
    },
    jobs::runner::HandRunEnd,
    ledger::subscriptions::WindowsAfter,
    pricing::overage::OverageFacts,
};

use self::world::{World, at, by_hand, succeeded};

const GB: i64 = 1_000_000_000;

#[tokio::test]
async fn a_month_that_has_ended_is_charged_once_and_explains_itself() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    world.record("acme", "bandwidth", 112 * GB + GB / 10, "2015-05-20T12:00:00Z").await;
    assert_eq!(world.charge("2015-05-31T23:59:59Z").await["charged"], 0, "May has not ended");
    world.mark("2015-06-01T00:00:01Z").await;

    let summary = world.charge("2015-06-01T02:00:00Z").await;
    assert_eq!((&summary["charged"], &summary["owed"]["USD"]), (&1.into(), &"0.61".into()));
    let charges = world.charges().await;
    assert_eq!(charges.len(), 1);
    let charge = &charges[0];
    // 12.1 GB × 0.05 = 0.605, a tie.
    assert_eq!((charge.amount.minor, charge.quantity.to_string()), (61, "12.1".to_owned()));
    assert_eq!(charge.rate, Some("0.05".parse().unwrap()));
    assert_eq!(charge.explanation["exact"], "0.605");
    assert_eq!(charge.explanation["closed_by"], "marks");
    let facts: OverageFacts = serde_json::from_value(charge.explanation["facts"].clone()).unwrap();
    assert_eq!(facts.line().unwrap().amount, charge.amount, "recomputed from its own row");

    let again = world.charge("2015-06-01T02:00:01Z").await;
    assert_eq!((&again["charged"], &again["already_charged"]), (&0.into(), &0.into()));
    assert_eq!(world.charges().await, charges);
}

#[tokio::test]
async fn many_workers_at_once_write_the_same_charges_once() {
    let world = World::with_catalog("hosting").await;
    for number in 0..300i64 {
        let tenant = format!("tenant-{number:03}");
        world.tenant(&tenant, "starter").await;
        let event =
            world.event(&tenant, "bandwidth", (100 + number) * GB, at("2015-05-20T12:00:00Z"));
        world.flush(vec![event]).await;
    }
    world.mark("2015-06-01T00:00:01Z").await;
    // Runs of their own, so that the job itself runs eight times at once.
    let runs = (0..8).map(|number| {
        let own_tick = at("2015-06-01T02:00:00Z") + jiff::SignedDuration::from_secs(number);
        tokio::spawn(succeeded(world.worker("2015-06-01T03:00:00Z"), Some(own_tick), None))
    });
    let mut charged = 0;
    let mut nothing_owed = 0;
    for run in futures::future::join_all(runs).await {
        let summary = run.unwrap();
        charged += summary["charged"].as_u64().unwrap();
        nothing_owed += summary["nothing_owed"].as_u64().unwrap();
    }
    assert_eq!((charged, nothing_owed), (299, 1));
    let amounts = world.amounts().await;
    assert_eq!(amounts.len(), 300);
    for (number, (_, _, minor)) in amounts.iter().enumerate() {
        assert_eq!(*minor, 5 * i64::try_from(number).unwrap());
    }

    // And one tick for two workers is one run.
    let tick = Some(at("2015-07-01T02:00:00Z"));
    let (first, second) =
        (world.worker("2015-07-01T02:00:00Z"), world.worker("2015-07-01T02:00:00Z"));
    let ends = futures::future::join(by_hand(first, tick, None), by_hand(second, tick, None)).await;
    let ran = [&ends.0, &ends.1].into_iter().filter(|e| matches!(e, HandRunEnd::Ran(_))).count();
    assert_eq!(ran, 1, "{ends:?}");
}

#[tokio::test]
async fn every_tenant_is_charged_whatever_the_order_of_texts_in_the_database() {
    let world = World::with_catalog("hosting").await;
    // As a database with a locale of its own has it: small letters beside large ones.
    let ordered = "DROP POLICY own_rows ON tenants; DROP POLICY own_rows_written ON tenants;
                   ALTER TABLE tenants ALTER COLUMN tenant TYPE text COLLATE \"en-x-icu\"";
    sqlx::raw_sql(ordered).execute(&world.pool).await.unwrap();
    let names = ["Beta", "alpha", "Delta", "beta-2", "Alpha", "gamma", "Epsilon"];
    for name in names {
        world.tenant(name, "starter").await;
        world.record(name, "bandwidth", 120 * GB, "2015-05-20T12:00:00Z").await;
    }
    world.mark("2015-06-01T00:00:01Z").await;
    assert_eq!(world.charge("2015-06-01T02:00:00Z").await["charged"], names.len());
}

#[tokio::test]
async fn a_window_waits_for_runs_that_have_not_reported_for_an_hour_at_most() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    world.record("acme", "bandwidth", 110 * GB, "2015-05-31T23:59:00Z").await;
    world.mark("2015-05-31T23:59:30Z").await;

    let early = world.charge("2015-06-01T00:59:59Z").await;
    assert_eq!((&early["charged"], &early["not_closed"]), (&0.into(), &1.into()));
    // What the run still had is in the charge, since it came before the window was closed.
    world.record("acme", "bandwidth", 10 * GB, "2015-05-31T23:59:40Z").await;
    let late = world.charge("2015-06-01T01:00:00Z").await;
    assert_eq!((&late["charged"], &late["not_closed"]), (&1.into(), &0.into()));
    let charge = world.charges().await.remove(0);
    assert_eq!(
        (charge.amount.minor, charge.explanation["closed_by"].as_str()),
        (100, Some("wait"))
    );

    // What comes later is left to an adjustment: the charge says what it was made of.
    world.record("acme", "bandwidth", 50 * GB, "2015-05-31T23:59:50Z").await;
    world.charge("2015-07-01T02:00:00Z").await;
    let charges = world.charges().await;
    assert_eq!(charges, [charge]);
    assert_eq!(charges[0].explanation["facts"]["used"], 120 * GB);
}

#[tokio::test]
async fn a_tenant_on_a_test_clock_follows_it_and_not_the_workers() {
    let world = World::with_catalog("hosting").await;
    for tenant in ["behind", "ahead"] {
        world.tenant(tenant, "starter").await;
        world.record(tenant, "bandwidth", 120 * GB, "2015-05-20T00:00:00Z").await;
    }
    let set_at = at("2025-11-21T10:00:00Z");
    world.set_clock("behind", at("2015-05-31T00:00:00Z"), set_at).await;
    world.set_clock("ahead", at("2015-06-01T00:00:00Z"), set_at).await;
    world.mark("2025-11-21T10:00:00.9Z").await;
    // A sidecar may not have heard of the new time yet.
    let summary = world.charge("2025-11-21T10:00:02Z").await;
    assert_eq!((&summary["charged"], &summary["not_closed"]), (&0.into(), &1.into()));
    world.mark("2025-11-21T10:00:01Z").await;
    let summary = world.charge("2025-11-21T10:00:03Z").await;
    assert_eq!(summary["charged"], 1);
    assert_eq!(world.amounts().await, [("ahead".to_owned(), "2015-05-01".to_owned(), 100)]);
}

#[tokio::test]
async fn a_present_set_by_hand_is_that_of_tenants_without_a_clock() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    world.record("acme", "bandwidth", 120 * GB, "2026-11-20T00:00:00Z").await;
    let worker = world.worker("2026-11-21T10:00:00Z");
    let now: Timestamp = at("2026-12-01T02:00:00Z");
    assert_eq!(succeeded(worker, None, Some(now)).await["charged"], 1);
}

#[tokio::test]
async fn a_window_is_charged_by_the_plan_version_in_force_at_its_end() {
    let mut world = World::with_catalog("hosting").await;
    world.tenants([("keeps", "starter"), ("moves", "starter")]).await;
    world.set_plan("moves", "professional", "2015-05-20T00:00:00Z", WindowsAfter::Keep).await;
    let hosting = std::fs::read_to_string("deploy/catalogs/hosting.yaml").unwrap();
    let dearer = hosting.replace("overage: 0.05", "overage: 5.00");
    assert_ne!(hosting, dearer);
    world.apply("hosting", &dearer).await;
    world.tenant("new", "starter").await;
    for tenant in ["keeps", "moves", "new"] {
        for month in ["04", "05"] {
            world
                .record(tenant, "bandwidth", 600 * GB, &format!("2015-{month}-20T00:00:00Z"))
                .await;
        }
    }
    world.charge("2015-06-01T02:00:00Z").await;
    let expected = [
        ("keeps", "2015-04-01", 2_500),
        ("keeps", "2015-05-01", 2_500),
        ("moves", "2015-04-01", 2_500),
        // 100 GB × 0.04: the plan that it moved to includes 500.
        ("moves", "2015-05-01", 400),
        ("new", "2015-04-01", 250_000),
        ("new", "2015-05-01", 250_000),
    ];
    let expected =
        expected.map(|(tenant, start, minor)| (tenant.to_owned(), start.to_owned(), minor));
    assert_eq!(world.amounts().await, expected);
}

#[tokio::test]
async fn a_window_that_a_plan_change_ended_is_charged_until_then_by_the_old_plan() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    world.record("acme", "bandwidth", 600 * GB, "2015-05-10T00:00:00Z").await;
    world.set_plan("acme", "professional", "2015-05-20T00:00:00Z", WindowsAfter::Reset).await;
    world.charge("2015-05-19T23:59:59Z").await;
    assert_eq!(world.charges().await, []);
    world.charge("2015-05-21T02:00:00Z").await;
    let charges = world.charges().await;
    assert_eq!(charges.len(), 1);
    assert_eq!((charges[0].plan.plan.as_str(), charges[0].amount.minor), ("starter", 2_500));
    assert_eq!(charges[0].period_end, at("2015-05-20T00:00:00Z"));
}

#[tokio::test]
async fn a_level_is_charged_each_month_by_its_peak() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    world.record("acme", "disk", 30 * GB, "2015-03-10T10:20:00Z").await;
    world.record("acme", "disk", -15 * GB, "2015-04-02T00:00:00Z").await;
    world.record("acme", "disk", -10 * GB, "2015-05-03T00:00:00Z").await;
    world.charge("2015-05-15T02:00:00Z").await;
    let month = |start: &str, minor| ("acme".to_owned(), start.to_owned(), minor);
    // 10 GB included, 0.15 per GB.
    let (march, april) = (month("2015-03-01", 300), month("2015-04-01", 300));
    assert_eq!(world.amounts().await, [march.clone(), april.clone()]);
    world.charge("2015-07-01T02:00:00Z").await;
    let (may, june) = (month("2015-05-01", 75), month("2015-06-01", 0));
    assert_eq!(world.amounts().await, [march, april, may, june]);
    assert_eq!(world.charges().await[2].explanation["billed_on"], "peak");
}

#[tokio::test]
async fn what_a_grant_covers_of_a_level_is_not_charged_again() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    let part = |units: i64| Part {
        key: CellKey {
            label: "grant_7:0:0".parse().unwrap(),
            ..world.event("acme", "disk", 1, at("2015-03-10T10:20:00Z")).key
        },
        units: u64::try_from(units).unwrap(),
        recorded: 0,
    };
    let changed = |amount: i64, parts: Vec<Part>, time: &str| UsageEvent {
        parts,
        ..world.event("acme", "disk", amount, at(time))
    };
    // Of 30 GB the plan includes 10, and a grant covers 15.
    let up = changed(30 * GB, vec![part(15 * GB)], "2015-03-10T10:20:00Z");
    // It comes free on the grant first.
    let down = changed(-20 * GB, vec![part(0)], "2015-04-02T00:00:00Z");
    let own = Part { key: up.key.clone(), units: 0, recorded: 0 };
    let down = UsageEvent { parts: vec![part(0), own], ..down };
    world.flush(vec![up, down]).await;
    world.charge("2015-06-01T02:00:00Z").await;
    let month = |start: &str, minor| ("acme".to_owned(), start.to_owned(), minor);
    let months = [month("2015-03-01", 75), month("2015-04-01", 75), month("2015-05-01", 0)];
    assert_eq!(world.amounts().await, months);
}

#[tokio::test]
async fn subjects_are_charged_apart() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    world.record_for("acme", "bandwidth", "site-1", 110 * GB, "2015-05-20T00:00:00Z").await;
    world.record_for("acme", "bandwidth", "site-2", 120 * GB, "2015-05-20T00:00:00Z").await;
    world.charge("2015-06-01T02:00:00Z").await;
    let amounts: Vec<_> = world.amounts().await.into_iter().map(|(_, _, minor)| minor).collect();
    assert_eq!(amounts, [50, 100]);
}

#[tokio::test]
async fn usage_by_property_adds_up_to_the_total_while_more_comes_in() {
    let world = World::with_catalog("mailer").await;
    world.tenant("acme", "team").await;
    let event = |model: &str, amount| {
        let mut event = world.event("acme", "ai_responses", amount, at("2015-05-20T00:00:00Z"));
        let properties = [("model".to_owned(), model.to_owned())].into();
        event.properties = tollgate::domain::properties::Properties::new(properties).unwrap();
        event
    };
    world.flush(vec![event("large", 1)]).await;
    let key = event("large", 1).key;
    let mut totals = std::collections::BTreeSet::new();
    let recording = async {
        for _ in 0..100 {
            world.flush(vec![event("large", 1), event("small", 2)]).await;
        }
    };
    let reading = async {
        while totals.last() != Some(&301) {
            let usage = world.ledger.usage_by_property(&key, "model", false).await.unwrap();
            let parts: u64 = usage.by_value.iter().map(|(_, units)| units).sum();
            assert_eq!(parts, usage.used.cast_unsigned());
            totals.insert(usage.used);
        }
    };
    tokio::join!(recording, reading);
    assert!(totals.len() > 2, "{totals:?}");
}

#[tokio::test]
async fn tiers_packages_and_prices_by_property_are_charged_as_the_catalog_says() {
    let world = World::with_catalog("mailer").await;
    world.tenant("acme", "team").await;
    // 50,000 included; 100,000 at 0.80 per thousand, the rest at 0.50.
    world.record("acme", "emails_processed", 200_000, "2015-05-20T00:00:00Z").await;
    // 1,000 included; 5 for each 500 begun.
    world.record("acme", "leads_created", 1_501, "2015-05-20T00:00:00Z").await;
    // 2,000 included of 3,000; a third of them large at 0.03, the others at 0.01.
    for (model, amount) in [("large", 1_000), ("small", 2_000)] {
        let mut event = world.event("acme", "ai_responses", amount, at("2015-05-20T00:00:00Z"));
        let properties = [("model".to_owned(), model.to_owned())].into();
        event.properties = tollgate::domain::properties::Properties::new(properties).unwrap();
        world.flush(vec![event]).await;
    }
    world.charge("2015-06-01T02:00:00Z").await;
    let charges = world.charges().await;
    let owed: Vec<_> =
        charges.iter().map(|c| (c.key.meter.as_str(), c.amount.minor, c.rate.is_some())).collect();
    let expected = [
        ("ai_responses", 1_667, false),
        ("emails_processed", 10_500, false),
        ("leads_created", 1_000, false),
    ];
    assert_eq!(owed, expected, "{charges:?}");
}

#[tokio::test]
async fn a_window_that_cannot_be_charged_fails_the_run_and_holds_back_no_other() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    world.record("acme", "bandwidth", 120 * GB, "2015-05-20T00:00:00Z").await;
    let mut strange = world.event("acme", "bandwidth", 120 * GB, at("2015-05-20T00:00:00Z"));
    strange.key.label.anchor_version = 77;
    world.flush(vec![strange]).await;
    let end = by_hand(world.worker("2015-06-01T02:00:00Z"), None, None).await;
    let HandRunEnd::Ran(report) = end else { panic!("{end:?}") };
    let shown = format!("{report:?}");
    assert!(shown.contains("acme/bandwidth@month:1430438400:77"), "{shown}");
    assert_eq!(world.amounts().await, [("acme".to_owned(), "2015-05-01".to_owned(), 100)]);
}

#[tokio::test]
async fn a_window_is_charged_by_what_its_meter_aggregates() {
    const CATALOG: &str = "
catalog: crowd
currency: GBP
meters:
  - { name: connections, kind: counter, aggregation: max, unit: connection, period: month }
  - { name: seats, kind: counter, aggregation: last, unit: seat, period: month }
  - name: visitors
    kind: counter
    aggregation: distinct_count
    distinct_property: visitor
    unit: visitor
    period: month
plans:
  - name: basic
    prices: { monthly: 0 }
    limits:
      connections: { limit: 10, enforcement: soft, overage: 1 }
      seats: { limit: 2, enforcement: soft, overage: 5 }
      visitors: { limit: 1, enforcement: soft, overage: 0.25 }
";
    let world = World::with_catalog_text("crowd", CATALOG).await;
    world.tenant("acme", "basic").await;
    for (day, connections, seats) in [("03", 12, 9), ("05", 17, 4), ("09", 3, 3)] {
        let time = format!("2015-05-{day}T00:00:00Z");
        world.record("acme", "connections", connections, &time).await;
        world.record("acme", "seats", seats, &time).await;
    }
    for visitor in ["ann", "bob", "ann", "cem"] {
        let mut event = world.event("acme", "visitors", 1, at("2015-05-20T00:00:00Z"));
        event.distinct_value = Some(visitor.to_owned());
        world.flush(vec![event]).await;
    }
    world.charge("2015-06-01T02:00:00Z").await;
    let charges = world.charges().await;
    let owed: Vec<_> = charges.iter().map(|c| (c.key.meter.as_str(), c.amount.minor)).collect();
    assert_eq!(owed, [("connections", 700), ("seats", 500), ("visitors", 50)], "{charges:?}");
}
