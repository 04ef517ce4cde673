//! Redis: the shared counters. The only module that talks to it.
//!
//! [`counters::Counters`] carries the messages of `leases` to the keys: to the scripts in Redis,
//! or, in local mode, to the same state machines in this process.

mod browse;
pub mod config;
mod connection;
pub mod counters;
pub mod distinct;
mod encoding;
mod error;
#[cfg(test)]
pub mod far;
mod identify;
pub mod identity;
pub mod inspect;
pub mod keys;
mod local;
pub mod mend;
mod metrics;
mod numbered_runs;
mod packed_shelf;
mod rates;
mod recall;
mod redis_counters;
mod shelf;

pub use config::RedisConfig;
pub use error::StoreError;
pub use local::LocalCounters;
pub use redis_counters::RedisCounters;
