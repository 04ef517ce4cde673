//! `RecordUsageStream`: batches recorded beside each other, answered in order.

use std::pin::pin;

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
        answers::{Answers, Step},
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

/// Batches of one stream that are read and whose answers are not sent yet; then reading stops.
pub const BATCHES_UNANSWERED_MAX: usize = 64;
/// Events of one stream that are read and not recorded yet; then reading stops, one batch later.
pub const EVENTS_UNDECIDED_MAX: usize = 200_000;

type Answered = Result<RecordUsageStreamResponse, Status>;
/// An answer and the number of events that it is to.
type Decided = (RecordUsageStreamResponse, usize);

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
        events_undecided: 0,
        answers: Answers::new(FuturesOrdered::new(), answers),
    };
    // A token of its own: every look at one takes its lock.
    tokio::spawn(stream.run(shutdown.child_token()));
    ReceiverStream::new(receiver)
}

struct RecordStream<S, R> {
    requests: S,
    record: R,
    /// Number of the last batch that was read.
    sequence: u64,
    /// Events of batches that are not recorded or refused yet.
    events_undecided: usize,
    /// Each with the number of its events.
    answers: Answers<FuturesOrdered<BoxFuture<'static, Decided>>, RecordUsageStreamResponse>,
}

impl<S, R, F> RecordStream<S, R>
where
    S: Stream<Item = Result<RecordUsageStreamRequest, Status>> + Send + Unpin,
    R: Fn(UsageBatch) -> F + Send,
    F: Future<Output = Result<RecordReceipt, EngineError>> + Send + 'static,
{
    async fn run(mut self, shutdown: CancellationToken) {
        let end = self.read_all(&shutdown).await;
        self.answers.finish(end).await;
    }

    /// Reads and answers until the caller has no more, or the stream has to end.
    async fn read_all(&mut self, shutdown: &CancellationToken) -> Result<(), Status> {
        let mut stopping = pin!(shutdown.cancelled());
        loop {
            let has_room = self.answers.owed() < BATCHES_UNANSWERED_MAX
                && self.events_undecided < EVENTS_UNDECIDED_MAX;
            tokio::select! {
                biased;
                () = &mut stopping => {
                    return Err(Refusal::from(EngineError::ShuttingDown).into());
                }
                step = self.answers.step() => match step {
                    Step::Decided(events) => self.events_undecided -= events,
                    Step::Sent => {}
                    Step::Left => return Ok(()),
                },
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
        self.events_undecided += events;
        let answer = move |result| RecordUsageStreamResponse { sequence, result: Some(result) };
        self.answers.undecided.push_back(match usage_batch(request.events, request.durability) {
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
    use std::{
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

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
        Ok(RecordReceipt { accepted: batch.reports.len() as u64, ..RecordReceipt::default() })
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

    /// Records `sent` batches for a caller that reads none of the answers.
    async fn record_for_one_who_does_not_read(sent: u64) {
        let recorded = Arc::new(AtomicUsize::new(0));
        let counted = recorded.clone();
        let begun = AtomicUsize::new(0);
        let record = move |batch| {
            let counted = counted.clone();
            // Each takes longer than those before it: all end after the first answer is sent.
            let turns = begun.fetch_add(1, Ordering::Relaxed) * 5;
            async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                counted.fetch_add(1, Ordering::Relaxed);
                receipt(batch).await
            }
        };
        let requests = futures::stream::iter(1..=sent).map(|sequence| batch(sequence, 1));
        let answers = record_stream(requests, record, CancellationToken::new());
        let read = usize::try_from(sent).unwrap().min(BATCHES_UNANSWERED_MAX);
        let all_recorded = async {
            while recorded.load(Ordering::Relaxed) < read {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_recorded)
            .await
            .unwrap_or_else(|_| panic!("{recorded:?} of {read} were recorded"));
        let sequences: Vec<_> = answers.map(|answer| answer.unwrap().sequence).collect().await;
        assert_eq!(sequences, (1..=sent).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn batches_are_recorded_whether_or_not_the_answers_are_read() {
        record_for_one_who_does_not_read(500).await;
    }

    #[tokio::test]
    async fn the_last_batches_of_a_stream_are_recorded_whether_or_not_the_answers_are_read() {
        record_for_one_who_does_not_read(40).await;
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
