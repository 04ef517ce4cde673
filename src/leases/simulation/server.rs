//! The model of a Redis server.

use std::collections::BTreeMap;

use super::event::Identity;
use crate::{
    domain::ids::RunId,
    leases::{key::KeyState, message::Ceiling},
};

#[derive(Default)]
pub(super) struct Redis {
    pub identity: Identity,
    pub keys: BTreeMap<usize, Option<KeyState>>,
    /// When keys that nobody uses any more are forgotten.
    pub expiries: BTreeMap<usize, u64>,
    /// When it last heard of a run, for the mistake that goes by it.
    pub heard: BTreeMap<(RunId, usize), u64>,
    /// Until when it is away.
    pub away_until: u64,
    /// An older state that it may come back with.
    pub snapshot: BTreeMap<usize, Option<KeyState>>,
    /// The newest ceiling that each key was told in an epoch.
    pub told: BTreeMap<(u64, usize), Ceiling>,
}
