//! `RecordUsageStream`: batches recorded beside each other, answered in order.

use futures::{
    FutureExt, Stream, StreamExt,
    future::{BoxFuture, ready},
    stream::FuturesOrdered,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    api::{
        refusal::Refusal,
        usage::{UsageBatch, record_response, usage_batch},
    },
    domain::{invalid::Invalid, usage::RecordReceipt},
    enforcement::error::EngineError,
    proto::v1::{
        RecordUsageStreamRequest, RecordUsageStreamResponse,
        record_usage_stream_response::Result as Answer,
    },
};

/// Batches of one stream that are read and not answered yet; then reading stops.
pub const BATCHES_UNANSWERED_MAX: usize = 64;
/// Events of one stream that are read and not answered yet; then reading stops, one batch later.
pub const EVENTS_UNANSWERED_MAX: usize = 200_000;

type Answered = Result<RecordUsageStreamResponse, Status>;

/// Records what `requests` brings with `record`, in a task of its own: decoding large batches must
/// not hold up the other calls of the connection.
pub fn record_stream<R, F>(
    requests: impl Stream<Item = Result<RecordUsageStreamRequest, Status>> + Send + Unpin + 'static,
    record: R,
    shutdown: CancellationToken,
) -> ReceiverStream<Answered>
where
    R: Fn(UsageBatch) -> F + Send + 'static,
    F: Future<Output = Result<RecordReceipt, EngineError>> + Send + 'static,
{
    let (answers, receiver) = mpsc::channel(1);
    let stream = RecordStream {
        requests,
        record,
        sequence: 0,
        events_unanswered: 0,
        unanswered: FuturesOrdered::new(),
        answers,
    };
    tokio::spawn(stream.run(shutdown));
    ReceiverStream::new(receiver)
}

struct RecordStream<S, R> {
    requests: S,
    record: R,
    /// Number of the last batch that was read.
    sequence: u64,
    events_unanswered: usize,
    /// The answers to come, each with the number of its events.
    unanswered: FuturesOrdered<BoxFuture<'static, (RecordUsageStreamResponse, usize)>>,
    answers: mpsc::Sender<Answered>,
}

impl<S, R, F> RecordStream<S, R>
where
    S: Stream<Item = Result<RecordUsageStreamRequest, Status>> + Send + Unpin,
    R: Fn(UsageBatch) -> F + Send,
    F: Future<Output = Result<RecordReceipt, EngineError>> + Send + 'static,
{
    async fn run(mut self, shutdown: CancellationToken) {
        let end = self.read_all(&shutdown).await;
        while let Some((answer, _)) = self.unanswered.next().await {
            if self.answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
        if let Err(status) = end {
            // Nobody listens any more if this fails.
            let _ = self.answers.send(Err(status)).await;
        }
    }

    /// Reads and answers until the caller has no more, or the stream has to end.
    async fn read_all(&mut self, shutdown: &CancellationToken) -> Result<(), Status> {
        loop {
            let has_room = self.unanswered.len() < BATCHES_UNANSWERED_MAX
                && self.events_unanswered < EVENTS_UNANSWERED_MAX;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    return Err(Refusal::from(EngineError::ShuttingDown).into());
                }
                Some((answer, events)) = self.unanswered.next() => {
                    self.events_unanswered -= events;
                    if self.answers.send(Ok(answer)).await.is_err() {
                        return Ok(());
                    }
                }
                request = self.requests.next(), if has_room => match request {
                    Some(request) => self.take(request?)?,
                    None => return Ok(()),
                },
            }
        }
    }

    fn take(&mut self, request: RecordUsageStreamRequest) -> Result<(), Status> {
        let sequence = request.sequence;
        if sequence <= self.sequence {
            return Err(Refusal::from(not_growing(sequence, self.sequence)).into());
        }
        self.sequence = sequence;
        let events = request.events.len();
        self.events_unanswered += events;
        let answer = move |result| RecordUsageStreamResponse { sequence, result: Some(result) };
        self.unanswered.push_back(match usage_batch(request.events, request.durability) {
            Ok(batch) => (self.record)(batch)
                .map(move |recorded| {
                    let result = match recorded {
                        Ok(receipt) => Answer::Receipt(record_response(receipt)),
                        Err(error) => Answer::Error(Refusal::from(error).call_error()),
                    };
                    (answer(result), events)
                })
                .boxed(),
            Err(problems) => {
                let result = Answer::Error(Refusal::from(problems).call_error());
                ready((answer(result), events)).boxed()
            }
        });
        Ok(())
    }
}

fn not_growing(sequence: u64, last: u64) -> Invalid {
    Invalid::new(
        "sequence",
        format!("{sequence} comes after {last}"),
        "number the batches of a stream upwards from 1",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::{Semaphore, oneshot};
    use tonic::Code;

    use super::*;
    use crate::proto::v1::UsageEvent;

    fn batch(sequence: u64, events: usize) -> Result<RecordUsageStreamRequest, Status> {
        let event = UsageEvent {
            tenant: "acme".into(),
            meter: "tokens".into(),
            amount: Some(1),
            ..Default::default()
        };
        Ok(RecordUsageStreamRequest { sequence, events: vec![event; events], durability: 0 })
    }

    async fn receipt(batch: UsageBatch) -> Result<RecordReceipt, EngineError> {
        Ok(RecordReceipt { accepted: batch.reports.len() as u64, duplicates: 0 })
    }

    fn brief(answer: Answered) -> Result<(u64, Result<i64, i32>), Code> {
        let answer = answer.map_err(|status| status.code())?;
        Ok((
            answer.sequence,
            match answer.result.unwrap() {
                Answer::Receipt(receipt) => Ok(receipt.accepted),
                Answer::Error(error) => Err(error.code),
            },
        ))
    }

    #[tokio::test]
    async fn a_refused_batch_is_answered_and_the_stream_goes_on() {
        let requests = futures::stream::iter([batch(1, 2), batch(4, 0), batch(5, 1)]);
        let answers = record_stream(requests, receipt, CancellationToken::new());
        let answers: Vec<_> = answers.map(brief).collect().await;
        assert_eq!(answers, [Ok((1, Ok(2))), Ok((4, Err(3))), Ok((5, Ok(1)))]);
    }

    #[tokio::test]
    async fn answers_keep_the_order_of_the_batches_whichever_is_recorded_first() {
        let (first, hold) = oneshot::channel::<()>();
        let hold = Arc::new(Mutex::new(Some(hold)));
        let record = move |batch| {
            // Only the first batch finds something to wait for.
            let hold = hold.lock().unwrap().take();
            async move {
                if let Some(hold) = hold {
                    let _ = hold.await;
                }
                receipt(batch).await
            }
        };
        let requests = futures::stream::iter([batch(1, 1), batch(2, 2)]);
        let mut answers = record_stream(requests, record, CancellationToken::new());
        assert!(answers.next().now_or_never().is_none());
        drop(first);
        assert_eq!(answers.next().await.map(brief), Some(Ok((1, Ok(1)))));
        assert_eq!(answers.next().await.map(brief), Some(Ok((2, Ok(2)))));
    }

    #[tokio::test]
    async fn a_number_that_does_not_grow_ends_the_stream_after_what_came_before() {
        let requests = futures::stream::iter([batch(2, 1), batch(2, 1), batch(3, 1)]);
        let answers = record_stream(requests, receipt, CancellationToken::new());
        let answers: Vec<_> = answers.map(brief).collect().await;
        assert_eq!(answers, [Ok((2, Ok(1))), Err(Code::InvalidArgument)]);
    }

    #[tokio::test]
    async fn reading_stops_while_too_many_batches_are_unanswered() {
        let read = Arc::new(Mutex::new(0));
        let counted = read.clone();
        let requests = futures::stream::iter(1..=1_000).map(move |sequence| {
            *counted.lock().unwrap() = sequence;
            batch(sequence, 1)
        });
        let permits = Arc::new(Semaphore::new(0));
        let allow = permits.clone();
        let record = move |batch| {
            let permits = permits.clone();
            async move {
                permits.acquire().await.unwrap().forget();
                receipt(batch).await
            }
        };
        let mut answers = record_stream(requests, record, CancellationToken::new());
        while *read.lock().unwrap() < BATCHES_UNANSWERED_MAX as u64 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*read.lock().unwrap(), BATCHES_UNANSWERED_MAX as u64);
        allow.add_permits(1_000);
        for sequence in 1..=1_000 {
            assert_eq!(answers.next().await.map(brief), Some(Ok((sequence, Ok(1)))));
        }
    }

    #[tokio::test]
    async fn shutdown_answers_what_was_read_and_says_so() {
        let shutdown = CancellationToken::new();
        let requests = futures::stream::iter([batch(1, 1)]).chain(futures::stream::pending());
        let mut answers = record_stream(requests, receipt, shutdown.clone());
        assert_eq!(answers.next().await.map(brief), Some(Ok((1, Ok(1)))));
        shutdown.cancel();
        assert_eq!(answers.next().await.map(brief), Some(Err(Code::Unavailable)));
        assert!(answers.next().await.is_none());
    }
}
