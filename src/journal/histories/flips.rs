//! A bit of a file is not what was written, whichever file it is.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{
    model::{Found, Model},
    plan::{Life, Step},
    playing,
};
use crate::domain::usage::Durability;
use crate::journal::{
    embedded::{EmbeddedConfig, EmbeddedStore},
    error::JournalError,
    faulty::{Death, FaultyDisk, Moment},
    files::Files,
    position::Position,
    reader::Entry,
    record::Record,
    samples::{event, run},
    segment::segment_path,
    tally::Tally,
};

const RECORDS: i64 = 12;

fn run_file(name: &str) -> PathBuf {
    Path::new("data/runs").join(run(1).to_string()).join(name)
}

/// A run's disk after three segments of records, each synced alone.
fn three_segments(is_closed: bool) -> Moment {
    let disk = FaultyDisk::new(3);
    let steps = (0..RECORDS).map(|_| Step::Send(vec![(Durability::Sync, 800)])).collect();
    let (mut moments, _) =
        playing::play(&disk, 1, &Life::of(steps, is_closed), (&Model::default(), None)).unwrap();
    moments.remove(moments.len() - 1)
}

fn recovered(disk: &FaultyDisk) -> Found {
    playing::recover_all(disk, 2, &Model::default()).unwrap().remove(&run(1)).unwrap()
}

/// What one flipped bit came to.
enum Outcome {
    Harmless,
    /// The journal is taken to end before its last record.
    Cut,
    Told {
        path: PathBuf,
        offset: u64,
    },
}

fn flipped(moment: &Moment, path: &Path, bit: usize) -> Outcome {
    let disk = moment.after(Death::Process, 1);
    disk.flip_bit(path, bit);
    let whole: Vec<i64> = (1000..1000 + RECORDS).collect();
    let Found { numbers, error, .. } = recovered(&disk);
    assert!(whole.starts_with(&numbers), "{}, bit {bit}: {numbers:?}", path.display());
    match error {
        None if numbers == whole => Outcome::Harmless,
        None => {
            assert_eq!(numbers.len(), whole.len() - 1, "{}, bit {bit}", path.display());
            Outcome::Cut
        }
        Some(JournalError::Corrupt { path, offset, .. }) => Outcome::Told { path, offset },
        Some(other) => panic!("{}, bit {bit}: {other}", path.display()),
    }
}

#[test]
fn a_flipped_bit_in_a_segment_is_told_with_its_place_and_only_the_unproven_end_is_cut() {
    for is_closed in [false, true] {
        let moment = three_segments(is_closed);
        let (mut cuts, mut errors) = (0, 0);
        for number in 1..=3 {
            let path = segment_path(&run_file(""), number);
            let bytes = moment.after(Death::Process, 1).content(&path);
            // Where the frames end, all is zeros.
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 32;
            for byte in (usize::from(is_closed)..used.min(bytes.len())).step_by(3) {
                match flipped(&moment, &path, byte * 8 + (byte * 5 + byte / 8) % 8) {
                    Outcome::Harmless => {}
                    Outcome::Cut => {
                        assert!(number == 3 && !is_closed, "{}, byte {byte}", path.display());
                        cuts += 1;
                    }
                    Outcome::Told { path: told, offset } => {
                        // A damaged start record may show as the gap that it leaves.
                        let next = segment_path(&run_file(""), number + 1);
                        assert!(told == path || told == next, "{}", told.display());
                        assert!(told == next || offset <= byte as u64, "byte {byte}: {offset}");
                        errors += 1;
                    }
                }
            }
        }
        eprintln!("closed: {is_closed}: {errors} errors, {cuts} times the last record was cut");
        assert!(errors > 3 * cuts && errors > 2000, "{errors} {cuts}");
    }
}

#[test]
fn a_flipped_bit_in_what_is_known_of_a_run_is_told() {
    let path = run_file("run.json");
    for is_closed in [false, true] {
        let moment = three_segments(is_closed);
        let bits = moment.after(Death::Process, 1).content(&path).len() * 8;
        let mut errors = 0;
        for bit in 0..bits {
            match flipped(&moment, &path, bit) {
                Outcome::Harmless => {}
                Outcome::Cut => panic!("bit {bit}: a record is gone"),
                Outcome::Told { path: told, .. } => {
                    assert_eq!(told, path);
                    errors += 1;
                }
            }
        }
        // The others are in the name of the checksum, which an older version did not write.
        assert!(errors > bits * 9 / 10, "{errors} of {bits}");
    }
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_told() {
    let disk = FaultyDisk::new(3);
    disk.create_dir_all(Path::new("data")).unwrap();
    let open =
        |disk: FaultyDisk| EmbeddedStore::open(&EmbeddedConfig::default(), Path::new("data"), disk);
    let mut store = open(disk.clone()).unwrap();
    let record = Tally::Whole(Record::Usage(vec![event("acme", Some("k"), 9)]));
    let position = Position { segment: 1, offset: 100 };
    let _ = store.absorb(run(1), &[Entry { position, record }], Timestamp::UNIX_EPOCH);
    store.checkpoint(Timestamp::UNIX_EPOCH).unwrap();
    let path = Path::new("data/embedded/checkpoint.bin");
    for bit in 0..disk.content(path).len() * 8 {
        disk.flip_bit(path, bit);
        let error = open(disk.clone()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("checkpoint.bin"), "bit {bit}: {error}");
        disk.flip_bit(path, bit);
    }
    assert!(open(disk).is_ok());
}
