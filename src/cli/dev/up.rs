//! What is running.

use std::path::PathBuf;

use super::{addresses::Addresses, stores::Stores};
use crate::dev::Companion;

/// Everything that was started.
pub(super) struct Up {
    pub(super) dir: PathBuf,
    pub(super) addresses: Addresses,
    /// In the order that they stop: before the stores that they need.
    pub(super) companions: Vec<Companion>,
    pub(super) stores: Stores,
    /// What was replayed of recorded usage, in words.
    pub(super) replayed: Option<String>,
}
