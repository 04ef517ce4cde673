//! The lives of the shared counters.

use tollgate::ledger::{
    LedgerError,
    epochs::{Epoch, OWN_COUNTERS},
    folding::Folding,
    runs::{ClosedHow, Forfeits, RunStanding},
};

use super::world::{World, key};

async fn begin(world: &World) -> u64 {
    let latest = world.ledger.latest_epoch().await.unwrap().map_or(0, |epoch| epoch.number);
    world.ledger.begin_epoch("redis", latest).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_epoch_begins_after_the_one_that_was_seen_or_not_at_all() {
    let world = World::new().await;
    assert_eq!(world.ledger.latest_epoch().await.unwrap(), None);
    assert_eq!(world.ledger.begin_epoch("a", 0).await.unwrap(), Some(1));
    assert_eq!(world.ledger.begin_epoch("b", 0).await.unwrap(), None);
    assert_eq!(world.ledger.begin_epoch("b", 1).await.unwrap(), Some(2));
    assert_eq!(world.ledger.begin_epoch("c", 7).await.unwrap(), None);
    let latest = Epoch { number: 2, counters: "b".into(), is_recovered: false };
    assert_eq!(world.ledger.latest_epoch().await.unwrap(), Some(latest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_who_begin_an_epoch_at_once_one_does() {
    let world = World::new().await;
    let seers = (0..8).map(|n| {
        let ledger = world.ledger.clone();
        tokio::spawn(async move { ledger.begin_epoch(&format!("redis-{n}"), 0).await.unwrap() })
    });
    let begun = futures::future::join_all(seers).await;
    let begun: Vec<u64> = begun.into_iter().filter_map(|epoch| epoch.unwrap()).collect();
    assert_eq!(begun, [1]);
}

#[tokio::test]
async fn an_epoch_recovers_when_every_run_has_reported_or_was_closed_and_folded() {
    let world = World::new().await;
    let (a, b, dead) = (world.run().await, world.run().await, world.run().await);
    let epoch = begin(&world).await;
    assert!(!world.ledger.report_epoch(epoch, a).await.unwrap());
    assert!(!world.ledger.report_epoch(epoch, b).await.unwrap());
    assert_eq!(world.ledger.unreported_runs(epoch).await.unwrap(), [dead]);
    world.ledger.note_folded(dead, Some(epoch)).await.unwrap(); // An open run cannot be folded.
    assert!(!world.ledger.latest_epoch().await.unwrap().unwrap().is_recovered);
    world.ledger.close_run(dead, ClosedHow::Recovered, Forfeits::NONE, None).await.unwrap();
    assert!(!world.ledger.latest_epoch().await.unwrap().unwrap().is_recovered);
    world.ledger.note_folded(dead, Some(epoch)).await.unwrap();
    assert!(world.ledger.latest_epoch().await.unwrap().unwrap().is_recovered);
    assert!(world.ledger.report_epoch(epoch, a).await.unwrap());
}

/// Counters of the next epoch may have been rebuilt from a floor in which the run was open.
#[tokio::test]
async fn what_was_told_to_counters_of_an_epoch_that_is_over_is_not_folded() {
    let world = World::new().await;
    let (alive, dead) = (world.run().await, world.run().await);
    let before = begin(&world).await;
    world.ledger.close_run(dead, ClosedHow::Recovered, Forfeits::NONE, None).await.unwrap();
    let epoch = begin(&world).await;
    world.ledger.report_epoch(epoch, alive).await.unwrap();
    let error = world.ledger.note_folded(dead, Some(before)).await.unwrap_err();
    assert!(matches!(error, LedgerError::EpochOver(over) if over == before), "{error}");
    let folding = world.ledger.folding(dead).await.unwrap();
    assert_eq!(folding, Folding { is_folded: false, through: 0 });
    assert_eq!(world.ledger.unreported_runs(epoch).await.unwrap(), [dead]);
    world.ledger.note_folded(dead, Some(epoch)).await.unwrap();
    assert!(world.ledger.latest_epoch().await.unwrap().unwrap().is_recovered);
}

/// Shared counters may have been founded with the run open, and nobody has told them.
#[tokio::test]
async fn what_one_process_own_counters_were_told_is_not_folded_in_shared_ones() {
    let world = World::new().await;
    let (alive, dead) = (world.run().await, world.run().await);
    world.ledger.close_run(dead, ClosedHow::Stopped, Forfeits::NONE, None).await.unwrap();
    let epoch = begin(&world).await;
    let error = world.ledger.note_folded(dead, None).await.unwrap_err();
    assert!(matches!(error, LedgerError::SharedByNow), "{error}");
    assert!(!world.ledger.folding(dead).await.unwrap().is_folded);
    let own = format!("{OWN_COUNTERS}{alive}");
    world.ledger.begin_epoch(&own, epoch).await.unwrap().unwrap();
    world.ledger.note_folded(dead, None).await.unwrap();
    assert!(world.ledger.folding(dead).await.unwrap().is_folded);
}

/// In the next epoch nobody has refused the run's calls: it may have been granted more.
#[tokio::test]
async fn forfeits_that_were_found_out_in_an_epoch_that_is_over_close_nothing() {
    let world = World::new().await;
    let run = world.run().await;
    let calls = key("t1", "calls");
    let before = begin(&world).await;
    let epoch = begin(&world).await;
    let units = [(calls, 40)];
    let forfeits = |epoch| Forfeits { units: &units, epoch: Some(epoch) };
    let closing = world.ledger.close_run(run, ClosedHow::Forfeited, forfeits(before), None).await;
    let error = closing.unwrap_err();
    assert!(matches!(error, LedgerError::EpochOver(over) if over == before), "{error}");
    assert!(world.ledger.run_forfeits(run).await.unwrap().is_empty());
    let standing = world.ledger.run_standing(run).await.unwrap();
    assert!(matches!(standing, RunStanding::Open { .. }), "{standing:?}");
    let close = async |epoch| {
        let forfeits = forfeits(epoch);
        world.ledger.close_run(run, ClosedHow::Forfeited, forfeits, None).await.unwrap()
    };
    let closing = close(epoch).await;
    assert_eq!(world.ledger.run_forfeits(run).await.unwrap(), units);
    assert_eq!(close(before).await, closing, "it is closed, whatever is asked again");
}

#[tokio::test]
async fn a_run_that_starts_after_a_loss_has_nothing_to_report() {
    let world = World::new().await;
    let old = world.run().await;
    let epoch = begin(&world).await;
    world.run().await;
    assert!(world.ledger.report_epoch(epoch, old).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_many_reports_at_once_recovers_the_epoch() {
    let world = World::new().await;
    for round in 0..10 {
        let mut runs = Vec::new();
        for _ in 0..4 {
            runs.push(world.run().await);
        }
        let epoch = begin(&world).await;
        let reports = runs.iter().map(|run| {
            let (ledger, run) = (world.ledger.clone(), *run);
            tokio::spawn(async move {
                // Half of them leave instead.
                if run.0.as_u128() % 2 == 0 {
                    ledger.report_epoch(epoch, run).await.unwrap();
                }
                ledger.close_run(run, ClosedHow::Stopped, Forfeits::NONE, None).await.unwrap();
                ledger.note_folded(run, Some(epoch)).await.unwrap();
            })
        });
        for report in futures::future::join_all(reports).await {
            report.unwrap();
        }
        assert!(world.ledger.latest_epoch().await.unwrap().unwrap().is_recovered, "{round}");
    }
}
