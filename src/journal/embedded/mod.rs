//! The embedded store: what takes the ledger's place in a sidecar without Postgres.
//!
//! It takes in synced records in order, keeps what each counter's events amount to and which
//! idempotency keys were used for what, and writes that down as a checkpoint with the journal's
//! positions; segments before those may then be deleted. Opened again, it loads the checkpoint and
//! is given what follows in the journals. A repeat under a known key is not counted, and is undone
//! in the counters, exactly as the ledger does.
//!
//! Use, from one task (calls that block on the disk say so):
//!
//! 1. [`EmbeddedStore::open`]; for each leftover run: read from [`EmbeddedStore::mark`] to the end
//!    and [`EmbeddedStore::absorb`]; then one [`EmbeddedStore::checkpoint`]; then delete each run's
//!    directory and [`EmbeddedStore::close_run`], in this order: a directory that is found again
//!    must find its mark.
//! 2. [`EmbeddedStore::totals`] is what the counters begin with.
//! 3. For the live run: read, absorb; undo in the counters what [`Absorbed::undone`] says; when
//!    [`EmbeddedStore::is_checkpoint_due`], write one and release the journal up to
//!    [`EmbeddedStore::checkpointed`].

mod checkpoint;
mod config;
mod packed_total;
mod state;
mod store;
mod total;
mod totals;
mod used_keys;

#[cfg(test)]
mod tests;

pub use self::{config::EmbeddedConfig, state::Absorbed, store::EmbeddedStore, total::Total};
