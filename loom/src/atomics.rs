//! Loom's atomics, with a switch that breaks them.

use std::cell::Cell;

use loom::sync::atomic;
pub use loom::sync::atomic::Ordering;

/// A mistake in the code that uses the atomics, made by the atomics in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A compare-and-swap is a load and a store.
    TornSwap,
    /// Nothing is ordered.
    AllRelaxed,
    /// The fences are left out.
    NoFence,
}

thread_local! {
    // Loom runs all threads of a model on the one that calls it.
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Makes the mistake in all models that this thread runs from now on.
pub fn plant(planted: Planted) {
    PLANTED.set(Some(planted));
}

fn is(planted: Planted) -> bool {
    PLANTED.get() == Some(planted)
}

fn or_relaxed(ordering: Ordering) -> Ordering {
    if is(Planted::AllRelaxed) { Ordering::Relaxed } else { ordering }
}

pub fn fence(ordering: Ordering) {
    if !is(Planted::NoFence) {
        atomic::fence(ordering);
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug, Default)]
        pub struct $name(atomic::$name);

        impl $name {
            pub fn load(&self, ordering: Ordering) -> $value {
                self.0.load(or_relaxed(ordering))
            }

            pub fn store(&self, value: $value, ordering: Ordering) {
                self.0.store(value, or_relaxed(ordering));
            }

            pub fn swap(&self, value: $value, ordering: Ordering) -> $value {
                self.0.swap(value, or_relaxed(ordering))
            }

            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                if is(Planted::TornSwap) {
                    let found = self.0.load(failure);
                    if found != current {
                        return Err(found);
                    }
                    self.0.store(new, success_of_store(success));
                    return Ok(found);
                }
                self.0.compare_exchange_weak(current, new, or_relaxed(success), or_relaxed(failure))
            }
        }
    };
}

fn success_of_store(ordering: Ordering) -> Ordering {
    match ordering {
        Ordering::AcqRel | Ordering::Acquire => Ordering::Release,
        other => other,
    }
}

atomic!(AtomicBool, bool);
atomic!(AtomicI64, i64);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

impl AtomicU32 {
    pub fn fetch_add(&self, value: u32, ordering: Ordering) -> u32 {
        self.0.fetch_add(value, or_relaxed(ordering))
    }

    pub fn fetch_sub(&self, value: u32, ordering: Ordering) -> u32 {
        self.0.fetch_sub(value, or_relaxed(ordering))
    }
}

impl AtomicU64 {
    pub fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
        self.0.fetch_add(value, or_relaxed(ordering))
    }
}
