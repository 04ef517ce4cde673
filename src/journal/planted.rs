//! A switch, for tests alone: leaves out what the journal must not leave out, in this thread.

use std::cell::Cell;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A record is taken for whole whatever its checksum says.
    ChecksumUnchecked,
    /// Recovery takes for the end what only the kernel knows.
    EndNotSynced,
    /// Recovery looks for whole records behind a tear.
    TailNotCut,
}

thread_local! {
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Whether the rule is broken here.
pub fn is(planted: Planted) -> bool {
    PLANTED.get() == Some(planted)
}

/// Breaks a rule as long as it lives.
#[must_use]
pub struct Breaking(());

impl Breaking {
    pub fn rule(planted: Planted) -> Self {
        PLANTED.set(Some(planted));
        Self(())
    }
}

impl Drop for Breaking {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}
