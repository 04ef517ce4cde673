//! Everything of Tollgate on one machine, on servers of its own.
//!
//! The private Postgres and Redis listen on Unix sockets in directories that only their owner can
//! enter. They need no ports and no passwords, never meet a server that the system runs, and end
//! with the process that started them, however that process ends.

mod account;
pub mod companion;
mod place;
pub mod postgres;
mod programs;
pub mod redis;
mod supervised;

pub use companion::Companion;
pub use postgres::Postgres;
pub use redis::Redis;
pub use supervised::Ended;
