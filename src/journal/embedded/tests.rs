use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{
    domain::{
        catalog::names::OperationName,
        cell_key::CellKey,
        distinct::EXACT_VALUES_MAX,
        meter::Aggregation,
        period::Period,
        usage::{Durability, UsageEvent},
    },
    journal::{
        Journal,
        config::JournalConfig,
        decode::Decode,
        encode::encode,
        error::JournalError,
        faulty::{Death, FaultyDisk},
        files::Files,
        leftover::LeftoverRun,
        position::Position,
        reader::{Entry, ReadLimit, Reader},
        record::Record,
        samples::{event, mostly_plain_usage, run},
        tally::{Tally, TallyDecoder},
    },
    proto::journal::{Checkpoint, UsedKey},
};

const FEW: ReadLimit = ReadLimit { records_max: 3, bytes_max: usize::MAX };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn disk() -> FaultyDisk {
    let disk = FaultyDisk::new(1);
    disk.create_dir_all(Path::new("data")).unwrap();
    disk.sync_dir(Path::new(".")).unwrap();
    disk
}

fn open(disk: &FaultyDisk) -> EmbeddedStore {
    EmbeddedStore::open(&EmbeddedConfig::default(), Path::new("data"), disk.clone()).unwrap()
}

fn entry(offset: u32, events: Vec<UsageEvent>) -> Entry<Tally> {
    let record = Tally::Whole(Record::Usage(events));
    Entry { position: Position { segment: 1, offset }, record }
}

#[test]
fn a_repeat_is_not_counted_and_is_undone_to_the_last_unit() {
    let mut store = open(&disk());
    let first = UsageEvent { from_lease: 6, ..event("acme", Some("k"), 9) };
    let absorbed = store.absorb(run(1), &[entry(100, vec![first.clone()])], at(0));
    assert_eq!((absorbed.counted, absorbed.undone.len()), (1, 0));
    let absorbed = store.absorb(run(2), &[entry(100, vec![first.clone()])], at(0));
    assert_eq!((absorbed.counted, absorbed.duplicates), (0, 1));
    assert_eq!(absorbed.undone, [(first.key.clone(), 9)]);
    assert_eq!(store.total(&first.key).unwrap().used(), 9);
    // The same key of another tenant is another key.
    let other = event("other", Some("k"), 9);
    assert_eq!(store.absorb(run(2), &[entry(200, vec![other])], at(0)).counted, 1);
}

#[test]
fn a_key_with_another_content_is_left_out_undone_and_counted_as_conflict() {
    let mut store = open(&disk());
    let first = event("acme", Some("k"), 9);
    let mut other = event("acme", Some("k"), 10);
    let absorbed = store.absorb(run(1), &[entry(100, vec![first.clone(), other.clone()])], at(0));
    assert_eq!((absorbed.counted, absorbed.conflicts, store.conflicts()), (1, 1, 1));
    assert_eq!(absorbed.undone[0].1, 10);
    assert_eq!(store.total(&first.key).unwrap().used(), 9);
    other = first.clone();
    other.key.label.start += 1;
    // The window is no part of the content: a retry may come after its end.
    assert_eq!(store.absorb(run(1), &[entry(200, vec![other])], at(0)).duplicates, 1);
}

/// The parts of an operation as one record has them.
fn parts(key: &str, amounts: [i64; 2]) -> Vec<UsageEvent> {
    let part = |(meter, amount): (&str, i64)| {
        let mut part = event("acme", Some(key), amount);
        part.key.meter = meter.parse().unwrap();
        part.operation = Some(OperationName::new("ask").unwrap());
        part
    };
    ["tokens", "jobs"].into_iter().zip(amounts).map(part).collect()
}

#[test]
fn an_operation_has_one_key_and_its_parts_one_fate_also_over_a_checkpoint() {
    let disk = disk();
    let mut store = open(&disk);
    let first = parts("k", [12, 1]);
    let absorbed = store.absorb(run(1), &[entry(100, first.clone())], at(0));
    assert_eq!((absorbed.counted, absorbed.duplicates, absorbed.conflicts), (2, 0, 0));
    // A key of the client's own is another key.
    let own = event("acme", Some("k#tokens"), 5);
    assert_eq!(store.absorb(run(1), &[entry(200, vec![own])], at(0)).counted, 1);
    store.checkpoint(at(0)).unwrap();
    let mut store = open(&disk);
    let repeat = store.absorb(run(2), &[entry(100, first.clone())], at(0));
    assert_eq!((repeat.counted, repeat.duplicates, repeat.undone.len()), (0, 2, 2));
    // Half of it is what it was before: all of it is left out.
    let other = store.absorb(run(2), &[entry(200, parts("k", [12, 2]))], at(0));
    assert_eq!((other.counted, other.duplicates, other.conflicts), (0, 0, 2));
    let single = store.absorb(run(2), &[entry(300, vec![event("acme", Some("k"), 12)])], at(0));
    assert_eq!((single.counted, single.conflicts), (0, 1));
    let used = |event: &UsageEvent| store.total(&event.key).unwrap().used();
    assert_eq!([used(&first[0]), used(&first[1])], [17, 1]);
}

#[test]
fn each_aggregation_has_its_value_and_keeps_it_over_a_checkpoint() {
    let disk = disk();
    let mut store = open(&disk);
    let mut events = vec![];
    for (period, aggregation) in [
        (1, Aggregation::Sum),
        (2, Aggregation::Count),
        (3, Aggregation::Max),
        (4, Aggregation::Last),
        (5, Aggregation::DistinctCount),
    ] {
        for (amount, second, value) in [(5, 30, "a"), (7, 10, "b"), (-2, 40, "a"), (3, 40, "c")] {
            let mut event = event("acme", None, amount);
            event.key.label.period = Period::Interval { seconds: period };
            event.aggregation = aggregation;
            event.time = at(second);
            event.distinct_value = Some(value.into());
            events.push(event);
        }
    }
    let keys: Vec<_> = events.iter().step_by(4).map(|event| event.key.clone()).collect();
    store.absorb(run(1), &[entry(100, events)], at(7));
    let values = |store: &EmbeddedStore| {
        keys.iter().map(|key| store.total(key).unwrap().value()).collect::<Vec<_>>()
    };
    assert_eq!(values(&store), [13, 4, 7, 3, 3]);
    let before: Vec<_> = keys.iter().map(|key| store.total(key)).collect();
    store.checkpoint(at(7)).unwrap();
    let store = open(&disk);
    let after: Vec<_> = keys.iter().map(|key| store.total(key)).collect();
    assert_eq!(before, after);
    assert_eq!(store.checkpointed(run(1)), Position { segment: 1, offset: 100 });
}

#[test]
fn distinct_values_beyond_the_exact_size_survive_a_checkpoint() {
    let disk = disk();
    let mut store = open(&disk);
    let mut events = vec![];
    for value in 0..EXACT_VALUES_MAX + 10 {
        let mut event = event("acme", None, 1);
        event.aggregation = Aggregation::DistinctCount;
        event.distinct_value = Some(value.to_string());
        events.push(event);
    }
    let key = events[0].key.clone();
    store.absorb(run(1), &[entry(100, events)], at(7));
    let before = store.total(&key);
    store.checkpoint(at(7)).unwrap();
    assert_eq!(open(&disk).total(&key), before);
}

#[test]
fn keys_are_forgotten_after_their_retention_and_beyond_their_number_the_oldest_first() {
    let config = EmbeddedConfig {
        key_retention: SignedDuration::from_secs(100),
        keys_max: 2,
        ..EmbeddedConfig::default()
    };
    let mut store = EmbeddedStore::open(&config, Path::new("data"), disk()).unwrap();
    let mut offset = 0;
    let mut sent_again = |store: &mut EmbeddedStore, key: &str, second: i64| {
        offset += 100;
        let entries = [entry(offset, vec![event("acme", Some(key), 1)])];
        store.absorb(run(1), &entries, at(second)).duplicates == 1
    };
    assert!(!sent_again(&mut store, "a", 0));
    store.checkpoint(at(100)).unwrap();
    assert!(sent_again(&mut store, "a", 100));
    store.checkpoint(at(101)).unwrap();
    assert!(!sent_again(&mut store, "a", 101));
    assert!(!sent_again(&mut store, "b", 101));
    assert!(!sent_again(&mut store, "c", 101));
    assert!(sent_again(&mut store, "b", 102));
    assert!(!sent_again(&mut store, "a", 102));
}

#[test]
fn windows_are_forgotten_once_they_are_long_over_and_levels_never() {
    let mut store = open(&disk());
    let mut minute = event("acme", None, 1);
    minute.key.label.period = Period::Minute;
    let mut level = event("acme", None, 1);
    level.key.label.period = Period::Lifetime;
    store.absorb(run(1), &[entry(100, vec![minute.clone(), level.clone()])], at(0));
    store.checkpoint(at(60 + 7 * 86_400)).unwrap();
    assert!(store.total(&minute.key).is_some());
    store.checkpoint(at(61 + 7 * 86_400)).unwrap();
    assert!(store.total(&minute.key).is_none());
    store.checkpoint(at(1_000_000_000)).unwrap();
    assert!(store.total(&level.key).is_some());
}

#[test]
fn what_was_undone_is_remembered_until_its_window_is_long_over() {
    const DAY: i64 = 86_400;
    let mut store = open(&disk());
    store.absorb(run(1), &[entry(100, vec![event("acme", Some("k"), 9)])], at(0));
    // In a window that no event counts in.
    let mut repeat = event("acme", Some("k"), 9);
    repeat.key.label.period = Period::Day;
    repeat.key.label.start = DAY;
    let undone = |store: &mut EmbeddedStore, offset, second| {
        let absorbed = store.absorb(run(1), &[entry(offset, vec![repeat.clone()])], at(second));
        assert_eq!(absorbed.duplicates, 1);
        absorbed.undone
    };
    assert_eq!(undone(&mut store, 200, DAY), [(repeat.key.clone(), 9)]);
    store.checkpoint(at(DAY)).unwrap();
    assert_eq!(undone(&mut store, 300, DAY), [(repeat.key.clone(), 18)], "in all of the run");
    store.checkpoint(at(11 * DAY)).unwrap();
    assert_eq!(undone(&mut store, 400, 11 * DAY), [(repeat.key.clone(), 9)], "it is forgotten");
}

#[test]
fn a_damaged_checkpoint_is_reported_with_its_file() {
    let disk = disk();
    let mut store = open(&disk);
    store.absorb(run(1), &[entry(100, vec![event("acme", Some("k"), 9)])], at(0));
    store.checkpoint(at(0)).unwrap();
    let path = PathBuf::from("data/embedded/checkpoint.bin");
    disk.flip_bit(&path, 8 * 40);
    let opened = EmbeddedStore::open(&EmbeddedConfig::default(), Path::new("data"), disk);
    let error = opened.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("checkpoint.bin"), "{error}");
}

/// What the store should know, computed from all the events at once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Model {
    used: BTreeMap<CellKey, i64>,
    keys: BTreeMap<String, i64>,
}

impl Model {
    fn add(&mut self, event: &UsageEvent) {
        if let Some(key) = &event.idempotency_key {
            let key = format!("{}/{key}", event.key.tenant);
            if self.keys.contains_key(&key) {
                return;
            }
            self.keys.insert(key, event.amount);
        }
        *self.used.entry(event.key.clone()).or_default() += event.amount;
    }
}

/// All uses of keys that the store knows.
fn used_keys(store: &EmbeddedStore) -> Vec<UsedKey> {
    let mut written = vec![];
    store.state.used_keys.write(&mut written);
    Checkpoint::decode(written.as_slice()).unwrap().used_keys
}

fn take_in(store: &mut EmbeddedStore, reader: Reader) {
    let mut reader = reader.adding_up();
    loop {
        let entries = reader.read(FEW).unwrap();
        if entries.is_empty() {
            return;
        }
        store.absorb(reader.run(), &entries, at(0));
    }
}

fn journal(disk: &FaultyDisk, number: u128) -> Result<Journal, JournalError> {
    let config = JournalConfig {
        segment_bytes: 4 << 10,
        disk_budget_bytes: 1 << 20,
        ..JournalConfig::new("data")
    };
    Journal::open(config, run(number), disk.clone())
}

/// Opens journal and store, takes in what was left, and forgets it.
fn restart(disk: &FaultyDisk, number: u128) -> Result<(Journal, EmbeddedStore), JournalError> {
    let journal = journal(disk, number)?;
    let config = EmbeddedConfig::default();
    let mut store = EmbeddedStore::open(&config, Path::new("data"), disk.clone())?;
    let mut left: Vec<LeftoverRun> = vec![];
    for run in journal.leftover_runs()? {
        left.push(journal.recover(run)?);
    }
    for left in &left {
        let mark = store.mark(left.run());
        take_in(&mut store, left.reader(mark));
    }
    store.checkpoint(at(0))?;
    for left in left {
        let run = left.run();
        left.delete()?;
        store.close_run(run);
    }
    Ok((journal, store))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn what_is_read_plainly_comes_to_what_it_comes_to_in_full(
        usages in prop::collection::vec(mostly_plain_usage(), 0..8),
    ) {
        let (mut plainly, mut in_full) = (open(&disk()), open(&disk()));
        let mut decoder = TallyDecoder::default();
        for (offset, events) in (1..).zip(usages) {
            let mut body = vec![];
            let kind = encode((&Record::Usage(events.clone())).into(), &mut body);
            let record = decoder.decode(kind, &body).unwrap().unwrap();
            let position = Position { segment: 1, offset };
            let absorbed = plainly.absorb(run(1), &[Entry { position, record }], at(7));
            prop_assert_eq!(absorbed, in_full.absorb(run(1), &[entry(offset, events)], at(7)));
        }
        let totals = |store: &EmbeddedStore| {
            let totals = store.totals().map(|(key, total)| (key.to_key().unwrap(), total));
            totals.collect::<BTreeMap<_, _>>()
        };
        prop_assert_eq!(totals(&plainly), totals(&in_full));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn through_any_deaths_everything_acknowledged_is_counted_once(
        lives in prop::collection::vec(
            (
                prop::collection::vec((0u8..3, prop::option::of(0u8..20), 1i64..100), 0..40),
                0u64..150,
                prop_oneof![Just(Death::Process), Just(Death::Host)],
                0u64..40,
                prop_oneof![Just(Death::Process), Just(Death::HostLosingAll)],
            ),
            1..5,
        ),
    ) {
        let mut disk = FaultyDisk::new(7);
        let mut model = Model::default();
        for (number, life) in (1u128..).zip(lives) {
            let (events, dies_after, death, restart_dies_after, restart_death) = life;
            disk.die_after(dies_after);
            // The record that was being written when the process died, if any.
            let mut in_doubt = None;
            if let Ok((journal, mut store)) = restart(&disk, number) {
                for (tenant, key, amount) in events {
                    let key = key.map(|key| format!("key-{key}"));
                    let event = event(&format!("tenant-{tenant}"), key.as_deref(), amount);
                    let record = Record::Usage(vec![event.clone()]);
                    match block_on(journal.append(&record, Durability::Sync)) {
                        Err(error) => {
                            in_doubt = (!error.is_certain()).then_some(event);
                            break;
                        }
                        Ok(_) => model.add(&event),
                    }
                    let mark = store.mark(journal.run());
                    take_in(&mut store, journal.reader(mark));
                    if store.is_checkpoint_due() && store.checkpoint(at(0)).is_ok() {
                        let _ = journal.release(store.checkpointed(journal.run()));
                    }
                }
                disk.die_after(0);
                block_on(journal.close());
            }
            disk = disk.restart(death);
            disk.die_after(restart_dies_after);
            if let Ok((journal, _)) = restart(&disk, 1000 + number) {
                block_on(journal.close());
            }
            disk = disk.restart(restart_death);
            let (journal, store) = restart(&disk, 2000 + number).unwrap();
            let mut found = Model::default();
            let used = store.totals().map(|(key, total)| (key.to_key().unwrap(), total.used()));
            found.used.extend(used);
            found.keys.extend(used_keys(&store).into_iter().map(|used| {
                (format!("{}/{}", used.tenant, used.idempotency_key), used.amount)
            }));
            if found != model {
                model.add(&in_doubt.unwrap_or_else(|| panic!("{found:?} {model:?}")));
                prop_assert_eq!(&found, &model);
            }
            block_on(journal.close());
        }
    }
}
