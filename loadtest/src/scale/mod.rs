//! What one sidecar is measured at by itself: many tenants, and its start.

mod finding;
mod gauge;
mod growth;
mod memory;
mod populated;
mod start;
mod touch;

use std::path::PathBuf;

pub use self::finding::{Finding, table};
use crate::server::Sidecar;

/// How much of it is measured.
pub struct Scale {
    /// The sidecar, as it is measured beside other servers.
    pub sidecar: Sidecar,
    /// The catalog of many meters, for memory.
    pub many_meters: PathBuf,
    /// Where servers keep their files; a directory for such things unless given.
    pub directory: Option<PathBuf>,
    pub rounds: usize,
    /// Seconds of measuring for each load and round.
    pub seconds: f64,
    /// A hundredth of the tenants, to see whether all of it works.
    pub is_quick: bool,
}

impl Scale {
    /// So many of what `all` stands for.
    fn count(&self, all: usize) -> usize {
        if self.is_quick { all / 100 } else { all }
    }

    fn scratch(&self) -> std::io::Result<tempfile::TempDir> {
        match &self.directory {
            Some(parent) => tempfile::tempdir_in(parent),
            None => tempfile::tempdir(),
        }
    }
}

/// Measures what `wants` says by name.
pub fn measure(scale: &Scale, wants: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Finding>> {
    let mut findings = vec![];
    for (name, part) in PARTS {
        if wants(name) {
            eprintln!("{name}");
            findings.extend(part(scale)?);
        }
    }
    Ok(findings)
}

type Part = fn(&Scale) -> anyhow::Result<Vec<Finding>>;

const PARTS: [(&str, Part); 3] =
    [("Start", start::measure), ("Memory", memory::measure), ("Growth", growth::measure)];
