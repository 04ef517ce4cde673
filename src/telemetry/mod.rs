//! What a process tells about itself: logs and metrics.

mod described;
pub mod logging;
pub mod metrics;
