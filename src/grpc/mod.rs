//! The gRPC face: sockets and connections; the calls themselves are in `api::service`.
//!
//! `serve` owns the sockets, `connection` one connection, `call` one call. `handlers` says why calls
//! are handled inside their connection's task, and `heavy` which of them are not. `incoming` and
//! `outgoing` are what a call is for HTTP/2. `short` answers
//! most unary ones, `check_batch` those that ask much, `dispatch` has tonic answer the others. `rls`
//! speaks Envoy's rate limit protocol.

mod begun;
mod call;
mod check_batch;
pub mod config;
pub mod connection;
pub mod dispatch;
pub mod faces;
pub mod file_mode;
mod handlers;
pub mod health;
mod heavy;
mod incoming;
mod keep_alive;
pub mod listen;
mod outgoing;
mod preface;
pub mod rls;
pub mod room;
mod seldom;
pub mod serve;
mod short;

pub use call::{Answering, GrpcService};
pub use outgoing::Answer;
