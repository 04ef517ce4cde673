//! The journal: bodies of records, frames, and what a start finds in the directory of a run that
//! died.

use std::{path::Path, sync::LazyLock};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tollgate::{
    domain::{ids::RunId, usage::Durability},
    journal::{
        Journal,
        config::JournalConfig,
        convert::BodyError,
        decode::{Decode, Decoder},
        disk::Disk,
        encode::encode,
        error::JournalError,
        frame::{self, FRAME_ALIGN, Found, FrameSeed, Kind},
        position::Position,
        reader::ReadLimit,
        record::Record,
        tally::{Tally, TallyDecoder, Units},
    },
};
use tollgate_fuzz::{Answer, Target};
use uuid::Uuid;

use super::{http1, sidecar::Sidecar};

/// The run that the corpus is of.
const RUN: RunId = RunId(Uuid::from_u128(7));
const SEGMENT_BYTES: u32 = 16 << 10;

/// A body as it is kept in the corpus: its kind, then the message.
fn decode(input: &[u8]) -> Option<Result<Option<Record>, BodyError>> {
    let (kind, body) = input.split_first()?;
    let kind = [Kind::Start, Kind::CellOpened, Kind::Usage]
        .into_iter()
        .find(|known| *known as u8 == *kind)?;
    Some(Decoder::default().decode(kind, body))
}

/// Whoever adds up reads of a record what it says.
fn assert_tally(record: &Record, input: &[u8]) {
    let kind = match record {
        Record::CellOpened { .. } => Kind::CellOpened,
        Record::Usage(_) => Kind::Usage,
    };
    let tally = TallyDecoder::default().decode(kind, &input[1..]).expect("it can be read whole");
    match (tally.expect("it is a record"), record) {
        (Tally::Plain(units), Record::Usage(events)) => {
            let added = |units: &Units| (units.counter.key.clone(), units.amount, units.time);
            let told = events.iter().map(|event| (event.key.clone(), event.amount, event.time));
            assert!(units.iter().map(added).eq(told), "{units:?} {events:?}");
        }
        (tally, record) => assert_eq!(tally, Tally::Whole(record.clone())),
    }
}

#[test]
fn bodies_of_records() {
    // An event of two bytes becomes a struct of 400, and each copy of its meter's names.
    let target = Target {
        name: "journal-body",
        inputs: 20_000,
        bytes_max: 16 << 10,
        memory_max: (1 << 20, 4 << 10),
    };
    target.run(bodies(), |input| match decode(input) {
        None => "no kind".into(),
        Some(Err(error)) => {
            error.to_string().split([':', '"']).take(3).collect::<Vec<_>>().join(":")
        }
        Some(Ok(None)) => "start".into(),
        Some(Ok(Some(record))) => {
            assert_tally(&record, input);
            let mut body = vec![];
            let kind = encode((&record).into(), &mut body);
            let again =
                Decoder::default().decode(kind, &body).expect("what is written is read again");
            assert_eq!(again.as_ref(), Some(&record));
            match record {
                Record::CellOpened { .. } => "a counter".into(),
                Record::Usage(events) => format!("{} events", events.len().min(4)),
            }
        }
    });
}

/// What a real sidecar wrote into its journal: the records of all calls of HTTP's corpus.
static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let sidecar = Sidecar::start();
    http1::play(&sidecar);
    let (live, copy) = (sidecar.directory.path().join("runs"), directory());
    let run = sidecar.started.engine.run();
    let left = copy.path().join("runs").join(run.to_string());
    std::fs::create_dir_all(&left).unwrap();
    for entry in std::fs::read_dir(live.join(run.to_string())).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, left.join(from.file_name().unwrap())).unwrap();
    }
    let records = read_left(copy.path(), run).unwrap();
    assert!(records.len() >= 3, "{} records", records.len());
    records
});

/// The same as bodies.
fn bodies() -> Vec<Vec<u8>> {
    let body = |record: &Record| {
        let mut body = vec![0];
        body[0] = encode(record.into(), &mut body) as u8;
        body
    };
    RECORDS.iter().map(body).collect()
}

/// Frames of `records`, one behind the other, and where each ends.
fn framed(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (vec![], vec![]);
    for record in records {
        let start = frame::begin(&mut bytes);
        let kind = encode(record.into(), &mut bytes);
        frame::finish(&mut bytes, start, kind, Position::START, FrameSeed::of(RUN));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// Reads frames as long as there are any: the records, and where the last one ended.
fn read_frames(bytes: &[u8]) -> (Vec<Record>, usize) {
    let (mut records, mut at) = (vec![], 0);
    while let Found::Frame(frame) = frame::parse(&bytes[at..], bytes.len() - at, FrameSeed::of(RUN))
    {
        records.extend(Decoder::default().decode(frame.kind, frame.body).unwrap_or_default());
        assert!(frame.bytes >= FRAME_ALIGN && at + frame.bytes <= bytes.len());
        at += frame.bytes;
    }
    (records, at)
}

#[test]
fn frames() {
    let records = &*RECORDS;
    let (whole, _) = framed(records);
    let target = Target {
        name: "journal-frame",
        inputs: 20_000,
        bytes_max: 32 << 10,
        memory_max: (1 << 20, 4 << 10),
    };
    target.run(vec![whole], |input| {
        let (read, at) = read_frames(input);
        // Frames may be moved and doubled, which nothing on a disk does; none is made up.
        assert!(read.iter().all(|record| records.contains(record)), "a record was made up");
        let end = frame::parse(&input[at..], input.len() - at, FrameSeed::of(RUN));
        let _ = frame::synced_according_to_later_frames(&input[at..], FrameSeed::of(RUN));
        match end {
            Found::Bad(problem) => problem.to_owned(),
            Found::Nothing => format!("{} records", read.len()),
            Found::Partial(_) => "partial".into(),
            Found::UnknownKind(_) => "unknown kind".into(),
            Found::Frame(_) => unreachable!("reading went on to the last frame"),
        }
    });
}

#[test]
fn a_bit_that_flips_ends_the_reading_there_and_never_gives_another_record() {
    let records = &*RECORDS;
    let (whole, ends) = framed(records);
    let mut flipped = whole.clone();
    for bit in 0..whole.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (read, at) = read_frames(&flipped);
        flipped[bit / 8] ^= 1 << (bit % 8);
        let intact = ends.iter().filter(|end| **end <= bit / 8).count();
        // Only what pads a frame is not covered by its checksum.
        assert!(read.len() == intact || read == *records, "bit {bit}: {} read", read.len());
        assert_eq!(read[..], records[..read.len()], "bit {bit}");
        assert!(at <= whole.len());
    }
}

/// Where tests write much: in memory where there is such a place.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let at = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("tollgate-fuzz").tempdir_in(at).unwrap()
}

fn config(directory: &Path) -> JournalConfig {
    JournalConfig {
        segment_bytes: SEGMENT_BYTES,
        disk_budget_bytes: 64 << 20,
        ..JournalConfig::new(directory)
    }
}

/// What a killed sidecar leaves: its run's file, and its only segment.
fn left_behind(runtime: &Runtime, records: &[Record]) -> (Vec<u8>, Vec<u8>) {
    let directory = directory();
    let journal = Journal::open(config(directory.path()), RUN, Disk).unwrap();
    for record in records {
        runtime.block_on(journal.enqueue(record, Durability::Sync).unwrap()).unwrap();
    }
    let run = directory.path().join("runs").join(RUN.to_string());
    let read = |name: &str| std::fs::read(run.join(name)).unwrap();
    let left = (read("run.json"), read("00000001.seg"));
    runtime.block_on(journal.close());
    left
}

/// What the next start reads of it.
fn recovered(directory: &Path, left: (&[u8], &[u8])) -> Result<Vec<Record>, JournalError> {
    let run = directory.join("runs").join(RUN.to_string());
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("run.json"), left.0).unwrap();
    std::fs::write(run.join("00000001.seg"), left.1).unwrap();
    read_left(directory, RUN)
}

/// The records of a run that is over.
fn read_left(directory: &Path, run: RunId) -> Result<Vec<Record>, JournalError> {
    let journal = Journal::open(config(directory), RunId(Uuid::from_u128(8)), Disk)?;
    assert_eq!(journal.leftover_runs()?, [run]);
    let left = journal.recover(run)?;
    let limit = ReadLimit { records_max: 1_000, bytes_max: 1 << 20 };
    let mut reader = left.reader(Position::START);
    let mut records = vec![];
    loop {
        let entries = reader.read(limit)?;
        if entries.is_empty() {
            return Ok(records);
        }
        records.extend(entries.into_iter().map(|entry| entry.record));
    }
}

fn outcome(read: Result<Vec<Record>, JournalError>, records: &[Record]) -> Answer {
    match read {
        Ok(read) => {
            assert!(read.iter().all(|record| records.contains(record)), "a record was made up");
            format!("{} records", read.len())
        }
        Err(JournalError::Corrupt { problem, .. }) => {
            problem.split(['(', ':']).next().unwrap_or_default().to_owned()
        }
        Err(error) => error.to_string().split(' ').take(3).collect::<Vec<_>>().join(" "),
    }
}

#[test]
fn segments_of_a_run_that_died() {
    let (runtime, records) = (Runtime::new().unwrap(), &*RECORDS);
    let (run_file, segment) = left_behind(&runtime, records);
    let target = Target {
        name: "journal-segment",
        inputs: 300,
        bytes_max: 2 * SEGMENT_BYTES as usize,
        memory_max: (32 << 20, 4 << 10),
    };
    target.run(vec![segment.clone()], |input| {
        let directory = directory();
        let read = recovered(directory.path(), (&run_file, input));
        if input == segment {
            assert_eq!(read.as_deref().ok(), Some(&records[..]));
        }
        outcome(read, records)
    });
}

#[test]
fn files_that_say_how_a_run_ended() {
    let (runtime, records) = (Runtime::new().unwrap(), &*RECORDS);
    let (run_file, segment) = left_behind(&runtime, records);
    let target = Target {
        name: "journal-run",
        inputs: 300,
        bytes_max: 4 << 10,
        memory_max: (32 << 20, 4 << 10),
    };
    target.run(vec![run_file], |input| {
        let directory = directory();
        outcome(recovered(directory.path(), (input, &segment)), records)
    });
}
