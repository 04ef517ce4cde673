//! What the worker does, and when: one file per job, a runner, a schedule.

pub mod error;
pub mod schedule;
