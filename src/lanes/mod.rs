//! Lanes: where threads count beside each other instead of in one place.
//!
//! A place that several cores write to travels from cache to cache at every write, which costs far
//! more than counting does. Each thread writes to a lane; who reads adds them up.

mod shares;

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

pub use self::shares::{Share, Shares};

/// Lanes for each core: threads that are busy at the same time rarely meet in one.
const LANES_PER_CORE: usize = 4;
/// Lanes at most; beyond it threads share them.
const LANES_MAX: usize = 16;

static LANES: LazyLock<usize> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, usize::from);
    (cores * LANES_PER_CORE).clamp(1, LANES_MAX)
});

thread_local! {
    static OWN: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % *LANES
    };
}

/// One value for each lane, none of them on the cache lines of another.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: Box<[Lane<T>]>,
}

/// Two cache lines, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane<T>(T);

impl<T: Default> Default for Lanes<T> {
    fn default() -> Self {
        Self::of(T::default)
    }
}

impl<T> Lanes<T> {
    /// Each as `make` makes it.
    pub fn of(mut make: impl FnMut() -> T) -> Self {
        Self { lanes: (0..*LANES).map(|_| Lane(make())).collect() }
    }

    /// That of this thread.
    #[inline]
    pub fn own(&self) -> &T {
        // A thread that is ending has no place of its own any more, and takes any.
        let own = OWN.try_with(|own| *own).unwrap_or_default();
        &self.lanes[own].0
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.lanes.iter().map(|Lane(lane)| lane)
    }
}
