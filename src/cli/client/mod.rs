//! The commands that call a sidecar as an application server would.

pub mod address;
mod answer;
pub mod check;
mod endpoint;
pub mod record;
pub mod refused;
pub mod release;
pub mod usage;
mod usage_shown;
