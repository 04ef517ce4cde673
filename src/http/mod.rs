//! The HTTP face: the calls as JSON for applications that do not speak gRPC, and `/livez`,
//! `/readyz`, `/metrics` for those who watch a process.
//!
//! A sidecar serves all of it, a worker only the latter.

mod body;
pub mod calls;
pub mod cloud_events;
pub mod config;
mod denial;
mod entries;
pub mod guard;
mod mirror;
mod ofrep;
mod openapi;
pub mod refused;
pub mod serve;
mod told;
mod unreadable;
mod watch;

pub use watch::router;
