//! Runs, their marks, their closings, and the floors that follow from them.

use jiff::SignedDuration;
use tollgate::{
    domain::ids::RunId,
    ledger::{
        LedgerError, Refusal,
        floors::{Floor, FlushedTotals},
        flush::FlushBatch,
        folding::Folding,
        runs::{ClosedHow, Forfeits, NewRun, RunStanding},
    },
};
use uuid::Uuid;

use super::world::{World, at, event, key, keyed, tenant};

#[tokio::test]
async fn a_run_registers_once() {
    let world = World::new().await;
    let run = world.run().await;
    world.flush(run, 0, &[event("t1", 1)]).await;
    let again = NewRun {
        run,
        host: "other".into(),
        boot_id: "other".into(),
        started_at: at("2026-04-01T00:00:00Z"),
        mark_at: at("2026-04-01T00:00:00Z"),
        flushed_position: 0,
    };
    world.ledger.register_run(&again).await.unwrap();
    let stored = world.ledger.run(run).await.unwrap().unwrap();
    assert_eq!((stored.host.as_str(), stored.flushed_position), ("host", 1));
}

#[tokio::test]
async fn a_mark_is_moved_only_by_who_knows_where_the_journal_stands() {
    let world = World::new().await;
    let run = world.run().await;
    let later = at("2026-03-06T00:00:00Z");
    let standing = world.ledger.mark_run(run, 5, later).await.unwrap();
    assert_eq!(standing, RunStanding::Open { flushed_position: 0 });
    assert_eq!(world.ledger.oldest_open_mark().await.unwrap(), Some(at("2026-03-01T00:00:00Z")));
    world.ledger.mark_run(run, 0, later).await.unwrap();
    assert_eq!(world.ledger.oldest_open_mark().await.unwrap(), Some(later));
    // A clock that was set back does not move the mark back.
    world.ledger.mark_run(run, 0, at("2026-03-02T00:00:00Z")).await.unwrap();
    assert_eq!(world.ledger.oldest_open_mark().await.unwrap(), Some(later));
    world.ledger.close_run(run, ClosedHow::Stopped, Forfeits::NONE, None).await.unwrap();
    assert_eq!(world.ledger.oldest_open_mark().await.unwrap(), None);
}

#[tokio::test]
async fn a_run_is_heard_of_whenever_it_registers_flushes_or_marks_wherever_its_mark_stands() {
    let world = World::new().await;
    let run = world.run().await;
    let pool = world.database.pool().await;
    let heard_of_lately = async || {
        let stored = world.ledger.run(run).await.unwrap().unwrap();
        assert!(stored.mark_at < at("2026-03-07T00:00:00Z"), "{}", stored.mark_at);
        let lately = stored.silent_for < SignedDuration::from_hours(1);
        let old = "UPDATE runs SET heard_at = now() - interval '2 hours'";
        sqlx::query(old).execute(&pool).await.unwrap();
        lately
    };
    assert!(heard_of_lately().await, "registered");
    assert!(!heard_of_lately().await, "silent since");
    world.flush(run, 0, &[event("t1", 1)]).await;
    assert!(heard_of_lately().await, "flushed");
    // As one that has held something for months.
    world.ledger.mark_run(run, 1, at("2026-03-01T00:00:00Z")).await.unwrap();
    assert!(heard_of_lately().await, "there");
}

#[tokio::test]
async fn a_clock_that_is_ahead_moves_no_mark_past_the_present() {
    let world = World::new().await;
    let ahead = at("2999-01-01T00:00:00Z");
    let run = RunId(Uuid::new_v4());
    let (host, boot_id) = ("host".into(), "boot".into());
    let new = NewRun { run, host, boot_id, started_at: ahead, mark_at: ahead, flushed_position: 0 };
    world.ledger.register_run(&new).await.unwrap();
    let mark = async || world.ledger.run(run).await.unwrap().unwrap().mark_at;
    let registered = mark().await;
    assert!(registered < ahead, "{registered}");
    world.ledger.mark_run(run, 0, ahead).await.unwrap();
    let idle = mark().await;
    assert!(registered <= idle && idle < ahead, "{idle}");
    let mut batch = FlushBatch::new(run, 0);
    batch.push(1, event("t1", 1));
    batch.advance(1, ahead);
    world.ledger.flush(&batch).await.unwrap();
    let flushed = mark().await;
    assert!(idle <= flushed && flushed < ahead, "{flushed}");
    // A batch that says nothing of the time leaves the mark where it is.
    let mut silent = FlushBatch::new(run, 1);
    silent.push(2, event("t1", 1));
    world.ledger.flush(&silent).await.unwrap();
    assert_eq!(mark().await, flushed);
}

#[tokio::test]
async fn closing_folds_a_runs_totals_and_forfeits_into_the_base_of_floors() {
    let world = World::new().await;
    let (dead, alive) = (world.run().await, world.run().await);
    world.flush(dead, 0, &[keyed("t1", 7, "a"), event("t1", 3)]).await;
    world.flush(alive, 0, &[keyed("t1", 7, "a"), event("t1", 100)]).await;
    let (tokens, calls) = (key("t1", "tokens"), key("t1", "calls"));
    let of_alive = FlushedTotals { run: alive, consumed: 0, recorded: 107, undone: 7 };

    let before = world.ledger.floors(std::slice::from_ref(&tokens), alive).await.unwrap().remove(0);
    assert_eq!((before.closed_seq, before.base_used), (0, 0));
    assert_eq!(before.open_runs.len(), 2);

    // `calls` has no events yet: escrow can be forfeited before anything is flushed.
    let forfeited = [(tokens.clone(), 40), (calls.clone(), 2)];
    let closing = world
        .ledger
        .close_run(dead, ClosedHow::Recovered, Forfeits { units: &forfeited, epoch: None }, None)
        .await
        .unwrap();
    assert_eq!(closing.seq, 1);
    let again = world
        .ledger
        .close_run(dead, ClosedHow::Forfeited, Forfeits { units: &forfeited, epoch: None }, None)
        .await
        .unwrap();
    assert_eq!(again, closing);

    let of_dead = world.ledger.floors(std::slice::from_ref(&calls), dead).await.unwrap().remove(0);
    assert!(of_dead.is_closed, "a closed run cannot show that it is open");
    let after = world.ledger.floors(&[calls, tokens], alive).await.unwrap();
    // The limits in force are at least of the version that the tenant has now.
    let ceiling_version = world.ledger.tenant(&tenant("t1")).await.unwrap().unwrap().tenant.version;
    assert!(ceiling_version > 0);
    let of_calls = Floor {
        is_closed: false,
        closed_seq: 1,
        base_used: 0,
        base_forfeited: 2,
        ceiling_version,
        open_runs: vec![],
    };
    let of_tokens =
        Floor { base_used: 10, base_forfeited: 40, open_runs: vec![of_alive], ..of_calls.clone() };
    assert_eq!(after, [of_calls, of_tokens]);
    world.check().await;
}

#[tokio::test]
async fn closings_are_folded_through_the_first_that_is_not() {
    let world = World::new().await;
    let (first, second) = (world.run().await, world.run().await);
    let folding = async |run| world.ledger.folding(run).await.unwrap();
    assert_eq!(folding(first).await, Folding { is_folded: false, through: 0 });
    for run in [first, second] {
        world.ledger.close_run(run, ClosedHow::Stopped, Forfeits::NONE, None).await.unwrap();
    }
    world.ledger.note_folded(second, None).await.unwrap();
    assert_eq!(folding(second).await, Folding { is_folded: true, through: 0 });
    assert_eq!(folding(first).await, Folding { is_folded: false, through: 0 });
    world.ledger.note_folded(first, None).await.unwrap();
    assert_eq!(folding(first).await, Folding { is_folded: true, through: 2 });
}

#[tokio::test]
async fn a_run_that_another_one_registers_is_waited_for_by_charges() {
    let world = World::new().await;
    let run = RunId(Uuid::new_v4());
    let new = NewRun {
        run,
        host: "host".into(),
        boot_id: "boot".into(),
        started_at: at("2026-03-01T00:00:00Z"),
        mark_at: jiff::Timestamp::UNIX_EPOCH,
        flushed_position: 0,
    };
    world.ledger.register_run(&new).await.unwrap();
    let oldest = world.ledger.oldest_open_mark().await.unwrap();
    assert_eq!(oldest, Some(jiff::Timestamp::UNIX_EPOCH), "not the start of who registers it");
}

#[tokio::test]
async fn a_window_that_began_with_a_forfeit_takes_events_as_any_other() {
    let world = World::new().await;
    let (dead, alive) = (world.run().await, world.run().await);
    let tokens = key("t1", "tokens");
    let forfeited = [(tokens.clone(), 40)];
    world
        .ledger
        .close_run(dead, ClosedHow::Forfeited, Forfeits { units: &forfeited, epoch: None }, None)
        .await
        .unwrap();
    world.flush(alive, 0, &[event("t1", -3)]).await;
    let totals = world.ledger.window_totals(&[tokens]).await.unwrap().remove(0).unwrap();
    assert_eq!((totals.used, totals.forfeited), (-3, 40));
    assert_eq!((totals.tally.amount_max, totals.tally.last_amount), (Some(-3), Some(-3)));
}

#[tokio::test]
async fn closing_a_run_that_never_was_is_refused() {
    let world = World::new().await;
    let stranger = tollgate::domain::ids::RunId(uuid::Uuid::new_v4());
    let error = world
        .ledger
        .close_run(stranger, ClosedHow::Stopped, Forfeits::NONE, None)
        .await
        .unwrap_err();
    assert!(
        matches!(error, LedgerError::Refused(Refusal::NotFound { what: "run", .. })),
        "{error}"
    );
}

/// Floors must never include a closing and miss an earlier one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floors_see_closings_in_the_order_of_their_numbers() {
    let world = World::new().await;
    let mut runs = Vec::new();
    for _ in 0..20 {
        let run = world.run().await;
        world.flush(run, 0, &[event("t1", 1)]).await;
        runs.push(run);
    }
    let closers = runs.into_iter().map(|run| {
        let ledger = world.ledger.clone();
        tokio::spawn(async move {
            ledger.close_run(run, ClosedHow::Stopped, Forfeits::NONE, None).await.unwrap()
        })
    });
    let closing = tokio::spawn(futures::future::join_all(closers));
    let tokens = [key("t1", "tokens")];
    while !closing.is_finished() {
        let floor = world.ledger.floors(&tokens, RunId(Uuid::nil())).await.unwrap().remove(0);
        // Each run used 1: as many are in the base as there were closings.
        assert_eq!(i64::try_from(floor.closed_seq).unwrap(), floor.base_used);
        assert_eq!(floor.open_runs.len() as u64, 20 - floor.closed_seq);
    }
    closing.await.unwrap();
}

#[tokio::test]
async fn the_books_of_a_run_that_never_stands_still_are_of_one_moment() {
    let world = World::new().await;
    let run = world.run().await;
    world.flush(run, 0, &[event("t1", 1)]).await;
    let pool = world.database.pool().await;
    // So many that a flush gets in wherever a look leaves room for one.
    sqlx::query(
        "INSERT INTO run_totals (tenant, meter, label, subject, run, consumed, recorded, undone)
         SELECT tenant, meter, label, 's' || number, run, 0, 0, 0
         FROM run_totals, generate_series(1, 3000) AS number WHERE run = $1",
    )
    .bind(run.0)
    .execute(&pool)
    .await
    .unwrap();
    let flushes = format!(
        "DO $$ DECLARE until timestamptz := clock_timestamp() + interval '1 minute';
         BEGIN WHILE clock_timestamp() < until
                 AND (SELECT host = 'host' FROM runs WHERE run = '{0}') LOOP
             UPDATE runs SET flushed_position = flushed_position + 1 WHERE run = '{0}';
             UPDATE run_totals SET consumed = consumed + 1 WHERE run = '{0}' AND subject = '';
             COMMIT;
         END LOOP; END $$",
        run.0
    );
    let flushing = tokio::spawn({
        let pool = pool.clone();
        async move { sqlx::raw_sql(sqlx::AssertSqlSafe(flushes)).execute(&pool).await.unwrap() }
    });
    let mut marks = std::collections::BTreeSet::new();
    while marks.len() < 10 && !flushing.is_finished() {
        let books = world.ledger.run_journal_books(run).await.unwrap();
        let books = books.expect("it is registered");
        let counted: i128 =
            books.counted.iter().map(|(_, units)| units.consumed + units.recorded).sum();
        assert_eq!(i128::from(books.flushed_position), counted);
        marks.insert(books.flushed_position);
    }
    sqlx::query("UPDATE runs SET host = 'done' WHERE run = $1")
        .bind(run.0)
        .execute(&pool)
        .await
        .unwrap();
    flushing.await.unwrap();
}
