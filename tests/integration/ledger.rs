//! The ledger on a real Postgres.

mod alerts;
mod concurrency;
mod epochs;
mod flush;
mod isolation;
mod operations;
mod pool_levels;
mod quarantine;
mod query_data;
mod retention;
mod runs;
mod schema;
mod service_role;
mod tenants;
mod usage;
mod world;
