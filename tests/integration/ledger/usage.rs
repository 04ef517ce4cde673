//! Usage as it is read: totals, and history by hour, day and property.

use tollgate::{
    domain::{ids::MeterName, meter::Aggregation, usage::UsageEvent},
    ledger::{
        reconcile::{Parts, Scope},
        usage::{Grain, HistoryPoint, HistoryQuery},
    },
};

use super::world::{World, at, event, key, properties, tenant};

fn query(meter: &str, grain: Grain, group_by: Option<&str>) -> HistoryQuery {
    HistoryQuery {
        tenant: tenant("t1"),
        meter: MeterName::new(meter).unwrap(),
        subject: None,
        grain,
        from: at("2026-03-01T00:00:00Z"),
        to: at("2026-04-01T00:00:00Z"),
        group_by: group_by.map(str::to_owned),
    }
}

fn call(model: &str, amount: i64, time: &str) -> UsageEvent {
    UsageEvent {
        time: at(time),
        properties: properties(&[("model", model), ("region", "eu")]),
        group_by: vec!["model".into(), "zone".into()],
        ..event("t1", amount)
    }
}

fn brief(points: &[HistoryPoint]) -> Vec<(String, Option<&str>, i64)> {
    points
        .iter()
        .map(|it| (it.start.to_string(), it.group.as_deref(), it.tally.amount_sum))
        .collect()
}

#[tokio::test]
async fn a_history_adds_up_by_hour_by_day_and_by_property() {
    let world = World::new().await;
    let run = world.run().await;
    let events = [
        call("small", 1, "2026-03-05T10:00:00Z"),
        call("large", 20, "2026-03-05T10:30:00Z"),
        call("small", 300, "2026-03-05T11:00:00Z"),
        call("small", 4000, "2026-03-06T00:00:00Z"),
        call("small", 50000, "2026-04-01T00:00:00Z"),
    ];
    world.flush(run, 0, &events[..2]).await;
    world.flush(run, 2, &events[2..]).await;

    let hours = world.ledger.usage_history(&query("tokens", Grain::Hour, None)).await.unwrap();
    assert_eq!(
        brief(&hours),
        [
            ("2026-03-05T10:00:00Z".into(), None, 21),
            ("2026-03-05T11:00:00Z".into(), None, 300),
            ("2026-03-06T00:00:00Z".into(), None, 4000),
        ]
    );
    let by_model = query("tokens", Grain::Day, Some("model"));
    let days = world.ledger.usage_history(&by_model).await.unwrap();
    assert_eq!(
        brief(&days),
        [
            ("2026-03-05T00:00:00Z".into(), Some("large"), 20),
            ("2026-03-05T00:00:00Z".into(), Some("small"), 301),
            ("2026-03-06T00:00:00Z".into(), Some("small"), 4000),
        ]
    );
    // Not grouped by when it was recorded: all of it is without a value.
    let by_region = query("tokens", Grain::Day, Some("region"));
    let days = world.ledger.usage_history(&by_region).await.unwrap();
    assert_eq!(days[0].group, None);
    world.check().await;
}

#[tokio::test]
async fn subjects_are_counted_apart_and_read_together() {
    let world = World::new().await;
    let run = world.run().await;
    let of_subject = |subject: &str, amount| {
        let mut event = event("t1", amount);
        event.key.subject = Some(subject.parse().unwrap());
        event
    };
    world.flush(run, 0, &[of_subject("a", 1), of_subject("b", 20), event("t1", 300)]).await;
    let mut asked = query("tokens", Grain::Day, None);
    assert_eq!(world.ledger.usage_history(&asked).await.unwrap()[0].tally.amount_sum, 321);
    asked.subject = Some("b".parse().unwrap());
    assert_eq!(world.ledger.usage_history(&asked).await.unwrap()[0].tally.amount_sum, 20);

    let first = world.ledger.tenant_windows(&tenant("t1"), None, 2).await.unwrap();
    assert_eq!(first.iter().map(|it| it.used).collect::<Vec<_>>(), [300, 1]);
    let rest = world.ledger.tenant_windows(&tenant("t1"), Some(&first[1].key), 2).await.unwrap();
    assert_eq!(rest.iter().map(|it| it.used).collect::<Vec<_>>(), [20]);
    let totals = world.ledger.meter_totals().await.unwrap();
    assert_eq!((totals[0].amount_sum, totals[0].events), (321, 3));
}

#[tokio::test]
async fn a_maximum_and_a_latest_value_do_not_depend_on_the_order_of_flushes() {
    let world = World::new().await;
    let run = world.run().await;
    let value = |amount, time: &str, aggregation, meter: &str| {
        let mut event = event("t1", amount);
        event.aggregation = aggregation;
        event.key = key("t1", meter);
        event.time = at(time);
        event
    };
    let values = [
        (7, "2026-03-05T10:00:00Z"),
        (9, "2026-03-05T12:00:00Z"),
        (3, "2026-03-05T12:00:00.0000004Z"), // The same microsecond: the larger one holds.
        (2, "2026-03-05T11:00:00Z"),
    ];
    for (meter, aggregation) in [("peak", Aggregation::Max), ("level", Aggregation::Last)] {
        for (n, (amount, time)) in values.into_iter().enumerate() {
            let from = world.ledger.run(run).await.unwrap().unwrap().flushed_position;
            world.flush(run, from, &[value(amount, time, aggregation, meter)]).await;
            assert!(n < 4);
        }
    }
    let totals = world.ledger.window_totals(&[key("t1", "peak"), key("t1", "level")]).await;
    let totals = totals.unwrap();
    assert_eq!(totals[0].as_ref().unwrap().value(), 9);
    assert_eq!(totals[1].as_ref().unwrap().value(), 9);
    // They take no part in the counters.
    assert_eq!(totals[1].as_ref().unwrap().used, 0);
    assert!(world.ledger.run_totals(run).await.unwrap().is_empty());
    let days = world.ledger.usage_history(&query("level", Grain::Day, None)).await.unwrap();
    assert_eq!(days[0].tally.value(Aggregation::Last), 9);
}

#[tokio::test]
async fn distinct_values_are_counted_across_flushes_hours_and_runs() {
    let world = World::new().await;
    let (one, other) = (world.run().await, world.run().await);
    let seen = |value: &str, time: &str| {
        let mut event = event("t1", 1);
        event.aggregation = Aggregation::DistinctCount;
        event.distinct_value = Some(value.to_owned());
        event.key = key("t1", "users");
        event.time = at(time);
        event
    };
    let (ten, eleven) = ("2026-03-05T10:00:00Z", "2026-03-05T11:00:00Z");
    world.flush(one, 0, &[seen("a", ten), seen("b", ten), seen("a", eleven)]).await;
    world.flush(other, 0, &[seen("b", eleven), seen("c", eleven)]).await;
    let totals = world.ledger.window_totals(&[key("t1", "users")]).await.unwrap();
    assert_eq!(totals[0].as_ref().unwrap().value(), 3);
    let hours = world.ledger.usage_history(&query("users", Grain::Hour, None)).await.unwrap();
    let counts: Vec<_> =
        hours.iter().map(|it| it.tally.value(Aggregation::DistinctCount)).collect();
    assert_eq!(counts, [2, 3]);
    let days = world.ledger.usage_history(&query("users", Grain::Day, None)).await.unwrap();
    assert_eq!(days[0].tally.value(Aggregation::DistinctCount), 3);
    world.check().await;
}

#[tokio::test]
async fn a_ledger_that_disagrees_with_itself_says_where() {
    let world = World::new().await;
    let run = world.run().await;
    world.flush(run, 0, &[event("t1", 5), event("t2", 6)]).await;
    world.check().await;
    sqlx::query("UPDATE window_totals SET used = used + 1 WHERE tenant = 't2'")
        .execute(&world.database.pool().await)
        .await
        .unwrap();
    let found = world.ledger.disagreements(&Scope::default(), 10).await.unwrap();
    let parts: Vec<_> = found.iter().map(|it| it.parts).collect();
    assert_eq!(parts, [Parts::DailyUnits, Parts::HourlyUnits, Parts::RunUnits], "{found:?}");
    assert!(found.iter().all(|it| (it.window, it.sum_of_parts) == (7, 6)), "{found:?}");
    let other = Scope::default().of(&tenant("t1"));
    assert_eq!(world.ledger.disagreements(&other, 10).await.unwrap(), []);
}
