//! What the faces share: from a message to the domain's types, and back from answers and errors.
//!
//! Requests are checked here for all that can be said without the catalog; every problem is told,
//! not only the first. Faces then only convert, call and answer.

pub mod catalogs;
pub mod fields;
pub mod quota;
pub mod refusal;
pub mod usage;
pub mod usage_status;
