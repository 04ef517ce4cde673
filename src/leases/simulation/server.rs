//! The model of a Redis server.

use std::collections::BTreeMap;

use super::event::Identity;
use crate::leases::{key::KeyState, message::Ceiling};

#[derive(Default)]
pub(super) struct Redis {
    pub identity: Identity,
    pub keys: BTreeMap<usize, Option<KeyState>>,
    /// Until when it is away.
    pub away_until: u64,
    /// An older state that it may come back with.
    pub snapshot: BTreeMap<usize, Option<KeyState>>,
    /// The newest ceiling that each key was told in an epoch.
    pub told: BTreeMap<(u64, usize), Ceiling>,
}
