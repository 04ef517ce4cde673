//! The mistakes that must be found.

/// A mistake that must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// What a denial is based on is read when the answer is there.
    LateBasis,
    /// Who came after a call was built is denied by its answer.
    LatecomersDenied,
    /// A new ceiling does not end what was remembered under the old one.
    CeilingUnnoticed,
    /// A driver that dies keeps its seat.
    SeatKept,
    /// A driver gives its seat up while its call is under way.
    SeatGivenUp,
}
