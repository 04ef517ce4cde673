//! An operation has one key, and its parts have one fate.

use tollgate::{
    domain::{
        amount::AMOUNT_MAX, catalog::names::OperationName, ids::MeterName, ids::RunId,
        usage::UsageEvent,
    },
    ledger::flush::{FlushBatch, FlushOutcome, Flushed},
};

use super::world::{World, at, key, keyed};

/// What one record holds of the operation `ask`.
fn parts(tenant: &str, idempotency_key: &str, taken: &[(&str, i64)]) -> Vec<UsageEvent> {
    let part = |(meter, amount): &(&str, i64)| {
        let mut part = keyed(tenant, *amount, idempotency_key);
        part.key.meter = MeterName::new(meter).unwrap();
        part.operation = Some(OperationName::new("ask").unwrap());
        part
    };
    taken.iter().map(part).collect()
}

/// Flushes `records` as the stretch from the run's mark `from` on, one position each.
async fn flush(world: &World, run: RunId, from: u64, records: &[Vec<UsageEvent>]) -> Flushed {
    let mut batch = FlushBatch::new(run, from);
    for (record, position) in records.iter().zip(from + 1..) {
        record.iter().for_each(|event| batch.push(position, event.clone()));
    }
    batch.advance(from + records.len() as u64, at("2026-03-05T10:20:31Z"));
    match world.ledger.flush(&batch).await.unwrap() {
        FlushOutcome::Flushed(flushed) => flushed,
        FlushOutcome::NotHere(standing) => panic!("the mark is elsewhere: {standing:?}"),
    }
}

fn fates(flushed: &Flushed) -> (u64, u64, u64) {
    (flushed.counted, flushed.duplicates, flushed.quarantined)
}

async fn used(world: &World) -> [i64; 2] {
    [world.used(&key("t1", "tokens")).await, world.used(&key("t1", "jobs")).await]
}

#[tokio::test]
async fn an_operation_counts_once_whoever_flushes_it_and_in_whatever_order() {
    let world = World::new().await;
    let (first, second) = (world.run().await, world.run().await);
    let asked = parts("t1", "a", &[("tokens", 12), ("jobs", 1)]);
    let flushed = flush(&world, first, 0, &[asked.clone(), asked]).await;
    assert_eq!(fates(&flushed), (2, 2, 0));
    let turned = parts("t1", "a", &[("jobs", 1), ("tokens", 12)]);
    assert_eq!(fates(&flush(&world, second, 0, &[turned]).await), (0, 2, 0));
    assert_eq!(used(&world).await, [12, 1]);
    world.check().await;
}

/// A retry that finds another plan takes other amounts, or of other meters.
#[tokio::test]
async fn an_operation_that_changed_between_two_tries_is_set_aside_whole() {
    let world = World::new().await;
    let (first, second) = (world.run().await, world.run().await);
    flush(&world, first, 0, &[parts("t1", "a", &[("tokens", 12), ("jobs", 1)])]).await;
    let more = parts("t1", "a", &[("tokens", 12), ("jobs", 2)]);
    let less = parts("t1", "a", &[("tokens", 12)]);
    let flushed = flush(&world, second, 0, &[more, less]).await;
    assert_eq!(fates(&flushed), (0, 0, 3));
    assert_eq!(used(&world).await, [12, 1]);
    let undone: i128 = flushed.undone.iter().map(|(_, totals)| i128::from(totals.undone)).sum();
    assert_eq!(undone, 26);
    let entries = world.ledger.quarantine(0, 10).await.unwrap();
    assert_eq!(entries.len(), 3);
    let problem = "the key was used before for the operation ask, 1 of jobs, 12 of tokens";
    assert!(entries.iter().all(|entry| entry.problem == problem), "{entries:?}");
    assert_eq!(entries[0].event["operation"], "ask");
    world.check().await;
}

#[tokio::test]
async fn a_key_stands_for_an_operation_or_for_an_event_and_never_for_both() {
    let world = World::new().await;
    let run = world.run().await;
    let asked = parts("t1", "a", &[("tokens", 12)]);
    let single = vec![keyed("t1", 12, "a")];
    let of_the_client = vec![keyed("t1", 12, "a#tokens")];
    let flushed = flush(&world, run, 0, &[asked, single, of_the_client]).await;
    assert_eq!(fates(&flushed), (2, 0, 1));
    let event_first = vec![keyed("t1", 5, "b")];
    let then_operation = parts("t1", "b", &[("tokens", 5), ("jobs", 1)]);
    assert_eq!(fates(&flush(&world, run, 3, &[event_first, then_operation]).await), (1, 0, 2));
    assert_eq!(used(&world).await, [29, 0]);
    world.check().await;
}

/// One part overflows its counter, as 1,024 of the largest amounts do.
#[tokio::test]
async fn a_part_that_cannot_be_counted_takes_the_others_along() {
    let world = World::new().await;
    let run = world.run().await;
    let largest = i64::try_from(AMOUNT_MAX).unwrap();
    let records: Vec<_> = (0..1_026)
        .map(|n| parts("t1", &format!("k{n}"), &[("tokens", largest), ("jobs", 1)]))
        .collect();
    let flushed = flush(&world, run, 0, &records).await;
    assert_eq!(fates(&flushed), (2_048, 0, 4));
    assert_eq!(used(&world).await, [1_024 * largest, 1_024]);
    world.check().await;
}
