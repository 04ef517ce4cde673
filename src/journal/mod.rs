//! The write-ahead journal: what was acknowledged is on disk before the acknowledgement leaves.
//!
//! # Use
//!
//! ```no_run
//! # use tollgate::journal::{Journal, config::JournalConfig, disk::Disk,
//! #     position::Position, reader::ReadLimit, record::Record};
//! # use tollgate::domain::{ids::RunId, usage::Durability};
//! # async fn example(run: RunId, record: Record) -> anyhow::Result<()> {
//! let journal = Journal::open(JournalConfig::new("/var/lib/tollgate"), run, Disk)?;
//!
//! // Lease, then journal, then acknowledgement. Only an error that `is_certain` may be answered
//! // by giving the lease back; dropping the future changes nothing.
//! let pending = journal.enqueue(&record, Durability::Sync)?;
//! let position = pending.await?;
//!
//! // The flusher follows what is synced, in order and in bounded batches.
//! let mut synced = journal.synced();
//! let mut reader = journal.reader(Position::START);
//! synced.wait_for(|synced| *synced >= position).await?;
//! let entries = reader.read(ReadLimit { records_max: 1_000, bytes_max: 4 << 20 })?;
//! journal.release(reader.position())?;
//!
//! // What earlier runs left is read from where it was flushed to, and deleted when closed.
//! for run in journal.leftover_runs()? {
//!     let left = journal.recover(run)?;
//!     let entries = left.reader(Position::START).read(
//!         ReadLimit { records_max: 1_000, bytes_max: 4 << 20 })?;
//!     left.delete()?;
//! }
//! journal.close().await;
//! # Ok(()) }
//! ```
//!
//! # How
//!
//! `journal.rs` encodes a record on the caller's thread and pushes it into `intake.rs`, which gives
//! it its place. Who waits for a record writes it (`pending.rs`), with all that others have queued
//! meanwhile: one call for what a wake-up has brought, under `pen.rs`. `writer.rs` is a thread that
//! syncs, once for all that was written, and releases exactly those whom the sync covers; it begins
//! segments and writes what nobody waits for. `reader.rs` follows behind, `leftover.rs` finds where
//! the journal of a run that died ends. `segment.rs` describes the bytes on disk.
//!
//! Reading, releasing, opening and recovering block on the disk: call them where that is fine.

mod bell;
pub mod browse;
pub mod config;
pub mod convert;
#[cfg(test)]
mod crash_tests;
pub mod decode;
pub mod disk;
mod disk_use;
pub mod embedded;
pub mod encode;
pub mod error;
mod fatal;
#[cfg(test)]
pub(crate) mod faulty;
pub mod files;
pub mod frame;
#[cfg(test)]
mod histories;
mod intake;
#[allow(clippy::module_inception)] // The handle is the journal.
mod journal;
pub mod leftover;
mod metrics;
mod pen;
mod pending;
#[cfg(test)]
mod planted;
pub mod position;
pub mod reader;
pub mod record;
mod run_file;
#[cfg(test)]
pub(crate) mod samples;
pub mod segment;
pub mod shared;
pub mod tally;
mod writer;

pub use self::{journal::Journal, pending::Pending};
