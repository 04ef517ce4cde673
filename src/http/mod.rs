//! The HTTP face for those who watch a process: `/livez`, `/readyz`, `/metrics`.
//!
//! Sidecar and worker serve the same three. They hold no secrets and need no token, and listen on
//! loopback unless told otherwise.

pub mod config;
pub mod serve;
mod watch;

pub use watch::router;
