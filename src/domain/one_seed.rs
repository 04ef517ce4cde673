//! A seed of hashes for all small maps.

use std::{hash::BuildHasher, sync::LazyLock};

use ahash::{AHasher, RandomState};

/// Drawn when it is first asked for, so that nobody can choose names whose hashes fall together.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Hashes by one seed in the whole process. A map with a seed of its own is 32 bytes larger: too much
/// for maps of which each tenant has several, most of them empty or with one entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneSeed;

impl BuildHasher for OneSeed {
    type Hasher = AHasher;

    fn build_hasher(&self) -> AHasher {
        SEED.build_hasher()
    }
}
