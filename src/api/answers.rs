//! What one stream has been asked and has not answered yet.
//!
//! Deciding never waits for the caller to read: what is half decided holds what others wait for (an
//! idempotency key, units, a place among those that wait for a refill). What is decided waits for
//! its caller and holds nothing but itself.

use std::{collections::VecDeque, future::pending};

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::Status;

/// What [`Answers::step`] did.
#[derive(Debug)]
pub enum Step<T> {
    /// One more answer is decided; what was said of it.
    Decided(T),
    /// One more answer is on its way.
    Sent,
    /// Nobody listens any more.
    Left,
}

/// The answers that a stream owes. Whoever reads its requests bounds them by [`Answers::owed`].
pub struct Answers<U, A> {
    /// Being decided; each with what its owner wants to know once it is. A set of futures.
    pub undecided: U,
    /// Decided, and not taken by the caller yet.
    decided: VecDeque<A>,
    sender: mpsc::Sender<Result<A, Status>>,
}

impl<U, A, T> Answers<U, A>
where
    U: Stream<Item = (A, T)> + Unpin,
{
    /// Owes nothing yet.
    pub fn new(undecided: U, sender: mpsc::Sender<Result<A, Status>>) -> Self {
        Self { undecided, decided: VecDeque::new(), sender }
    }

    /// Owes an answer that is decided already.
    pub fn decided(&mut self, answer: A) {
        self.decided.push_back(answer);
    }

    /// How many are not sent yet.
    pub fn owed(&self) -> usize {
        // Sets of futures know their size exactly.
        self.undecided.size_hint().0 + self.decided.len()
    }

    /// Decides or sends the next one, whichever can be done first; waits for ever while nothing is
    /// owed. Dropped before it is done, it has done nothing.
    pub async fn step(&mut self) -> Step<T> {
        tokio::select! {
            Some((answer, told)) = self.undecided.next() => {
                self.decided.push_back(answer);
                Step::Decided(told)
            }
            place = self.sender.reserve(), if !self.decided.is_empty() => {
                let Ok(place) = place else { return Step::Left };
                // As many as there is room for now.
                let mut room = Some(place);
                while let Some(place) = room
                    && let Some(answer) = self.decided.pop_front()
                {
                    place.send(Ok(answer));
                    room = self.sender.try_reserve().ok();
                }
                Step::Sent
            }
            else => pending().await,
        }
    }

    /// Decides and sends all that is owed, and then says why the stream ends, if there is a reason.
    pub async fn finish(mut self, end: Result<(), Status>) {
        while self.owed() > 0 {
            if let Step::Left = self.step().await {
                return;
            }
        }
        if let Err(status) = end {
            // Nobody listens any more if this fails.
            let _ = self.sender.send(Err(status)).await;
        }
    }
}
