//! The catalog: meters, features, plans, prices and policies under one name.

pub mod allowances;
pub mod canonical;
pub mod compiled_catalog;
pub mod compiled_plan;
pub mod decimal;
pub mod definition;
pub mod diff;
pub mod discounts;
pub mod dunning;
pub mod envoy;
pub mod error;
pub mod features;
mod field_path;
pub mod file;
mod finding;
mod formats;
pub mod meters;
pub mod names;
mod node;
pub mod operations;
pub mod plan_definition;
pub mod plans;
pub mod policies;
pub mod prices;
pub mod quantity;
pub mod schema;
mod structure;
mod succession;
pub mod tenants;
mod validate;

#[cfg(test)]
mod broken;
#[cfg(test)]
mod shipped;

pub use file::Catalog;
