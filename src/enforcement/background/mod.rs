//! What a sidecar does beside answering: each file is one task.

pub mod alerts;
pub mod changes;
pub mod cut_off;
pub mod distinct;
pub mod drift;
pub mod embedded;
pub mod epochs;
pub mod housekeeping;
mod inheritance;
pub mod leftovers;
pub mod own_epoch;
pub mod pools;
pub mod recalls;
pub mod registration;
