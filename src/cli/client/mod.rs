//! The commands that call a sidecar as an application server would.

mod answer;
pub mod check;
mod endpoint;
pub mod record;
mod refused;
pub mod release;
pub mod usage;
