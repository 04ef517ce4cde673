//! `CheckStream`: checks decided beside each other, answered by their id as they are decided.

use std::pin::pin;

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    answers::{Answers, Step},
    any_check::{any_check, any_result},
    refusal::Refusal,
};
use crate::{
    domain::any_check::{AnyAnswer, AnyCheck},
    enforcement::error::EngineError,
    proto::v1::{self, AnyCheckResult, CheckStreamRequest, CheckStreamResponse},
};

/// Checks of one stream that are read and whose answers are not sent yet; then reading stops.
pub const CHECKS_UNANSWERED_MAX: usize = 256;

/// Answers that wait to be written beside each other: one write takes them all.
const ANSWERS_READY_MAX: usize = 64;

type Answered = Result<CheckStreamResponse, Status>;

/// Answers what `requests` brings, in a task of its own: with `look` what it answers at once, all
/// else with `check`.
pub fn check_stream<L, C, F>(
    requests: impl Stream<Item = Result<CheckStreamRequest, Status>> + Send + Unpin + 'static,
    look: L,
    check: C,
    shutdown: CancellationToken,
) -> ReceiverStream<Answered>
where
    L: Fn(&v1::AnyCheck) -> Option<AnyCheckResult> + Send + 'static,
    C: Fn(AnyCheck) -> F + Send + 'static,
    F: Future<Output = Result<AnyAnswer, EngineError>> + Send + 'static,
{
    let (answers, receiver) = mpsc::channel(ANSWERS_READY_MAX);
    let answers = Answers::new(FuturesUnordered::new(), answers);
    let stream = CheckStream { requests, look, check, answers };
    // A token of its own: every look at one takes its lock.
    tokio::spawn(stream.run(shutdown.child_token()));
    ReceiverStream::new(receiver)
}

struct CheckStream<S, L, C> {
    requests: S,
    look: L,
    check: C,
    answers: Answers<
        FuturesUnordered<BoxFuture<'static, (CheckStreamResponse, ())>>,
        CheckStreamResponse,
    >,
}

impl<S, L, C, F> CheckStream<S, L, C>
where
    S: Stream<Item = Result<CheckStreamRequest, Status>> + Send + Unpin,
    L: Fn(&v1::AnyCheck) -> Option<AnyCheckResult> + Send,
    C: Fn(AnyCheck) -> F + Send,
    F: Future<Output = Result<AnyAnswer, EngineError>> + Send + 'static,
{
    async fn run(mut self, shutdown: CancellationToken) {
        let end = self.read_all(&shutdown).await;
        self.answers.finish(end).await;
    }

    /// Until the caller has sent all, or the stream has to end.
    async fn read_all(&mut self, shutdown: &CancellationToken) -> Result<(), Status> {
        let mut stopping = pin!(shutdown.cancelled());
        loop {
            let has_room = self.answers.owed() < CHECKS_UNANSWERED_MAX;
            tokio::select! {
                biased;
                () = &mut stopping => {
                    return Err(Refusal::from(EngineError::ShuttingDown).into());
                }
                // Before any answer is sent: those to what came together leave together.
                request = self.requests.next(), if has_room => match request {
                    Some(request) => self.take(request?),
                    None => return Ok(()),
                },
                step = self.answers.step() => match step {
                    Step::Decided(()) | Step::Sent => {}
                    Step::Left => return Ok(()),
                },
            }
        }
    }

    fn take(&mut self, request: CheckStreamRequest) {
        let CheckStreamRequest { id, check } = request;
        let check = check.unwrap_or_default();
        if let Some(result) = (self.look)(&check) {
            return self.answers.decided(CheckStreamResponse { id, result: Some(result) });
        }
        let answer = move |result| CheckStreamResponse { id, result: Some(any_result(result)) };
        let mut deciding = match any_check(check) {
            Ok(check) => (self.check)(check).boxed(),
            Err(problems) => {
                let error = EngineError::InvalidRequest(problems);
                return self.answers.decided(answer(Err(error)));
            }
        };
        // Most need not wait for anything.
        match (&mut deciding).now_or_never() {
            Some(result) => self.answers.decided(answer(result)),
            None => self.answers.undecided.push(Box::pin(async move {
                // What it waits for may be a write that checks of other streams can share.
                tokio::task::yield_now().await;
                (answer(deciding.await), ())
            })),
        }
    }
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

    use tokio::sync::Semaphore;

    use super::*;
    use crate::proto::v1::{
        AnyCheck as WireCheck, CheckFeatureRequest, any_check::Check,
        any_check_result::Result as Answer,
    };

    fn request(id: u64, feature: &str) -> Result<CheckStreamRequest, Status> {
        let asked = CheckFeatureRequest {
            tenant: "acme".into(),
            feature: feature.into(),
            ..Default::default()
        };
        let check = Some(WireCheck { check: Some(Check::Feature(asked)) });
        Ok(CheckStreamRequest { id, check })
    }

    fn brief(answer: Answered) -> (u64, i32) {
        let answer = answer.unwrap();
        match answer.result.unwrap().result.unwrap() {
            Answer::Error(error) => (answer.id, error.code),
            other => panic!("{other:?}"),
        }
    }

    /// Every check fails as unavailable, which needs no engine.
    async fn unavailable() -> Result<AnyAnswer, EngineError> {
        Err(EngineError::Unavailable("test".into()))
    }

    #[tokio::test]
    async fn every_check_is_answered_by_its_id_and_a_bad_one_ends_nothing() {
        let requests =
            futures::stream::iter([request(9, "a"), request(2, "Not a name"), request(2, "b")]);
        let answers = check_stream(requests, |_| None, |_| unavailable(), CancellationToken::new());
        let mut answers: Vec<_> = answers.map(brief).collect().await;
        answers.sort_unstable();
        assert_eq!(answers, [(2, 3), (2, 14), (9, 14)]);
    }

    #[tokio::test]
    async fn reading_stops_while_too_many_checks_are_unanswered() {
        let read = Arc::new(Mutex::new(0));
        let counted = read.clone();
        let requests = futures::stream::iter(1..=1_000).map(move |id| {
            *counted.lock().unwrap() = id;
            request(id, "a")
        });
        let permits = Arc::new(Semaphore::new(0));
        let allow = permits.clone();
        let check = move |_| {
            let permits = permits.clone();
            async move {
                permits.acquire().await.unwrap().forget();
                unavailable().await
            }
        };
        let answers = check_stream(requests, |_| None, check, CancellationToken::new());
        while *read.lock().unwrap() < CHECKS_UNANSWERED_MAX as u64 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*read.lock().unwrap(), CHECKS_UNANSWERED_MAX as u64);
        allow.add_permits(1_000);
        assert_eq!(answers.count().await, 1_000);
    }

    /// Decides `sent` checks for a caller that reads none of the answers.
    async fn decide_for_one_who_does_not_read(sent: u64) {
        let decided = Arc::new(AtomicUsize::new(0));
        let counted = decided.clone();
        let check = move |_| {
            let counted = counted.clone();
            async move {
                tokio::task::yield_now().await;
                counted.fetch_add(1, Ordering::Relaxed);
                unavailable().await
            }
        };
        let requests = futures::stream::iter(1..=sent).map(|id| request(id, "a"));
        let answers = check_stream(requests, |_| None, check, CancellationToken::new());
        let read = usize::try_from(sent).unwrap().min(CHECKS_UNANSWERED_MAX);
        let all_decided = async {
            while decided.load(Ordering::Relaxed) < read {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_decided)
            .await
            .unwrap_or_else(|_| panic!("{decided:?} of {read} were decided"));
        assert_eq!(answers.count().await as u64, sent, "none of them is lost");
    }

    #[tokio::test]
    async fn checks_are_decided_whether_or_not_the_answers_are_read() {
        decide_for_one_who_does_not_read(1_000).await;
    }

    #[tokio::test]
    async fn the_last_checks_of_a_stream_are_decided_whether_or_not_the_answers_are_read() {
        decide_for_one_who_does_not_read(100).await;
    }

    #[tokio::test]
    async fn shutdown_ends_the_stream_and_says_so() {
        let shutdown = CancellationToken::new();
        let requests = futures::stream::iter([request(1, "a")]).chain(futures::stream::pending());
        let mut answers = check_stream(requests, |_| None, |_| unavailable(), shutdown.clone());
        assert_eq!(answers.next().await.map(brief), Some((1, 14)));
        shutdown.cancel();
        let end = answers.next().await.unwrap().unwrap_err();
        assert_eq!(end.code(), tonic::Code::Unavailable);
        assert!(answers.next().await.is_none());
    }
}
