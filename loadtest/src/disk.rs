//! What the disk itself takes.

use std::{
    io::{Seek, Write},
    path::Path,
    time::Instant,
};

use crate::document::median;

/// Syncs that are measured.
const SYNCS: usize = 300;
/// Bytes that each of them finds written.
const BYTES: usize = 4 << 10;

/// What it takes the disk of `directory`, or of temporary files, to write and sync a few KiB where there
/// is room already: the median of some hundreds, in microseconds.
pub fn median_sync_us(directory: Option<&Path>) -> anyhow::Result<f64> {
    let mut file = match directory {
        Some(directory) => tempfile::tempfile_in(directory)?,
        None => tempfile::tempfile()?,
    };
    // As the journal does: a block that was written before needs nothing of the file system's own.
    file.write_all(&[0; SYNCS * BYTES])?;
    file.sync_all()?;
    file.rewind()?;
    let mut took_us = vec![];
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[1; BYTES])?;
        file.sync_data()?;
        took_us.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(took_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_takes_some_time() {
        assert!(median_sync_us(None).unwrap() > 0.0);
    }
}
