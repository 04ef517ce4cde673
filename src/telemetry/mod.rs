//! What a process tells about itself: logs and metrics.

mod described;
mod histogram;
mod laned_counter;
pub mod logging;
pub mod metrics;
mod recorder;
