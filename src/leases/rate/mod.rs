//! Rates as pure machines: no IO, no clock, no async.
//!
//! - [`cell::RateCell`], one window of a rate in one process, on one atomic.
//! - [`stack::RateStack`], several of them: all must have room.

pub mod cell;
pub mod stack;
