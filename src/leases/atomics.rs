//! The atomics of the pieces that are also tried under loom, which puts its own in their place
//! (`loom/`).

pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering, fence};
