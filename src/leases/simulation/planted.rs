//! Mistakes that the simulation has to find: each breaks one rule of the protocol.

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// The key adds a run's totals to those it has instead of keeping the larger.
    TotalsAdded,
    /// An absent key is taken for zero instead of being rebuilt from the ledger's floor.
    AbsentIsZero,
    /// In a new epoch the key grants before all runs have reported.
    GrantedBeforeReports,
    /// Nobody notices that the counters have lost data.
    LossUnnoticed,
    /// A run keeps what it has unspent though another wants it.
    WantIgnored,
    /// The key takes over any ceiling, however old its version.
    OldCeilingAccepted,
    /// A run says that it returned what requests can still take.
    ReturnedBeforeClosed,
    /// A call that was overtaken asks as if it were the latest.
    OvertakenAsks,
    /// The key listens to a run that was closed.
    ClosedRunHeard,
    /// A cell that was dropped begins again from nothing in the same run.
    TotalsForgotten,
    /// A run is closed without the usage that it had not flushed.
    SettlementLost,
    /// What a torn journal may have hidden is returned instead of forfeited.
    ForfeitForgotten,
    /// As `ForfeitForgotten`, but only where the key has lost what the run held.
    UnknownHoldForgotten,
}
