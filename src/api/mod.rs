//! What the faces share: from a message to the domain's types, and back from answers and errors.
//!
//! Requests are checked here for all that can be said without the catalog; every problem is told,
//! not only the first. `service` answers the calls, whichever face they came through.

pub mod accept;
pub mod access;
pub mod answer_fields;
mod answers;
pub mod any_check;
pub mod at_once;
pub mod catalogs;
pub mod check_stream;
pub mod emergency;
pub mod feature;
pub mod fields;
pub mod limits;
pub mod operation;
pub mod quota;
pub mod rate;
pub mod record_stream;
pub mod refusal;
pub mod remedy;
pub mod service;
pub mod status;
pub mod tls;
pub mod usage;
pub mod usage_status;
mod watch_stream;
