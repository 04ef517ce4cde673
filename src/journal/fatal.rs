//! Why a journal stops for good.

use std::{io, sync::Arc};

/// A write or a sync failed, or whoever did it: what is on disk is not known any more.
#[derive(Clone)]
pub struct Fatal(pub Arc<str>);

/// What an error at `action` means.
pub fn fatal(action: &'static str) -> impl Fn(io::Error) -> Fatal {
    move |error| Fatal(format!("cannot {action}: {error}").into())
}
