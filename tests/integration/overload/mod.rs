//! More than a sidecar can serve, and clients that take without giving: real processes, whose
//! memory and whose other callers are looked at meanwhile. No time is asserted: a test says what
//! comes before what, and prints the figures.

mod flood;
mod idle;
mod served;
mod slow;
mod storm;
mod unread;
