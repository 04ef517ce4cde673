//! The mistakes that must be found.

/// A mistake that must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// A sidecar spends what it was lent however late it is.
    LapseIgnored,
    /// A call that was overtaken is heard.
    OvertakenHeard,
    /// Each change of the terms is a newer one, whoever knows it.
    OlderTermsHeard,
    /// An answer that was given up is used.
    LateAnswerUsed,
    /// The time of the shared state is that of whoever calls.
    CallersClock,
}
