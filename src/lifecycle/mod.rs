//! How a process lives and ends: what it needs to be ready, the tasks that carry it, the signals
//! that end it.
//!
//! A process stops in the order of its task groups: close the intake, drain, flush, return what is
//! held, exit. Each group stops within a bound of its own.

pub mod open_files;
pub mod readiness;
pub mod signals;
pub mod tasks;
