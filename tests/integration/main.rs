//! The integration tests: one binary, so that they share one private Postgres. One file per theme.
// A test fails by panicking, in its fixture too.
#![allow(clippy::unwrap_used)]

mod fixture;

mod assistant;
mod bad_inputs;
mod catalog_cli;
mod cleanup_job;
mod client_cli;
mod dev_command;
mod directory;
mod distinct_script;
mod grpc_serving;
mod job_runner;
mod k6_smoke;
mod lease_scripts;
mod ledger;
mod overages;
mod overload;
mod private_servers;
mod rate_script;
mod secrets;
mod shared_counters;
mod sidecars;
mod tenant_cli;
mod torture;
mod worker;
