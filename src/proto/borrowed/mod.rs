//! The most frequent requests, read where their bytes lie: nothing is copied or allocated.
//!
//! Only what is plain is read. A message with a field that is not expected here, or with anything
//! wrong about it, is left to prost, which takes it or says what the matter is.

mod check;
mod quota;

pub use self::{
    check::PlainCheck,
    quota::{PlainLooks, PlainQuota},
};
use super::wire::Unread;

/// An enum's value, unless it is none that this version knows.
fn named<E: TryFrom<i32>>(number: u64) -> Result<E, Unread> {
    let number = i32::try_from(number).map_err(|_| Unread)?;
    E::try_from(number).map_err(|_| Unread)
}
