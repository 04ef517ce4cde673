//! Postgres: what was used, by whom, under which plan, and what it costs. All SQL of the house.
//!
//! Whatever changes more than one row goes through `Ledger::run_tx`, everything else through
//! `Ledger::query`; the metrics of both carry a name.
//! All connections act as `tollgate_service`, which owns nothing; what concerns one tenant is done in
//! a role that sees no other's rows (`Ledger::run_tx_of`, `Measured::of`).
//! Transactions take their locks in one order, so that they seldom wait in a circle: closings, which
//! also are recovery's, then run, keys, totals sorted by key, and the rows of `epochs` and of all other
//! `commit_sequences`.

pub mod alerts;
pub mod billable_usage;
pub mod catalogs;
mod cell_rows;
pub mod changes;
pub mod charges;
mod closing_audit;
pub mod config;
pub mod counter_books;
pub mod emergency;
pub mod epochs;
pub mod error;
pub mod feature_overrides;
pub mod floors;
pub mod flush;
pub mod folding;
pub mod grants;
pub mod job_runs;
mod make_partitions;
mod measured;
pub mod mend;
pub mod partition;
mod pool;
mod pool_plans;
mod pool_sizes;
pub mod pools;
pub mod quarantine;
pub mod reconcile;
pub mod retention;
pub mod rollovers;
pub mod run_books;
pub mod runs;
mod service_role;
mod stored_pool;
pub mod subscribers;
pub mod subscriptions;
mod tenant_scope;
pub mod tenants;
pub mod tokens;
pub mod trace;
mod tx;
pub mod usage;

pub use error::{LedgerError, Refusal, SchemaError};
pub use pool::Ledger;
pub use service_role::RoleError;
