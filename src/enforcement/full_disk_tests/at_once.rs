//! Operations that are decided at once.

use super::*;
use crate::{
    domain::rate::RateAnswer,
    enforcement::operation_at_once::{Operated, PlainOperation},
    journal::error::AppendError,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_was_decided_at_once_and_refused_leaves_nothing() {
    for is_waited_for in [false, true] {
        let world = World::new();
        world.have_in_hand().await;
        let world = world.filled().await;
        let plain = PlainOperation {
            tenant: "acme",
            operation: "ask",
            amounts: &[],
            idempotency_key: "once",
            durability: Some(Durability::Sync),
        };
        let decided = world.shares().operate_at_once(plain, |allowed| allowed.answer());
        let Some(Ok(Operated::Owed(owed))) = decided else { panic!("it is not decided at once") };
        // What was used before is of the world's beginning.
        assert_eq!((world.used("calls").await, world.used("free").await), (7, 14));
        if is_waited_for {
            let (told, ()) =
                in_time(async { tokio::join!(owed.acknowledged(), world.refuse()) }).await;
            assert!(matches!(told, Err(EngineError::Unavailable(_))), "{told:?}");
        } else {
            drop(owed);
            world.refuse().await;
        }
        world.pass().await;
        let again = in_time(world.engine.check_operation(&operation("once"))).await.unwrap();
        assert_ne!(again.decided_by, DecidedBy::Replay);
        assert_eq!(world.recorded("once"), 2, "an event for each of its meters");
        assert_eq!((world.used("calls").await, world.used("free").await), (7, 14));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_the_journal_refuses_at_once_gives_all_of_it_back() {
    let world = World::of(CATALOG, 2 * u64::from(SEGMENT_BYTES_MIN));
    world.have_in_hand().await;
    let ask = PlainOperation {
        tenant: "acme",
        operation: "ask",
        amounts: &[],
        idempotency_key: "once",
        durability: None,
    };
    in_time(world.engine.check_operation(&operation("before"))).await.unwrap();
    world.have_in_hand().await;
    let full = samples::numbered(0, 900);
    let error = loop {
        match in_time(world.journal.append(&full, Durability::Sync)).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::BudgetFull { .. }), "{error}");
    let decided = world.shares().operate_at_once(ask, |allowed| allowed.answer());
    let Some(Err(_)) = decided else { panic!("it is not handed over") };
    assert_eq!((world.used("calls").await, world.used("free").await), (7, 7));
    assert_eq!((world.permits("questions").await, world.permits("bursts").await), (99, 49));
    let again = in_time(world.engine.check_operation(&operation("once"))).await;
    assert!(again.is_err(), "its key is free, so it is not told what came of it before: {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_cannot_be_decided_at_once_takes_nothing() {
    let world = World::new();
    let ask = |amounts, idempotency_key| PlainOperation {
        tenant: "acme",
        operation: "ask",
        amounts,
        idempotency_key,
        durability: None,
    };
    let at_once = |plain| world.shares().operate_at_once(plain, |allowed| allowed.answer());
    assert!(at_once(ask(&[], "")).is_none(), "nothing of the limit is in hand");
    in_time(world.engine.check_operation(&operation("before"))).await.unwrap();
    world.have_in_hand().await;
    assert!(at_once(ask(&[], "before")).is_none(), "a repeat");
    assert!(at_once(ask(&[("calls", 1)], "")).is_none(), "its amount is fixed");
    assert!(at_once(ask(&[("tokens", 1)], "")).is_none(), "it has no such meter");
    assert!(at_once(ask(&[], "a key")).is_none(), "no key");
    let elsewhere = PlainOperation { operation: "answer", ..ask(&[], "") };
    assert!(at_once(elsewhere).is_none());
    assert_eq!((world.used("calls").await, world.used("free").await), (7, 7));
    assert_eq!((world.permits("questions").await, world.permits("bursts").await), (99, 49));
    let decided = at_once(ask(&[], "then"));
    let Some(Ok(Operated::Owed(owed))) = decided else { panic!("it is not decided at once") };
    let answer = in_time(owed.acknowledged()).await.unwrap();
    assert_eq!((world.permits("questions").await, world.permits("bursts").await), (98, 48));
    let left = |(name, it): &(RateName, RateAnswer)| {
        (name.to_string(), it.windows.tightest().map(|window| window.remaining))
    };
    let left: Vec<_> = answer.rates.iter().map(left).collect();
    assert_eq!(left, [("questions".to_owned(), Some(98)), ("bursts".to_owned(), Some(48))]);
    assert_eq!(answer.features.len(), 1);
    assert!(answer.features[0].access.is_enabled());
    let used: Vec<_> = answer.quotas.iter().map(|(meter, it)| (meter.as_str(), it.used)).collect();
    assert_eq!(used, [("calls", 14), ("free", 14)]);
    assert_eq!((answer.denied_by, answer.decided_by), (None, DecidedBy::Memory));
}

/// A catalog with operations of many features, rates and meters: of so many each, and of one more.
fn catalog_of_many(features: usize, rates: usize, meters: usize) -> String {
    let each = |letter: char, count: usize, entry: &str| -> String {
        (0..count).map(|n| entry.replace('@', &format!("{letter}{n}"))).collect()
    };
    let named = |letter: char, count: usize| {
        (0..count).map(|n| format!("{letter}{n}")).collect::<Vec<_>>().join(", ")
    };
    let taken = |count: usize| {
        let one = |n| format!("{{ meter: m{n}, amount: 1 }}");
        (0..count).map(one).collect::<Vec<_>>().join(", ")
    };
    let operation = |name: &str, features: usize, rates: usize, meters: usize| {
        format!(
            "  - {{ name: {name}, title: Many, features: [{}], rates: [{}], meters: [{}] }}\n",
            named('f', features),
            named('r', rates),
            taken(meters)
        )
    };
    let operations = [
        operation("all", features, rates, meters),
        operation("features", features + 1, rates, meters),
        operation("rates", features, rates + 1, meters),
        operation("meters", features, rates, meters + 1),
    ];
    format!(
        "catalog: full-disk\ntitle: Many\ncurrency: USD\nmeters:\n{}features:\n{}rates:\n{}\
         operations:\n{}plans:\n  - name: basic\n    title: Basic\n    prices: {{ monthly: 0 }}\n\
         \x20   limits:\n{}    features:\n{}    rate_limits:\n{}tenants:\n  - {{ id: acme, plan: basic }}\n",
        each(
            'm',
            meters + 1,
            "  - { name: @, title: M, kind: counter, unit: call, period: month }\n"
        ),
        each('f', features + 1, "  - { name: @, title: F, type: boolean }\n"),
        each('r', rates + 1, "  - { name: @, title: R }\n"),
        operations.concat(),
        each('m', meters + 1, "      @: { limit: 1000, enforcement: soft }\n"),
        each('f', features + 1, "      @: true\n"),
        each('r', rates + 1, "      @: [{ requests: 100, per: day }]\n"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_of_very_many_parts_are_left_to_those_who_have_time() {
    let catalog = catalog_of_many(8, 4, 8);
    let world = World::of(&catalog, JournalConfig::new(DATA_DIR).disk_budget_bytes);
    for (name, is_at_once) in
        [("all", true), ("features", false), ("rates", false), ("meters", false)]
    {
        // The first makes the counters.
        let typed = OperationRequest {
            operation: OperationName::new(name).unwrap(),
            idempotency_key: None,
            ..operation(name)
        };
        let answer = in_time(world.engine.check_operation(&typed)).await.unwrap();
        assert_eq!(answer.denied_by, None, "{name}");
        let before = (world.permits("r0").await, world.used("m0").await);
        let plain = PlainOperation {
            tenant: "acme",
            operation: name,
            amounts: &[],
            idempotency_key: "",
            durability: None,
        };
        let decided = world.shares().operate_at_once(plain, |allowed| allowed.answer());
        assert_eq!(decided.is_some(), is_at_once, "{name}");
        drop(decided);
        let taken = u32::from(is_at_once);
        let after = (before.0 - taken, before.1 + u64::from(taken));
        assert_eq!((world.permits("r0").await, world.used("m0").await), after, "{name}");
    }
}
