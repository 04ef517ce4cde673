//! Frames: what is around a record's body on disk (laid out in `segment.rs`).

use super::position::Position;
use crate::domain::ids::RunId;

/// Bytes before a frame's body.
pub const FRAME_HEADER_BYTES: usize = 24;
/// Frames begin at multiples of this many bytes.
pub const FRAME_ALIGN: usize = 8;

/// `0d f0 e1 fe` on disk: 0xfe occurs in no UTF-8 text.
const MAGIC: u32 = 0xfee1_f00d;

/// What a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The segment's first frame: where the one before it ended.
    Start = 1,
    /// A `CellOpened` message.
    CellOpened = 16,
    /// A `Usage` message.
    Usage = 17,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Start, Self::CellOpened, Self::Usage].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What a run's frames share: the checksum begins with the run, so that no other run's pass.
#[derive(Clone, Copy, Debug)]
pub struct FrameSeed(u32);

impl FrameSeed {
    /// The seed of a run's frames.
    pub fn of(run: RunId) -> Self {
        Self(crc32c::crc32c(run.0.as_bytes()))
    }
}

/// Makes room for a frame's header at the end of `buffer`; the body is appended behind it.
pub fn begin(buffer: &mut Vec<u8>) -> usize {
    let start = buffer.len();
    buffer.resize(start + FRAME_HEADER_BYTES, 0);
    start
}

/// Fills in the header of the frame that begins at `start` and ends with the buffer, and pads it.
pub fn finish(buffer: &mut Vec<u8>, start: usize, kind: Kind, synced: Position, seed: FrameSeed) {
    // Bodies are bounded by `RECORD_BYTES_MAX`, far below 2^32.
    let length = (buffer.len() - start - FRAME_HEADER_BYTES) as u32;
    let frame = &mut buffer[start..];
    frame[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    frame[12] = kind as u8;
    frame[16..24].copy_from_slice(&u64::from(synced).to_le_bytes());
    let checksum = checksum(frame, seed);
    frame[8..12].copy_from_slice(&checksum.to_le_bytes());
    let padded = (buffer.len() - start).next_multiple_of(FRAME_ALIGN);
    buffer.resize(start + padded, 0);
}

fn checksum(frame: &[u8], seed: FrameSeed) -> u32 {
    let checksum = crc32c::crc32c_append(seed.0, &frame[4..8]);
    crc32c::crc32c_append(checksum, &frame[12..])
}

/// What was found at a place in a segment.
#[derive(Debug)]
pub enum Found<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// Nothing was written here: a header of zeros, or the segment's end.
    Nothing,
    /// The frame continues beyond the given bytes; this many are needed.
    Partial(usize),
    /// Something that is no frame.
    Bad(&'static str),
    /// A whole frame of a kind that only a later version knows.
    UnknownKind(u8),
}

/// A frame whose checksum holds.
#[derive(Debug)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub synced: Position,
    pub body: &'a [u8],
    /// Bytes of the whole frame with its padding.
    pub bytes: usize,
}

/// Bytes of the frame at the start of `bytes`, with its padding, as far as its header says so: nothing
/// is checked. `None` where no header begins.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
    let is_one = header[..4] == MAGIC.to_le_bytes();
    let body_bytes = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    is_one.then(|| (FRAME_HEADER_BYTES + body_bytes as usize).next_multiple_of(FRAME_ALIGN))
}

/// Looks for a frame at the start of `bytes`. `room` is how many bytes the segment has from there,
/// of which `bytes` may be only the first.
pub fn parse(bytes: &[u8], room: usize, seed: FrameSeed) -> Found<'_> {
    if room < FRAME_HEADER_BYTES {
        return if bytes.iter().all(|byte| *byte == 0) {
            Found::Nothing
        } else {
            Found::Bad("there are bytes in a gap that is too small for a record")
        };
    }
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Found::Partial(FRAME_HEADER_BYTES);
    };
    if *header == [0; FRAME_HEADER_BYTES] {
        return Found::Nothing;
    }
    let u32_at = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if u32_at(0) != MAGIC {
        return Found::Bad("no record begins here");
    }
    let length = FRAME_HEADER_BYTES + u32_at(4) as usize;
    let padded = length.next_multiple_of(FRAME_ALIGN);
    if padded > room {
        return Found::Bad("the record's length exceeds the segment");
    }
    if bytes.len() < padded {
        return Found::Partial(padded);
    }
    let is_whole = checksum(&bytes[..length], seed) == u32_at(8);
    #[cfg(test)]
    let is_whole = is_whole || super::planted::is(super::planted::Planted::ChecksumUnchecked);
    if !is_whole {
        return Found::Bad("the record's checksum does not match");
    }
    let Some(kind) = Kind::from_byte(header[12]) else {
        return Found::UnknownKind(header[12]);
    };
    let synced = u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32;
    Found::Frame(Frame {
        kind,
        synced: synced.into(),
        body: &bytes[FRAME_HEADER_BYTES..length],
        bytes: padded,
    })
}

/// Looks for whole frames anywhere in `bytes` (from a multiple of [`FRAME_ALIGN`]), and gives the
/// furthest position that one of them says was synced.
pub fn synced_according_to_later_frames(bytes: &[u8], seed: FrameSeed) -> Option<Position> {
    const STEP: usize = 4096;
    const ZEROS: [u8; STEP] = [0; STEP];
    let magic = MAGIC.to_le_bytes();
    // Most of a segment's rest is zeros, which are passed over by comparing whole steps.
    let steps = bytes.chunks(STEP).zip((0..).step_by(STEP));
    let written = steps.filter(|(step, _)| **step != ZEROS[..step.len()]);
    written
        .flat_map(|(step, at)| (at..at + step.len()).step_by(FRAME_ALIGN))
        .filter(|start| bytes[*start..].starts_with(&magic))
        .filter_map(|start| match parse(&bytes[start..], bytes.len() - start, seed) {
            Found::Frame(frame) => Some(frame.synced),
            _ => None,
        })
        .max()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn seed(run: u128) -> FrameSeed {
        FrameSeed::of(RunId(Uuid::from_u128(run)))
    }

    fn frame(body: &[u8], synced: Position, run: u128) -> Vec<u8> {
        let mut buffer = vec![];
        let start = begin(&mut buffer);
        buffer.extend_from_slice(body);
        finish(&mut buffer, start, Kind::Usage, synced, seed(run));
        buffer
    }

    proptest! {
        #[test]
        fn a_frame_reads_back_and_fills_whole_steps(
            body in prop::collection::vec(any::<u8>(), 0..200), segment: u32, offset: u32,
        ) {
            let synced = Position { segment, offset };
            let bytes = frame(&body, synced, 1);
            prop_assert_eq!(bytes.len() % FRAME_ALIGN, 0);
            prop_assert_eq!(length(&bytes), Some(bytes.len()));
            let Found::Frame(found) = parse(&bytes, bytes.len(), seed(1)) else {
                panic!("no frame")
            };
            prop_assert_eq!(found.body, &body[..]);
            prop_assert_eq!((found.kind, found.synced), (Kind::Usage, synced));
            prop_assert_eq!(found.bytes, bytes.len());
            // A part asks for the rest, and another run's frames do not pass.
            for part in [0, FRAME_HEADER_BYTES, bytes.len() - 1] {
                let found = parse(&bytes[..part], bytes.len(), seed(1));
                let asks_for_more = matches!(found, Found::Partial(more) if more > part);
                prop_assert!(asks_for_more || part == bytes.len(), "{part}: {found:?}");
            }
            prop_assert!(matches!(parse(&bytes, bytes.len(), seed(2)), Found::Bad(_)));
        }

        #[test]
        fn whatever_lies_there_is_told_and_never_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            begins_as_frame: bool,
            room in 0usize..400,
        ) {
            if begins_as_frame && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
            }
            let bytes = &bytes[..bytes.len().min(room)];
            prop_assert!(!matches!(parse(bytes, room, seed(1)), Found::Frame(_)));
            let _ = synced_according_to_later_frames(bytes, seed(1));
        }

        #[test]
        fn a_frame_behind_a_hole_tells_what_was_synced(
            hole in prop::collection::vec(any::<u8>(), 0..10), zeros in 0usize..2000, offset: u32,
        ) {
            let synced = Position { segment: 3, offset };
            let mut bytes: Vec<u8> = hole.repeat(FRAME_ALIGN);
            bytes.resize(bytes.len() + zeros * FRAME_ALIGN, 0);
            bytes.extend(frame(b"body", synced, 1));
            prop_assert_eq!(synced_according_to_later_frames(&bytes, seed(1)), Some(synced));
            prop_assert_eq!(synced_according_to_later_frames(&bytes, seed(2)), None);
        }
    }

    #[test]
    fn a_kind_that_only_a_later_version_knows_is_not_taken_for_damage() {
        let mut bytes = frame(b"body", Position::START, 1);
        bytes[12] = 99;
        let length = FRAME_HEADER_BYTES + 4;
        let checksum = checksum(&bytes[..length], seed(1)).to_le_bytes();
        bytes[8..12].copy_from_slice(&checksum);
        assert!(matches!(parse(&bytes, bytes.len(), seed(1)), Found::UnknownKind(99)));
    }
}
