//! What can happen in the simulated world.

use crate::{
    domain::ids::RunId,
    leases::message::{Answer, Call, CloseAnswer, CloseCall, Recall},
};

/// Which filling of Redis: server start, life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub server: u64,
    pub life: u64,
}

/// What can happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A request comes to a run.
    Arrive {
        run: RunId,
    },
    /// The journal has answered for units that were taken.
    Journalled {
        run: RunId,
        key: usize,
        amount: u64,
        event: u64,
    },
    /// The journal has refused units that count already.
    Refused {
        run: RunId,
        key: usize,
        amount: u64,
    },
    /// A reservation is settled with `used` units.
    Settle {
        run: RunId,
        key: usize,
        number: u64,
        used: u64,
    },
    CallArrives {
        to: Identity,
        call: Box<Call>,
        key: usize,
    },
    AnswerArrives {
        call: Box<Call>,
        key: usize,
        answer: Answer,
    },
    CallTimesOut {
        run: RunId,
        key: usize,
        sequence: u64,
    },
    CloseArrives {
        to: Identity,
        closing: usize,
        call: CloseCall,
        key: usize,
    },
    CloseAnswered {
        closing: usize,
        call: CloseCall,
        key: usize,
        answer: CloseAnswer,
    },
    Hint {
        run: RunId,
        key: usize,
        recall: Recall,
    },
    /// The driver's own time to look again.
    Wake {
        run: RunId,
        key: usize,
    },
    /// The run's timer: epoch, reports, plan, flush, settlement.
    Tick {
        run: RunId,
    },
    /// The closers' timer.
    CloseTick,
    /// A run dies.
    Kill,
    /// A run begins to stop.
    Stop,
    /// The process of a stopping run ends.
    End {
        run: RunId,
    },
    /// A run stands still for a while.
    Pause,
    /// A run's directory is copied while it lives, and another sidecar starts on the copy.
    Copy,
    /// An operator closes a run that is not dead.
    Operate,
    /// A run's wall clock is set.
    Jump,
    /// Redis loses data.
    Wipe,
    /// A key's retention is over.
    Expire {
        key: usize,
    },
    /// A limit or a schedule changes.
    Move,
}

impl Event {
    /// The run that it happens inside of: while it stands still, nothing does.
    pub(super) fn inside(&self) -> Option<RunId> {
        match self {
            Self::AnswerArrives { call, .. } => Some(call.run),
            Self::Arrive { run }
            | Self::Journalled { run, .. }
            | Self::Refused { run, .. }
            | Self::Settle { run, .. }
            | Self::CallTimesOut { run, .. }
            | Self::Hint { run, .. }
            | Self::Wake { run, .. }
            | Self::Tick { run }
            | Self::End { run } => Some(*run),
            _ => None,
        }
    }
}

macro_rules! seen {
    ($($name:ident,)*) => {
        /// What was seen, to know that a test tested something.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Seen {
            $(pub $name: u64,)*
        }

        impl Seen {
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

seen! {
    admitted,
    refused,
    timed_out,
    unavailable,
    past,
    kills,
    stops,
    pauses,
    copies,
    operated,
    outlawed,
    jumps,
    wipes,
    expired,
    inherited,
    keys,
    calls,
    events,
}
