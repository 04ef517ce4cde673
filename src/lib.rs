//! Tollgate answers quota checks from local memory without ever going over a hard limit, records
//! usage so that nothing acknowledged is lost or billed twice, and turns it into bills.
//!
//! Modules in reading order; imports only ever go up this list (`tests/tidy` holds that).

// L0: types and rules, no IO, no async.
pub mod clock;
pub mod domain;
pub mod lanes;
pub mod proto;

// L1: pure machines, the journal on disk, and how tasks live and end.
pub mod journal;
pub mod leases;
pub mod lifecycle;
pub mod pricing;

// L2: the two stores.
pub mod ledger;
pub mod store;

// L3: what the sidecar decides, and what the worker does.
pub mod enforcement;
pub mod jobs;

// L4: what the faces share, and whether all that is kept says the same.
pub mod api;
pub mod reconcile;

// L5: faces.
pub mod grpc;
pub mod http;

// L6: what the commands stand on.
pub mod dev;
pub mod telemetry;

// L7: the settings of every part.
pub mod config;

// L8: the commands, which wire parts together.
pub mod cli;
