//! What the sidecar decides: the engine.

mod admission;
mod answer;
mod asked;
pub mod background;
pub mod closing;
pub mod config;
pub mod counter;
pub mod directory;
pub mod embedded;
pub mod engine;
pub mod error;
pub mod floors;
pub mod flusher;
mod holds;
mod labelling;
pub mod leasing;
mod look;
mod metrics;
mod quota;
mod recording;
mod repeats;
mod reserve;
pub mod retention;
mod settling;
mod status;
mod taken;
pub mod values;
