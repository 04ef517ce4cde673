//! What a process tells about itself: logs and metrics.

pub mod logging;
pub mod metrics;
