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
    /// A reservation ends, using `used` of `held`.
    Settled {
        run: RunId,
        key: usize,
        held: u64,
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
        call: CloseCall,
        key: usize,
    },
    CloseAnswered {
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
    /// Redis loses data.
    Wipe,
    /// A ceiling changes.
    Move,
}

/// What was seen, to know that a test tested something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub admitted: u64,
    pub refused: u64,
    pub timed_out: u64,
    pub unavailable: u64,
    pub kills: u64,
    pub stops: u64,
    pub wipes: u64,
    pub calls: u64,
    pub events: u64,
}

impl Seen {
    pub(super) fn add(&mut self, other: &Self) {
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.timed_out += other.timed_out;
        self.unavailable += other.unavailable;
        self.kills += other.kills;
        self.stops += other.stops;
        self.wipes += other.wipes;
        self.calls += other.calls;
        self.events += other.events;
    }
}
