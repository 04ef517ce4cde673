//! What must hold when processes and hosts die, disks fill up and syncs fail.

use std::{io::ErrorKind, path::Path};

use proptest::prelude::*;

use super::{
    Journal,
    config::JournalConfig,
    error::{AppendError, JournalError},
    faulty::{Death, FaultyDisk, Operation},
    leftover::LeftoverRun,
    position::Position,
    reader::ReadLimit,
    samples::{number, numbered, run},
    segment::{HEADER_BYTES, segment_path},
    shared::Health,
};
use crate::domain::usage::Durability;

const ALL: ReadLimit = ReadLimit { records_max: usize::MAX, bytes_max: usize::MAX };

fn config() -> JournalConfig {
    JournalConfig {
        segment_bytes: 4 << 10,
        disk_budget_bytes: 64 << 10,
        ..JournalConfig::new("data")
    }
}

fn open(disk: &FaultyDisk, number: u128) -> Result<Journal, JournalError> {
    Journal::open(config(), run(number), disk.clone())
}

fn numbers(left: &LeftoverRun) -> Result<Vec<i64>, JournalError> {
    let mut reader = left.reader(Position::START);
    let mut numbers = vec![];
    loop {
        let entries = reader.read(ALL)?;
        if entries.is_empty() {
            return Ok(numbers);
        }
        numbers.extend(entries.iter().map(|entry| number(&entry.record)));
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn segment(number: u32) -> std::path::PathBuf {
    segment_path(&Path::new("data/runs").join(run(1).to_string()), number)
}

/// One record that is sent: its level, its size, and whether the sender waits for the answer
/// before it sends the next one.
type Sent = (Durability, usize, bool);

/// What became of the records that were sent, by their numbers.
#[derive(Debug, Default)]
struct Sending {
    acknowledged: Vec<(i64, Durability)>,
    refused: Vec<i64>,
}

async fn send(journal: &Journal, records: &[Sent]) -> Sending {
    let mut sending = Sending::default();
    let mut pending = vec![];
    for (n, (level, padding, waits)) in (0..).zip(records) {
        match journal.enqueue(&numbered(n, *padding), *level) {
            Ok(answer) => pending.push((n, *level, answer)),
            Err(_) => sending.refused.push(n),
        }
        if *waits {
            settle(&mut sending, &mut pending).await;
        }
    }
    settle(&mut sending, &mut pending).await;
    sending
}

async fn settle(sending: &mut Sending, pending: &mut Vec<(i64, Durability, super::Pending)>) {
    for (n, level, answer) in pending.drain(..) {
        match answer.await {
            Ok(_) => sending.acknowledged.push((n, level)),
            Err(error) if error.is_certain() => sending.refused.push(n),
            Err(_) => {}
        }
    }
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let level = prop_oneof![
        Just(Durability::Memory),
        Just(Durability::Written),
        Just(Durability::Sync),
        Just(Durability::Sync),
    ];
    (level, prop_oneof![0usize..40, 0usize..3000, Just(6000usize)], prop::bool::weighted(0.3))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
    ))]

    #[test]
    fn what_was_acknowledged_is_there_after_every_death_that_its_level_survives(
        records in prop::collection::vec(any_sent(), 0..40),
        dies_after in prop_oneof![0u64..40, 0u64..400],
        is_closed: bool,
        death in prop_oneof![Just(Death::Process), Just(Death::Host)],
        recovery_dies_after in 0u64..20,
        short_writes: bool,
        seed: u64,
    ) {
        let disk = FaultyDisk::new(seed);
        if short_writes {
            disk.shorten_writes();
        }
        disk.die_after(dies_after);
        let mut sending = Sending::default();
        if let Ok(journal) = open(&disk, 1) {
            sending = block_on(send(&journal, &records));
            if !is_closed {
                disk.die_after(0);
            }
            block_on(journal.close());
        }

        // Recovery may die too, and any number of recoveries find the same.
        let disk = disk.restart(death);
        disk.die_after(recovery_dies_after);
        let first = open(&disk, 2).and_then(|journal| numbers(&journal.recover(run(1))?)).ok();
        let disk = disk.restart(Death::Host);
        let journal = open(&disk, 3).unwrap();
        if !journal.leftover_runs().unwrap().contains(&run(1)) {
            prop_assert_eq!(sending.acknowledged, []);
            return Ok(());
        }
        let left = journal.recover(run(1)).unwrap();
        let found = numbers(&left).unwrap();
        let survives = match death {
            // What was recovered is synced; before that, the host died after the process.
            Death::Process if first.is_some() => Durability::Written,
            _ => Durability::Sync,
        };
        if let Some(first) = first {
            prop_assert_eq!(&first, &found, "a second recovery found something else");
        }

        prop_assert!(found.is_sorted_by(|a, b| a < b), "out of order or twice: {found:?}");
        for n in &found {
            prop_assert!((0..records.len() as i64).contains(n), "{n} was never sent");
            prop_assert!(!sending.refused.contains(n), "{n} was refused");
        }
        for (n, level) in &sending.acknowledged {
            let is_kept = found.contains(n);
            prop_assert!(is_kept || *level < survives, "{n} at {level:?} is lost: {found:?}");
            prop_assert!(
                is_kept || left.may_have_lost_acknowledged(),
                "{n} is lost and nothing says so"
            );
        }
    }

    #[test]
    fn damage_to_what_is_known_to_be_on_disk_is_reported_and_never_skipped(
        is_closed: bool, bit: prop::sample::Index, seed: u64,
    ) {
        let disk = FaultyDisk::new(seed);
        let journal = open(&disk, 1).unwrap();
        let sent: Vec<i64> = (0..20).collect();
        let mut positions = vec![];
        for n in &sent {
            let record = numbered(*n, 400);
            positions.push(block_on(journal.append(&record, Durability::Sync)).unwrap());
        }
        if !is_closed {
            disk.die_after(0);
        }
        block_on(journal.close());
        drop(journal);
        // Of a run that crashed, the last record alone proves nothing about itself.
        let known = positions[if is_closed { 19 } else { 18 }];
        prop_assert!(known.segment >= 3);
        let damaged = 1 + bit.index(known.segment as usize) as u32;
        let disk = disk.restart(Death::Process);
        let bytes = match damaged {
            last if last == known.segment => known.offset as usize,
            _ => disk.content(&segment(damaged)).len(),
        };
        let bit = bit.index(bytes * 8);
        disk.flip_bit(&segment(damaged), bit);

        let journal = open(&disk, 2).unwrap();
        match journal.recover(run(1)).and_then(|left| numbers(&left)) {
            // A bit between the frames harms nobody.
            Ok(found) => prop_assert_eq!(found, sent),
            Err(JournalError::Corrupt { path, offset, .. }) => {
                // Damage to a start record may only show as the gap before it.
                prop_assert!(path == segment(damaged) || path == segment(damaged + 1));
                prop_assert!(path != segment(damaged) || offset as usize <= bit / 8);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

#[test]
fn one_write_and_one_sync_serve_all_that_wait_and_release_only_those_they_cover() {
    let disk = FaultyDisk::new(1);
    let config = JournalConfig { segment_bytes: 32 << 10, ..config() };
    let journal = Journal::open(config, run(1), disk.clone()).unwrap();
    block_on(journal.append(&numbered(0, 0), Durability::Sync)).unwrap();
    let before = disk.counts();
    disk.hold_syncs(true);
    let first = journal.enqueue(&numbered(1, 0), Durability::Sync).unwrap();
    let written = journal.enqueue(&numbered(2, 0), Durability::Written).unwrap();
    // The writer has come to the sync that is held, and does nothing more.
    while disk.counts().data_syncs_begun == before.data_syncs_begun {
        std::thread::yield_now();
    }
    let behind: Vec<_> =
        (3..60).map(|n| journal.enqueue(&numbered(n, 0), Durability::Sync).unwrap()).collect();
    let synced = *journal.synced().borrow();
    disk.hold_syncs(false);
    let first = block_on(first).unwrap();
    assert!(first > synced, "the answer came before the sync");
    block_on(written).unwrap();
    for answer in behind {
        let position = block_on(answer).unwrap();
        assert!(*journal.synced().borrow() >= position);
    }
    let after = disk.counts();
    // The second record was taken with the first or with those behind it.
    assert!(after.writes - before.writes <= 3, "{before:?} {after:?}");
    assert!(after.data_syncs - before.data_syncs <= 3, "{before:?} {after:?}");
}

#[test]
fn a_sync_that_failed_ends_the_journal_and_is_never_tried_again() {
    let disk = FaultyDisk::new(1);
    let journal = open(&disk, 1).unwrap();
    block_on(journal.append(&numbered(0, 0), Durability::Sync)).unwrap();
    disk.fail(Operation::Sync, Some(ErrorKind::Other));
    let uncertain = block_on(journal.append(&numbered(1, 0), Durability::Sync)).unwrap_err();
    assert!(!uncertain.is_certain(), "{uncertain}");
    disk.fail(Operation::Sync, None);
    block_on(journal.health().wait_for(|health| *health != Health::Running)).unwrap();
    let syncs = disk.counts().data_syncs;
    let refused = block_on(journal.append(&numbered(2, 0), Durability::Sync)).unwrap_err();
    assert!(matches!(&refused, AppendError::Stopped { reason } if reason.contains("sync")));
    assert!(matches!(block_on(journal.close()), Health::Failed { .. }));
    assert_eq!(disk.counts().data_syncs, syncs);
}

#[test]
fn a_full_disk_refuses_for_certain_and_goes_on_when_there_is_room() {
    let disk = FaultyDisk::new(1);
    let journal = open(&disk, 1).unwrap();
    disk.fail(Operation::Create, Some(ErrorKind::StorageFull));
    let refused = block_on(journal.append(&numbered(0, 0), Durability::Sync)).unwrap_err();
    assert!(matches!(refused, AppendError::NoSpace { .. }) && refused.is_certain(), "{refused}");
    disk.fail(Operation::Create, None);
    let mut sent = vec![];
    for n in 1..30 {
        // Room for every other segment at the first attempt.
        let error = (n % 7 == 0).then_some(ErrorKind::StorageFull);
        disk.fail(Operation::Create, error);
        if block_on(journal.append(&numbered(n, 1000), Durability::Sync)).is_ok() {
            sent.push(n);
        }
    }
    assert!(sent.len() < 29, "the disk was never full");
    assert_eq!(block_on(journal.close()), Health::Closed);
    drop(journal);
    let journal = open(&disk.restart(Death::Host), 2).unwrap();
    assert_eq!(numbers(&journal.recover(run(1)).unwrap()).unwrap(), sent);
}

#[test]
fn a_full_disk_refuses_a_weaker_promise_or_a_new_segment_and_goes_on_when_there_is_room() {
    for operation in [Operation::Create, Operation::Write, Operation::Sync] {
        for level in [Durability::Sync, Durability::Written] {
            let disk = FaultyDisk::new(1);
            let journal = open(&disk, 1).unwrap();
            if level != Durability::Sync {
                // There is a segment: what is missing is room to write the weaker promise down.
                block_on(journal.append(&numbered(0, 0), Durability::Sync)).unwrap();
            }
            disk.fail(operation, Some(ErrorKind::StorageFull));
            let refused = block_on(journal.append(&numbered(1, 0), level)).unwrap_err();
            assert!(matches!(refused, AppendError::NoSpace { .. }), "{operation:?}: {refused}");
            assert_eq!(*journal.health().borrow(), Health::Running, "{operation:?}, {level:?}");
            disk.fail(operation, None);
            block_on(journal.append(&numbered(2, 0), level)).unwrap();
            assert_eq!(block_on(journal.close()), Health::Closed);
            drop(journal);
            let journal = open(&disk.restart(Death::HostLosingAll), 2).unwrap();
            let found = numbers(&journal.recover(run(1)).unwrap()).unwrap();
            assert_eq!(found.last(), Some(&2));
            assert!(!found.contains(&1));
        }
    }
}

#[test]
fn a_segment_that_cannot_be_deleted_keeps_those_behind_it() {
    let disk = FaultyDisk::new(1);
    let journal = open(&disk, 1).unwrap();
    for n in 0..12 {
        block_on(journal.append(&numbered(n, 1000), Durability::Sync)).unwrap();
    }
    // The sync before it, then the removal.
    disk.fail_once_after(1, ErrorKind::Other);
    let error = journal.release(*journal.synced().borrow()).unwrap_err();
    assert!(error.to_string().contains("00000001.seg"), "{error}");
    let killed = disk.restart(Death::Process);
    let next = open(&killed, 2).unwrap();
    assert!(next.recover(run(1)).is_ok(), "a gap");
}

#[test]
fn what_lies_before_a_damage_is_read_and_then_the_damage_told() {
    let disk = FaultyDisk::new(1);
    let journal = open(&disk, 1).unwrap();
    let mut positions = vec![];
    for n in 0..3 {
        positions.push(block_on(journal.append(&numbered(n, 0), Durability::Sync)).unwrap());
    }
    block_on(journal.close());
    drop(journal);
    let disk = disk.restart(Death::Process);
    disk.flip_bit(&segment(1), positions[1].offset as usize * 8);
    let journal = open(&disk, 2).unwrap();
    let left = journal.recover(run(1)).unwrap();
    let mut reader = left.reader(Position::START);
    let entries = reader.read(ALL).unwrap();
    assert_eq!(entries.len(), 2);
    let error = reader.read(ALL).unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
    assert_eq!(reader.position(), positions[1]);
}

#[test]
fn a_full_queue_refuses_for_certain_and_a_record_too_large_never_enters_it() {
    let disk = FaultyDisk::new(1);
    let config = JournalConfig { queue_records_max: 10, ..config() };
    let journal = Journal::open(config, run(1), disk.clone()).unwrap();
    block_on(journal.append(&numbered(0, 0), Durability::Sync)).unwrap();
    disk.hold_syncs(true);
    let mut waiting = vec![];
    let refused = loop {
        match journal.enqueue(&numbered(1, 0), Durability::Sync) {
            Ok(pending) => waiting.push(pending),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::QueueFull { records: 10, .. }), "{refused}");
    disk.hold_syncs(false);
    for pending in waiting {
        block_on(pending).unwrap();
    }
    let refused = journal.enqueue(&numbered(1, 65 << 20), Durability::Sync).unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { .. }), "{refused}");
}

/// Appends `records` at `level` as callers do that poll what they wait for; how many were let in,
/// and what waits.
async fn append_all(
    journal: &Journal,
    records: i64,
    level: Durability,
) -> Vec<tokio::task::JoinHandle<Result<Position, AppendError>>> {
    let mut waiting = vec![];
    for n in 0..records {
        match journal.enqueue(&numbered(n, 0), level) {
            Ok(pending) => waiting.push(tokio::spawn(pending)),
            Err(error) => assert!(matches!(error, AppendError::QueueFull { .. }), "{error}"),
        }
        // Each is polled until it waits, and the journal's thread has a turn.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    waiting
}

#[tokio::test]
async fn no_more_wait_for_a_slow_sync_than_the_queue_holds() {
    let disk = FaultyDisk::new(1);
    let config = JournalConfig {
        segment_bytes: 64 << 10,
        disk_budget_bytes: 1 << 20,
        queue_records_max: 10,
        ..config()
    };
    let journal = Journal::open(config, run(1), disk.clone()).unwrap();
    journal.append(&numbered(0, 0), Durability::Sync).await.unwrap();
    disk.hold_syncs(true);
    let waiting = append_all(&journal, 100, Durability::Sync).await;
    // Those of the sync under way, those of the next, and those in the queue.
    assert!(waiting.len() <= 3 * 10, "{} were let in", waiting.len());
    disk.hold_syncs(false);
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_queue_that_fills_is_written_before_the_delay_is_over() {
    let config = JournalConfig { queue_records_max: 10, sync_delay_ms_max: 600_000, ..config() };
    let journal = Journal::open(config, run(1), FaultyDisk::new(1)).unwrap();
    journal.append(&numbered(0, 0), Durability::Memory).await.unwrap();
    let waiting = append_all(&journal, 50, Durability::Memory).await;
    assert_eq!(waiting.len(), 50, "the others were refused");
    journal.close().await;
}

#[test]
fn an_unfinished_last_segment_is_cut_and_a_missing_one_is_reported() {
    let disk = FaultyDisk::new(1);
    let journal = open(&disk, 1).unwrap();
    for n in 0..12 {
        block_on(journal.append(&numbered(n, 1000), Durability::Sync)).unwrap();
    }
    disk.die_after(0);
    block_on(journal.close());
    drop(journal);
    let killed = disk.restart(Death::Process);
    // A segment that was created but never written to.
    use super::files::Files;
    killed.create(&segment(5), 4096).unwrap();
    assert_eq!(killed.content(&segment(5))[..HEADER_BYTES as usize], [0; HEADER_BYTES as usize]);
    let journal = open(&killed, 2).unwrap();
    let found = numbers(&journal.recover(run(1)).unwrap()).unwrap();
    assert_eq!(found, (0..12).collect::<Vec<_>>());

    let gap = disk.restart(Death::Process);
    gap.remove(&segment(2)).unwrap();
    let journal = open(&gap, 2).unwrap();
    let error = journal.recover(run(1)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("00000002.seg"), "{error}");
}
