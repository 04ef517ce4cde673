//! What this sidecar has already answered, by idempotency key.
//!
//! A repeat that is known here gets its first answer and touches no counter. One that is not known
//! (another sidecar answered it, it was long ago, this is a new run) is taken as new and found by
//! the ledger, which gives it back to the counters; so this index saves work and over-counting in
//! between, and exactness never depends on it. Therefore it may forget: it holds two generations,
//! and when the young one is full the old one is dropped.

mod content;
mod generation;
mod index;
mod patience;

#[cfg(test)]
mod tests;

pub use self::{
    content::{Asked, Content, ContentRef, FirstAnswer, Name, Remembered, Verb},
    index::{Begun, Claim, KeyHash, Repeats},
    patience::{Patience, StillInHand},
};
