//! The product's lock-free pieces, compiled with loom's atomics in place of std's, so that loom can
//! try every order of their steps and every value that a weak load may see.
//!
//! They are the product's own files: nothing is copied. What they import from `super::atomics` is
//! found in `atomics.rs` here, which can also be told to break one rule; the tests show that each
//! broken rule is noticed.

// Built as a test the included files would bring their own tests, which know nothing of loom.
#![cfg(not(test))]

pub mod atomics;

#[allow(dead_code)]
#[path = "../../src/leases/cell.rs"]
pub mod cell;
#[path = "../../src/leases/denials.rs"]
pub mod denials;
pub mod models;
#[allow(dead_code)]
#[path = "../../src/leases/onlookers.rs"]
pub mod onlookers;
#[path = "../../src/leases/seat.rs"]
pub mod seat;
