//! Mistakes that the simulation has to find: each breaks one rule of the protocol.

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// The key takes back what a run holds that it has not heard of for a while.
    EscrowFreedByTime,
    /// The key adds a run's totals to those it has instead of keeping the larger.
    TotalsAdded,
    /// A sidecar that starts again goes on under the id of the run that died.
    RunIdReused,
    /// The journal is deleted as far as Redis knows it, and not only as far as the ledger does.
    TrimmedBeforeMark,
    /// A run says that it returned what requests can still take.
    ReturnedBeforeClosed,
    /// A run keeps what it has unspent though another wants it.
    WantIgnored,
    /// The key takes over any ceiling, however old its version.
    OldCeilingAccepted,
    /// An absent key is taken for zero instead of being rebuilt from the ledger's floor.
    AbsentIsZero,
    /// In a new epoch the key grants before all runs have reported.
    GrantedBeforeReports,
    /// A reservation that was settled is given back all the same.
    ReservationReleasedTwice,
    /// One clock reading chooses the cell, and another stamps the event.
    LabelTakenTwice,
    /// What a torn journal may have hidden is returned instead of forfeited.
    WeakCrashReturned,
    /// As `WeakCrashReturned`, but only where the key has lost what the run held.
    UnknownHoldForgotten,
    /// What the run of a copied directory holds is returned though it may live.
    CopyReturned,
    /// A key that is absent does not remember that a run is fenced.
    FenceForgotten,
    /// Of two who close a run, each has the ledger count its journal.
    ClosedTwice,
    /// A key is forgotten when its window ends by the clock of who uses it last.
    ForgottenTooEarly,
    /// Nobody notices that the counters have lost data.
    LossUnnoticed,
    /// A call that was overtaken asks as if it were the latest.
    OvertakenAsks,
    /// The key listens to a run that was closed.
    ClosedRunHeard,
    /// A cell that was dropped begins again from nothing in the same run.
    TotalsForgotten,
    /// A closed run that the key has forgotten is taken for open.
    ClosedRunFounds,
    /// Who closes a run says that closings are folded everywhere which are not.
    FoldedTooEarly,
    /// Who inherits a dead run gives back what only its journal knows to be used.
    HeirKnowsFlushed,
    /// Who inherits a dead run takes for used what is in its journal, though the key has undone more.
    HeirForgetsRefused,
    /// A run that was closed tells a new epoch what it used, and nobody looks for that.
    ClosedRunReports,
    /// What a run may have spent is found out in one epoch, and counts though another has begun.
    ForfeitsOfEarlierEpoch,
    /// A run is closed without the usage that it had not flushed.
    SettlementLost,
}
