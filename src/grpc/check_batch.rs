//! `CheckBatch`, of which the plain looks are answered from the message's bytes.
//!
//! A look that cannot be answered at once, because it is denied or its counter has to be asked after,
//! is answered by the service's own method; from the first check on that is anything else, or when
//! many looks were such, that answers all that is left. So the answers are in the order of the
//! checks, and what they say is the same.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Request;
use prost::Message;
use tokio::task::yield_now;
use tonic::{
    Extensions, Response, Status,
    body::Body,
    metadata::MetadataMap,
    server::{Grpc, UnaryService},
};

use crate::{
    api::{
        answer_fields::put_quota,
        any_check::{CHECKS_MAX, bad_count},
        at_once::AnswersAtOnce,
        refusal::Refusal,
    },
    domain::quota::QuotaAnswer,
    enforcement::error::EngineError,
    proto::{
        borrowed::PlainLooks,
        codec::{BytesCodec, bounded},
        fields::Fields,
        v1::{CheckBatchRequest, CheckBatchResponse},
    },
};

/// Looks that are answered before other calls of the same thread get a turn.
const LOOKS_PER_TURN: usize = 128;
/// Looks of one batch that the service is asked one by one; then it is asked all that is left.
const UNANSWERED_MAX: usize = 16;

/// The call as tonic's server makes it.
pub struct CheckBatch<T>(pub Arc<T>);

impl<T: AnswersAtOnce> CheckBatch<T> {
    /// Answers `request`, whose message is `message_bytes_max` long at most.
    pub async fn serve(
        self,
        message_bytes_max: usize,
        request: Request<Body>,
    ) -> http::Response<Body> {
        Grpc::new(BytesCodec)
            .apply_max_message_size_config(Some(message_bytes_max), None)
            .unary(self, request)
            .await
    }

    /// Answers the message's bytes by those of another.
    pub async fn answer(self, request: tonic::Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let mut looks = PlainLooks { rest: &message };
        let mut answers = Answers::default();
        let mut unanswered = 0;
        while unanswered < UNANSWERED_MAX {
            match self.turn(&extensions, &mut looks, &mut answers) {
                Turn::Over => {}
                Turn::Unanswered(look) => {
                    unanswered += 1;
                    let look = answers.beside(look)?;
                    let request =
                        tonic::Request::from_parts(MetadataMap::new(), extensions.clone(), look);
                    answers.append(self.0.check_batch(request).await?);
                }
                Turn::NoneLeft => break,
            }
            yield_now().await;
        }
        if looks.rest.is_empty() && answers.count > 0 {
            return Ok(Response::new(answers.bytes.into()));
        }
        let rest = answers.beside(looks.rest)?;
        drop(message);
        // What is left may be fields that are not known here.
        if !rest.checks.is_empty() || answers.count == 0 {
            let request = tonic::Request::from_parts(metadata, extensions, rest);
            answers.append(self.0.check_batch(request).await?);
        }
        Ok(Response::new(answers.bytes.into()))
    }

    /// Answers some looks.
    fn turn<'m>(
        &self,
        call: &Extensions,
        looks: &mut PlainLooks<'m>,
        answers: &mut Answers,
    ) -> Turn<'m> {
        let Some(mut at_once) = self.0.begin_looks(call) else { return Turn::NoneLeft };
        for _ in 0..LOOKS_PER_TURN {
            let before = looks.rest;
            if answers.count == CHECKS_MAX {
                return Turn::NoneLeft;
            }
            let Some(look) = looks.next() else { return Turn::NoneLeft };
            match at_once.look(&look) {
                Some(answer) => answers.push(answer),
                None => return Turn::Unanswered(&before[..before.len() - looks.rest.len()]),
            }
        }
        Turn::Over
    }
}

/// How far a batch was answered at once.
enum Turn<'m> {
    /// As far as it goes in one turn.
    Over,
    /// Up to a look, which is given: a `CheckBatchRequest` of its own.
    Unanswered(&'m [u8]),
    /// Up to the end, to a check that is no plain look, or as far as a batch may go.
    NoneLeft,
}

impl<T: AnswersAtOnce> UnaryService<Bytes> for CheckBatch<T> {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        Box::pin(Self(self.0.clone()).answer(request))
    }
}

/// The first results of a `CheckBatchResponse`, encoded.
#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
    count: usize,
}

impl Answers {
    /// Appends an `AnyCheckResult` that is a quota's.
    fn push(&mut self, answer: QuotaAnswer) {
        const RESULTS: u32 = 1;
        const QUOTA: u32 = 1;
        Fields(&mut self.bytes)
            .message(RESULTS, |result| result.message(QUOTA, |quota| put_quota(&answer, quota)));
        self.count += 1;
    }

    /// Reads further checks, if a batch may have as many together with those that are answered.
    fn beside(&self, checks: &[u8]) -> Result<CheckBatchRequest, Status> {
        let checks: CheckBatchRequest = bounded(checks)?;
        let count = self.count + checks.checks.len();
        match count > CHECKS_MAX {
            true => Err(Refusal::from(EngineError::from(bad_count(count))).into()),
            false => Ok(checks),
        }
    }

    /// Appends what the service has answered.
    fn append(&mut self, answered: Response<CheckBatchResponse>) {
        let answered = answered.into_inner();
        self.count += answered.results.len();
        answered.encode_raw(&mut self.bytes);
    }
}
