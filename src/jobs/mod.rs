//! What the worker does, and when: one file per job, a runner, a schedule.

pub mod attempt;
pub mod cleanup;
pub mod config;
pub mod error;
pub mod job;
pub mod overages;
pub mod registry;
pub mod rollover;
pub mod runner;
pub mod schedule;
