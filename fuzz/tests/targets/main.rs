//! The fuzz targets. `make test` runs some inputs of each, `make fuzz` as many as one likes.
// A target fails by panicking.
#![allow(clippy::unwrap_used)]

mod catalog;
mod envoy;
mod frames;
mod grpc;
mod http1;
mod http2;
mod journal;
mod json;
mod sidecar;
mod values;

#[global_allocator]
static ALLOCATOR: tollgate_fuzz::memory::Counting = tollgate_fuzz::memory::Counting;
