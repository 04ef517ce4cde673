//! The format on disk.
//!
//! # Constraints
//!
//! - A record that was synced is found again, whole, or its damage is reported with file and
//!   offset; it is never skipped.
//! - A host crash may keep any part of what was not synced: later pages without earlier ones. Such
//!   a tail is cut. It is told apart from damage by the `synced` field: a frame whose `synced` lies
//!   beyond the bad place proves that the place had been on disk.
//! - Nothing is ever overwritten or written in two places; a run's files are never written again by
//!   another run. Frames of another run do not pass the checksum.
//! - Segments are preallocated, so that a write changes no file size and needs no block.
//!
//! # Layout
//!
//! ```text
//! <data_dir>/LOCK                            flock: one process per directory
//! <data_dir>/runs/<run>/run.json             see run_file.rs
//! <data_dir>/runs/<run>/00000001.seg         segments, numbered from 1 without gaps;
//! <data_dir>/runs/<run>/00000002.seg         the oldest are deleted once they are flushed
//! ```
//!
//! A segment is a header of 64 bytes, frames without gaps, zeros up to its end. Numbers are little
//! endian.
//!
//! ```text
//! header:   0  magic      8 bytes "TGJRNL\r\n"
//!           8  version    u32     1
//!          12  segment    u32     the number in the file's name
//!          16  run        16 bytes
//!          32  zeros      28 bytes
//!          60  checksum   u32     CRC32C of bytes 0..60
//!
//! frame:    0  magic      u32     0xfee1f00d; no valid UTF-8 contains these bytes
//!           4  length     u32     bytes of the body
//!           8  checksum   u32     CRC32C of run, then bytes 4..8, 12..24 and the body
//!          12  kind       u8      see frame.rs; then 3 zeros
//!          16  synced     u64     position (segment << 32 | offset) up to which the run's journal
//!                                 was on disk when the frame was made
//!          24  body               a message of tollgate.journal.v1; then zeros up to a multiple of 8
//! ```
//!
//! The first frame of each segment is a `Start` frame; its body is the offset (u64) at which the
//! segment before it ended, 0 for the first. It is written after all of the segment before was
//! synced, so that a segment with a `Start` frame proves that the one before is complete, and how
//! long it is. Where the last segment ends is found by reading it, once; from then on, and after a
//! clean stop, `run.json` says it.

use std::path::{Path, PathBuf};

use crate::domain::ids::RunId;

/// Bytes of a segment's header; the first frame's offset.
pub const HEADER_BYTES: u32 = 64;

const MAGIC: &[u8; 8] = b"TGJRNL\r\n";
const VERSION: u32 = 1;

/// Why a segment's header was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the segment's header is not whole")]
    Damaged,
    #[error("the segment has format {0}, this version reads format {VERSION}")]
    Version(u32),
    #[error("the segment's header names another run or segment")]
    Foreign,
}

/// The header of a run's segment.
pub fn encode_header(run: RunId, segment: u32) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[0..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&segment.to_le_bytes());
    header[16..32].copy_from_slice(run.0.as_bytes());
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Checks that `header` opens this run's segment.
pub fn check_header(header: &[u8], run: RunId, segment: u32) -> Result<(), HeaderError> {
    let header: &[u8; HEADER_BYTES as usize] =
        header.try_into().map_err(|_| HeaderError::Damaged)?;
    let u32_at = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if &header[..8] != MAGIC || u32_at(60) != crc32c::crc32c(&header[..60]) {
        return Err(HeaderError::Damaged);
    }
    if u32_at(8) != VERSION {
        return Err(HeaderError::Version(u32_at(8)));
    }
    if *header != encode_header(run, segment) {
        return Err(HeaderError::Foreign);
    }
    Ok(())
}

/// The file of a run's segment.
pub fn segment_path(run_dir: &Path, segment: u32) -> PathBuf {
    run_dir.join(format!("{segment:08}.seg"))
}

/// The number in a segment's file name.
pub fn segment_number(name: &str) -> Option<u32> {
    name.strip_suffix(".seg")?.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_header_of_another_version_run_or_segment_is_refused_for_its_reason() {
        let run = RunId(Uuid::from_u128(7));
        let header = encode_header(run, 3);
        assert_eq!(check_header(&header, run, 3), Ok(()));
        assert_eq!(check_header(&header, run, 4), Err(HeaderError::Foreign));
        assert_eq!(check_header(&header, RunId(Uuid::from_u128(8)), 3), Err(HeaderError::Foreign));
        assert_eq!(check_header(&header[..63], run, 3), Err(HeaderError::Damaged));
        for bit in 0..header.len() * 8 {
            let mut damaged = header;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check_header(&damaged, run, 3), Err(HeaderError::Damaged), "bit {bit}");
        }
        let mut newer = header;
        newer[8] = 2;
        let checksum = crc32c::crc32c(&newer[..60]);
        newer[60..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(check_header(&newer, run, 3), Err(HeaderError::Version(2)));
    }

    #[test]
    fn segments_sort_by_their_numbers() {
        let path = segment_path(Path::new("runs/x"), 12);
        assert_eq!(path, Path::new("runs/x/00000012.seg"));
        assert_eq!(segment_number("00000012.seg"), Some(12));
        assert_eq!(segment_number("123456789.seg"), Some(123_456_789));
        assert_eq!(segment_number("00000000.seg"), None);
        assert_eq!(segment_number("run.json"), None);
    }
}
