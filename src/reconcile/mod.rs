//! Whether everything that is kept of usage says the same: the shared counters, the ledger's totals
//! and rollups, the raw events, the charges. Looks only, but for
//! `mending`.
//!
//! What is compared at one moment (a statement of the ledger, a charge) agrees or differs. The
//! shared counters and the ledger move by two ways, so a difference between them counts when it
//! stands still for longer than either way takes; until then it is *in flight*.

pub mod books;
pub mod charges;
pub mod compare;
pub mod difference;
pub mod journals;
pub mod mending;
pub mod shared;
pub mod trace;
