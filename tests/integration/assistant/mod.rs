//! The *assistant* catalog, plan by plan, through every door that there is.

mod door;
mod matrix;
mod operations;
mod providers;
mod sidecar;
