//! What grants cost, and what is carried over of recurring ones.

use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tollgate::{
    clock::Clock,
    domain::{
        cell_key::CellKey,
        grant::{GrantKind, GrantPrice},
        period::Period,
        usage::{Part, UsageEvent},
    },
    jobs::{
        rollover,
        runner::{HandRun, HandRunEnd, Outcome, Runner},
    },
    ledger::{
        LedgerError,
        changes::Author,
        charges::Charge,
        grants::{NewGrant, StoredGrant},
        subscriptions::WindowsAfter,
    },
};

use super::world::{World, at};

const AUTHOR: Author<'_> = Author { actor: "test", reason: "" };

fn new_grant(kind: GrantKind, meter: &str, amount: u64, key: &str) -> NewGrant {
    NewGrant {
        tenant: "acme".parse().unwrap(),
        kind,
        meter: meter.parse().unwrap(),
        subject: None,
        amount,
        priority: 0,
        starts_at: at("2015-01-01T00:00:00Z"),
        expires_at: None,
        every: None,
        rollover_cap: None,
        covers_level: false,
        source: "test".into(),
        source_key: key.into(),
        price: None,
    }
}

/// Records usage of which the grant covers all.
async fn use_grant(world: &World, stored: &StoredGrant, units: i64, time: &str) {
    let event = world.event("acme", stored.grant.meter.as_str(), units, at(time));
    let period_start: Timestamp = match stored.grant.every {
        // In these tests a month of the calendar.
        Some(_) => format!("{}-01T00:00:00Z", &time[..7]).parse().unwrap(),
        None => stored.grant.starts_at,
    };
    let label = format!("{}:{}:0", stored.grant.id, period_start.as_second());
    let key = CellKey { label: label.parse().unwrap(), ..event.key.clone() };
    let parts = vec![Part { key, units: u64::try_from(units).unwrap(), recorded: 0 }];
    world.flush(vec![UsageEvent { parts, ..event }]).await;
}

/// Lowers the level that the grant covers some of.
async fn lower(world: &World, stored: &StoredGrant, units: i64, time: &str) {
    let event = world.event("acme", stored.grant.meter.as_str(), -units, at(time));
    let label = format!("{}:{}:0", stored.grant.id, stored.grant.starts_at.as_second());
    let on_grant = CellKey { label: label.parse().unwrap(), ..event.key.clone() };
    let part = |key: &CellKey| Part { key: key.clone(), units: 0, recorded: 0 };
    let parts = vec![part(&on_grant), part(&event.key)];
    world.flush(vec![UsageEvent { parts, ..event }]).await;
}

async fn carry_over(world: &World, real_now: &str) -> u64 {
    let job = rollover::job(world.ledger.clone(), rollover::SCHEDULE, TimeZone::UTC).unwrap();
    let clock = Clock::manual(at(real_now));
    let worker = Arc::new(Runner::new(world.ledger.clone(), vec![job], clock, real_now.into()));
    let asked = HandRun { job: rollover::NAME, scheduled_at: None, now: None };
    match worker.run_by_hand(asked, &CancellationToken::new()).await.unwrap() {
        HandRunEnd::Ran(report) => match report.outcome {
            Outcome::Succeeded { summary } => summary["carried"].as_u64().unwrap(),
            other => panic!("{other:?}"),
        },
        _ => panic!("it did not run"),
    }
}

async fn carried(world: &World) -> Vec<StoredGrant> {
    let tenant = "acme".parse().unwrap();
    let mut grants = world.ledger.grants(&tenant, at("2015-01-01T00:00:00Z"), true).await.unwrap();
    grants.retain(|stored| stored.grant.kind == GrantKind::Rollover);
    grants
}

#[tokio::test]
async fn what_is_left_of_a_recurring_grant_goes_over_into_the_next_month_up_to_its_cap() {
    let world = World::with_catalog("mailer").await;
    world.tenant("acme", "team").await;
    let recurring = NewGrant {
        every: Some(Period::Month),
        rollover_cap: Some(180),
        ..new_grant(GrantKind::Recurring, "leads_created", 100, "monthly")
    };
    let recurring = world.ledger.create_grant(&recurring, AUTHOR).await.unwrap();
    use_grant(&world, &recurring, 30, "2015-01-20T00:00:00Z").await;
    world.mark("2015-01-31T23:00:00Z").await;
    // However long ago that was: what is held in January may still be settled.
    assert_eq!(carry_over(&world, "2015-02-02T00:59:59Z").await, 0, "January may not be all in");
    // A second more, since clocks differ.
    world.mark("2015-02-01T00:00:01Z").await;
    assert_eq!(carry_over(&world, "2015-01-31T23:59:59Z").await, 0, "January goes on");
    assert_eq!(carry_over(&world, "2015-02-01T00:10:00Z").await, 70);
    assert_eq!(carry_over(&world, "2015-02-01T00:20:00Z").await, 0, "once");
    let february = carried(&world).await.remove(0);
    assert_eq!(february.grant.starts_at, at("2015-02-01T00:00:00Z"));
    assert_eq!(february.grant.expires_at, Some(at("2015-03-01T00:00:00Z")));

    // Of 100 and 70, 50 are left; of 100 and 50, all; and then no more than the cap.
    use_grant(&world, &recurring, 100, "2015-02-10T00:00:00Z").await;
    use_grant(&world, &february, 20, "2015-02-20T00:00:00Z").await;
    world.mark("2015-05-02T00:00:01Z").await;
    carry_over(&world, "2015-05-02T02:00:00Z").await;
    let amounts: Vec<_> = carried(&world).await.iter().map(|carry| carry.grant.amount).collect();
    assert_eq!(amounts, [70, 50, 150, 180]);
}

/// The new schedule cuts time anew: what was carried is not carried again, and what was spent under
/// the labels of the schedule before is not forgotten.
#[tokio::test]
async fn what_is_left_goes_over_once_when_the_billing_cycle_is_moved() {
    let world = World::with_catalog("mailer").await;
    world.tenant("acme", "team").await;
    let recurring = NewGrant {
        every: Some(Period::BillingCycle),
        rollover_cap: Some(1_000),
        ..new_grant(GrantKind::Recurring, "leads_created", 100, "monthly")
    };
    let recurring = world.ledger.create_grant(&recurring, AUTHOR).await.unwrap();
    use_grant(&world, &recurring, 30, "2015-01-20T00:00:00Z").await;
    world.mark("2015-02-01T00:00:01Z").await;
    assert_eq!(carry_over(&world, "2015-02-01T01:00:00Z").await, 70);
    let february = carried(&world).await.remove(0);

    // Cycles begin on the 10th from now on: one ends there that is carried from the 1st only.
    use_grant(&world, &recurring, 20, "2015-02-05T00:00:00Z").await;
    use_grant(&world, &february, 10, "2015-02-06T00:00:00Z").await;
    let moved = WindowsAfter::Reset;
    world.set_plan("acme", "team", "2015-02-10T00:00:00Z", moved).await;
    world.mark("2015-02-10T00:00:01Z").await;
    assert_eq!(carry_over(&world, "2015-02-10T01:00:00Z").await, 80 + 60);
    let shown = |carry: &StoredGrant| (carry.grant.starts_at, carry.grant.expires_at);
    let times: Vec<_> = carried(&world).await.iter().map(shown).collect();
    let cycle = (at("2015-02-10T00:00:00Z"), Some(at("2015-03-10T00:00:00Z")));
    assert_eq!(times[1..], [cycle]);
    world.mark("2015-03-10T00:00:01Z").await;
    assert_eq!(carry_over(&world, "2015-03-10T01:00:00Z").await, 100 + 140);
}

#[tokio::test]
async fn a_bought_grant_costs_its_price_once_and_emergency_usage_what_was_used_of_it() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    let bought = NewGrant {
        price: Some(serde_json::from_value(json!({ "flat": "9" })).unwrap()),
        ..new_grant(GrantKind::TopUp, "bandwidth", 1_000, "bought")
    };
    let bought = world.ledger.create_grant(&bought, AUTHOR).await.unwrap();
    let emergency = NewGrant {
        price: priced("0.02"),
        expires_at: Some(at("2015-02-01T00:00:00Z")),
        ..new_grant(GrantKind::Emergency, "bandwidth", 500, "emergency")
    };
    let emergency = world.ledger.create_grant(&emergency, AUTHOR).await.unwrap();
    use_grant(&world, &bought, 1_000, "2015-01-10T00:00:00Z").await;
    use_grant(&world, &emergency, 40, "2015-01-11T00:00:00Z").await;
    world.mark("2015-02-01T00:00:01Z").await;
    for now in ["2015-01-15T00:00:00Z", "2015-02-01T02:00:00Z", "2015-02-01T03:00:00Z"] {
        world.charge(now).await;
    }
    let charges = world.charges().await;
    let of = |kind: &str| {
        let charges = charges.iter().filter(|charge| charge.kind == kind);
        charges.map(|charge| charge.amount.minor).collect::<Vec<_>>()
    };
    assert_eq!((of("grant"), of("emergency")), (vec![900], vec![80]));
}

fn priced(per_unit: &str) -> Option<GrantPrice> {
    let per = json!({ "name": "unit", "size": 1 });
    let price = json!({ "used": { "price": { "rate": per_unit }, "per": per } });
    Some(serde_json::from_value(price).unwrap())
}

/// Minor units, base units paid for, and how it was closed.
async fn emergency_charges(world: &World) -> Vec<(i64, u64, String)> {
    let mut charges = world.charges().await;
    charges.retain(|charge| charge.kind == "emergency");
    let shown = |charge: &Charge| {
        let used = charge.explanation["facts"]["used"].as_u64().unwrap();
        let closed_by = charge.explanation["closed_by"].as_str().unwrap().to_owned();
        (charge.amount.minor, used, closed_by)
    };
    charges.iter().map(shown).collect()
}

/// Emergency usage of bandwidth that costs 0.02 a unit and ends with January.
async fn emergency_until_february() -> (World, StoredGrant) {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    let emergency = NewGrant {
        price: priced("0.02"),
        expires_at: Some(at("2015-02-01T00:00:00Z")),
        ..new_grant(GrantKind::Emergency, "bandwidth", 500, "emergency")
    };
    let emergency = world.ledger.create_grant(&emergency, AUTHOR).await.unwrap();
    (world, emergency)
}

#[tokio::test]
async fn emergency_usage_waits_for_the_longest_of_holds_before_it_is_charged() {
    let (world, emergency) = emergency_until_february().await;
    use_grant(&world, &emergency, 40, "2015-01-11T00:00:00Z").await;
    // A run whose mark stands holds something since then.
    world.mark("2015-01-31T23:59:58Z").await;
    world.charge("2015-02-02T00:59:58Z").await;
    assert_eq!(emergency_charges(&world).await, []);
    use_grant(&world, &emergency, 60, "2015-02-01T23:00:00Z").await;
    world.mark("2015-02-01T23:00:01Z").await;
    world.charge("2015-02-02T00:59:59Z").await;
    assert_eq!(emergency_charges(&world).await, [(200, 100, "marks".to_owned())]);
}

#[tokio::test]
async fn emergency_usage_of_a_run_that_never_reports_is_charged_when_no_hold_can_be_left() {
    let (world, emergency) = emergency_until_february().await;
    use_grant(&world, &emergency, 40, "2015-01-11T00:00:00Z").await;
    world.charge("2015-02-02T00:59:59Z").await;
    assert_eq!(emergency_charges(&world).await, []);
    for now in ["2015-02-02T01:00:00Z", "2015-02-02T01:00:01Z"] {
        world.charge(now).await;
        assert_eq!(emergency_charges(&world).await, [(80, 40, "wait".to_owned())]);
    }
}

#[tokio::test]
async fn emergency_usage_of_a_level_costs_the_most_that_stood_on_it() {
    let world = World::with_catalog("factory").await;
    world.tenant("acme", "professional").await;
    let emergency = NewGrant {
        price: priced("2"),
        expires_at: Some(at("2015-02-01T00:00:00Z")),
        covers_level: true,
        ..new_grant(GrantKind::Emergency, "users", 10, "emergency")
    };
    let emergency = world.ledger.create_grant(&emergency, AUTHOR).await.unwrap();
    use_grant(&world, &emergency, 7, "2015-01-11T00:00:00Z").await;
    lower(&world, &emergency, 5, "2015-01-12T00:00:00Z").await;
    use_grant(&world, &emergency, 1, "2015-01-13T00:00:00Z").await;
    // It is over; what stands on it goes down before anybody looks.
    lower(&world, &emergency, 3, "2015-02-01T00:00:01Z").await;
    world.mark("2015-02-01T00:00:02Z").await;
    world.charge("2015-02-01T02:00:00Z").await;
    assert_eq!(emergency_charges(&world).await, [(1400, 7, "marks".to_owned())]);
}

#[tokio::test]
async fn a_bought_grant_that_was_revoked_before_it_began_costs_nothing() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    let bought = |key: &str| NewGrant {
        price: Some(serde_json::from_value(json!({ "flat": "9" })).unwrap()),
        starts_at: at("2015-01-10T00:00:00Z"),
        ..new_grant(GrantKind::TopUp, "bandwidth", 1_000, key)
    };
    let tenant = "acme".parse().unwrap();
    let ids = [
        world.ledger.create_grant(&bought("never"), AUTHOR).await.unwrap().grant.id,
        world.ledger.create_grant(&bought("begun"), AUTHOR).await.unwrap().grant.id,
    ];
    world.charge("2015-01-09T00:00:00Z").await;
    world.ledger.revoke_grant(&tenant, ids[0], at("2015-01-09T12:00:00Z"), AUTHOR).await.unwrap();
    world.ledger.revoke_grant(&tenant, ids[1], at("2015-01-10T00:00:01Z"), AUTHOR).await.unwrap();
    for now in ["2015-01-10T00:00:02Z", "2015-02-01T02:00:00Z"] {
        world.charge(now).await;
        let charges = world.charges().await;
        let charged: Vec<_> =
            charges.iter().map(|c| (c.key.label.period, c.amount.minor)).collect();
        assert_eq!(charged, [(Period::Grant { id: ids[1] }, 900)]);
    }
}

#[tokio::test]
async fn a_key_gives_one_grant_and_refuses_another() {
    let world = World::with_catalog("hosting").await;
    world.tenant("acme", "starter").await;
    let new = new_grant(GrantKind::TopUp, "bandwidth", 1_000, "once");
    let first = world.ledger.create_grant(&new, AUTHOR).await.unwrap();
    let later = NewGrant { starts_at: at("2015-01-02T00:00:00Z"), ..new.clone() };
    let again = world.ledger.create_grant(&later, AUTHOR).await.unwrap();
    assert_eq!(first.grant.id, again.grant.id);
    let other = NewGrant { amount: 2_000, ..new };
    let refused = world.ledger.create_grant(&other, AUTHOR).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Refused(_)), "{refused:?}");
}
