//! Whether this run is over, by nobody's wish in this process, and why.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

/// Why a run may go on no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// It was closed elsewhere.
    Closed,
    /// The ledger has less of it than it had confirmed.
    LedgerLostData,
}

/// Comes down once, and stays.
#[derive(Default)]
pub struct Fence {
    down: CancellationToken,
    /// The first reason counts.
    why: OnceLock<Fenced>,
}

impl Fence {
    /// Ends the run.
    pub fn lower(&self, why: Fenced) {
        self.why.get_or_init(|| why);
        self.down.cancel();
    }

    /// Whether the run is over.
    pub fn is_down(&self) -> bool {
        // The token would be asked under a lock, by every request.
        self.why.get().is_some()
    }

    /// Resolves when the run is over.
    pub async fn lowered(&self) -> Fenced {
        self.down.cancelled().await;
        // It is set before the token is cancelled.
        self.why.get().copied().unwrap_or(Fenced::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_is_the_one_that_counts() {
        let fence = Fence::default();
        assert!(!fence.is_down());
        fence.lower(Fenced::LedgerLostData);
        fence.lower(Fenced::Closed);
        assert!(fence.is_down());
        assert_eq!(fence.lowered().await, Fenced::LedgerLostData);
    }
}
