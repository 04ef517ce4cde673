//! A way to local counters that a test decides on.

use std::fmt;

use futures::future::BoxFuture;

use super::error::StoreError;

/// A half of the way of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    There,
    Back,
}

type Going = BoxFuture<'static, Result<(), StoreError>>;

/// Takes its time, and may fail.
pub struct Way(Box<dyn Fn(Half) -> Going + Send + Sync>);

impl Way {
    /// A way that is `going`.
    pub fn new(going: impl Fn(Half) -> Going + Send + Sync + 'static) -> Self {
        Self(Box::new(going))
    }

    pub(super) async fn go(&self, half: Half) -> Result<(), StoreError> {
        self.0(half).await
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}
