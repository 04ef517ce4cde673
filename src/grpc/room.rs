//! Room for calls: how many there may be at a time, on all connections together.
//!
//! Health and reflection answer strangers too, and whoever asks for health decides over this
//! process. So they take no room of the product's calls, which would be taken from those who have
//! shown a token, and those who watch take none of those who check.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};

use super::{outgoing::Answer, seldom::Seldom};
use crate::api::{
    refusal::{OVERLOADED_RETRY, Refusal},
    status::status,
};

/// Streams of health and reflection that are open at a time: what watches a process are a few, and
/// each costs some kilobytes.
pub const OPEN_STREAMS_MAX: usize = 1_000;
/// Health checks that may wait for their message at a time; one that has it is always answered.
const HEALTH_CHECKS_MAX: usize = 1_000;

/// The call by which an orchestrator asks.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// What a call takes room of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The product's, and Envoy's; until its answer begins.
    Call,
    /// A single question about health; until it is answered.
    HealthCheck,
    /// Watching health, and reflection; until its answer ends.
    OpenStream,
}

impl Kind {
    /// Of a call's path.
    pub fn of(path: &str) -> Self {
        match path {
            HEALTH_CHECK => Self::HealthCheck,
            path if path.starts_with("/grpc.") => Self::OpenStream,
            _ => Self::Call,
        }
    }

    /// Whether it is of health or reflection, which take small messages only: nobody may occupy the
    /// memory for large ones who has not shown a token.
    pub fn is_open(self) -> bool {
        self != Self::Call
    }
}

/// Calls of one kind.
struct Bound {
    taken: AtomicUsize,
    max: usize,
}

impl Bound {
    fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max }
    }
}

/// All the room that there is.
pub struct Rooms {
    calls: Bound,
    health_checks: Bound,
    open_streams: Bound,
    /// Calls refused because there were too many.
    shed: metrics::Counter,
    told: Seldom,
}

impl Rooms {
    /// Room for `calls_max` calls, and for health and reflection beside them.
    pub fn new(calls_max: usize) -> Self {
        Self {
            calls: Bound::new(calls_max),
            health_checks: Bound::new(HEALTH_CHECKS_MAX),
            open_streams: Bound::new(OPEN_STREAMS_MAX),
            shed: metrics::counter!("tollgate_grpc_calls_shed_total"),
            told: Seldom::default(),
        }
    }

    fn of(&self, kind: Kind) -> &Bound {
        match kind {
            Kind::Call => &self.calls,
            Kind::HealthCheck => &self.health_checks,
            Kind::OpenStream => &self.open_streams,
        }
    }

    /// Whether one more call would be refused before it is begun. Only looks: all cores would write
    /// to one place, for calls that are answered before the next one.
    pub fn are_full(&self, kind: Kind) -> bool {
        let bound = self.of(kind);
        kind != Kind::HealthCheck && bound.taken.load(Ordering::Relaxed) >= bound.max
    }

    /// The answer to a call that is one too many.
    pub fn refuse(&self, kind: Kind) -> Answer {
        self.shed.increment(1);
        let bound = self.of(kind).max;
        if let Some(calls) = self.told.due(Instant::now()) {
            tracing::warn!(calls, ?kind, bound, "gRPC calls were refused: there are too many");
        }
        let told = match kind {
            Kind::Call => format!("{bound} calls (grpc.calls_max) wait for their answers"),
            Kind::HealthCheck => format!("{bound} health checks wait for their messages"),
            Kind::OpenStream => format!("{bound} streams of health and reflection are open"),
        };
        let refusal = Refusal {
            retry_after: Some(OVERLOADED_RETRY),
            ..Refusal::new(Code::ResourceExhausted, "OVERLOADED", told)
        };
        status(refusal).into()
    }

    /// Counts a call until the room is dropped.
    pub fn take(self: &Arc<Self>, kind: Kind) -> Room {
        let number = self.of(kind).taken.fetch_add(1, Ordering::Relaxed) + 1;
        Room { rooms: self.clone(), kind, number }
    }
}

/// The room that one call takes.
pub struct Room {
    rooms: Arc<Rooms>,
    kind: Kind,
    /// How many there were with it.
    number: usize,
}

impl Room {
    /// Whether the call is to be refused before it is begun.
    pub fn is_refused_at_once(&self) -> bool {
        self.kind != Kind::HealthCheck && self.is_beyond()
    }

    /// Whether the call is one too many, and must not wait for anything.
    pub fn is_beyond(&self) -> bool {
        self.number > self.rooms.of(self.kind).max
    }

    /// The answer to a call that is one too many.
    pub fn refuse(&self) -> Answer {
        self.rooms.refuse(self.kind)
    }

    /// `answer`, which keeps the room until it ends where it is a stream's.
    pub fn kept_by(self, answer: Answer) -> Answer {
        match answer {
            Answer::Response(response)
                if self.kind == Kind::OpenStream
                    && !response.headers().contains_key(Status::GRPC_STATUS) =>
            {
                let roomy = |body| Body::new(RoomyBody { body, _room: self });
                Answer::Response(response.map(roomy))
            }
            answer => answer,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.rooms.of(self.kind).taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer that takes room.
struct RoomyBody {
    body: Body,
    _room: Room,
}

impl hyper::body::Body for RoomyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_may_call_takes_room_of_its_own() {
        assert_eq!(Kind::of("/grpc.health.v1.Health/Check"), Kind::HealthCheck);
        assert_eq!(Kind::of("/grpc.health.v1.Health/Watch"), Kind::OpenStream);
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(Kind::of(reflection), Kind::OpenStream);
        assert_eq!(Kind::of("/tollgate.v1.TollgateService/Check"), Kind::Call);
    }
}
