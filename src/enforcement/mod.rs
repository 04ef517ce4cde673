//! What the sidecar decides: the engine.

pub mod error;
