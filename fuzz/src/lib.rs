//! What fuzz targets stand on: inputs bred from real ones, what they may cost, and what became of
//! them.
//!
//! A target (`tests/targets`) names its corpus and says what has to hold for every input. Inputs are
//! the corpus itself and mutations of it: on stable Rust no engine sees what an input reaches, so
//! that inputs which begin as real ones get further than noise does. In a long run the answers stand
//! in for coverage: an input that is answered in a new way is bred from too.

pub mod corpus;
pub mod memory;
mod mutation;
pub mod panics;
mod target;

pub use target::{Answer, Target};
