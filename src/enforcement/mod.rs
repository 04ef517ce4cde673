//! What the sidecar decides: the engine.

pub mod config;
pub mod error;
pub mod holds;
pub mod repeats;
