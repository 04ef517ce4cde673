//! `CheckBatch`, of which the plain looks are answered from the message's bytes.
//!
//! From the first check on that is anything else the service's own method takes over. So the answers
//! are in the order of the checks, and what they say is the same.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Request;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use tokio::task::consume_budget;
use tonic::{
    Extensions, Response, Status,
    body::Body,
    metadata::MetadataMap,
    server::{Grpc, UnaryService},
};

use crate::{
    api::{
        any_check::{CHECKS_MAX, bad_count},
        at_once::AnswersAtOnce,
        refusal::Refusal,
    },
    enforcement::error::EngineError,
    proto::{
        borrowed::PlainLooks,
        codec::{BytesCodec, bounded},
        v1::{CheckBatchRequest, CheckQuotaResponse},
    },
};

/// Looks that are answered before other calls of the same thread get a turn.
const LOOKS_PER_TURN: usize = 256;
/// What an answer takes at the most when it is plain: room for that many is made at first.
const ANSWER_BYTES: usize = 64;

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
        loop {
            match self.turn(&extensions, &mut looks, &mut answers) {
                Turn::Over => tokio::task::yield_now().await,
                // It is waited for, or denied; those behind it may be answered at once again.
                Turn::Unanswered(check) => {
                    let check = (MetadataMap::new(), extensions.clone(), check);
                    self.answer_rest(check, &mut answers).await?;
                    consume_budget().await;
                }
                Turn::NoneLeft => break,
            }
        }
        if !looks.rest.is_empty() || answers.count == 0 {
            self.answer_rest((metadata, extensions, looks.rest), &mut answers).await?;
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
            let Some(look) = looks.next() else { return Turn::NoneLeft };
            match at_once.look(&look) {
                Some(answer) if answers.count < CHECKS_MAX => answers.push(&answer),
                _ => return Turn::Unanswered(&before[..before.len() - looks.rest.len()]),
            }
        }
        Turn::Over
    }

    /// Has the service answer what is left of the batch, or a part of that.
    async fn answer_rest(
        &self,
        (metadata, extensions, checks): (MetadataMap, Extensions, &[u8]),
        answers: &mut Answers,
    ) -> Result<(), Status> {
        let checks: CheckBatchRequest = bounded(checks)?;
        let count = answers.count + checks.checks.len();
        if count > CHECKS_MAX {
            return Err(Refusal::from(EngineError::from(bad_count(count))).into());
        }
        let request = tonic::Request::from_parts(metadata, extensions, checks);
        self.0.check_batch(request).await?.into_inner().encode_raw(&mut answers.bytes);
        answers.count = count;
        Ok(())
    }
}

/// How far a batch was answered at once.
enum Turn<'m> {
    /// As far as it goes in one turn.
    Over,
    /// Up to a look, which is given: a `CheckBatchRequest` of its own.
    Unanswered(&'m [u8]),
    /// Up to the end, or to a check that is no plain look.
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
    fn push(&mut self, answer: &CheckQuotaResponse) {
        const RESULTS: u32 = 1;
        const QUOTA: u32 = 1;
        if self.bytes.is_empty() {
            self.bytes.reserve(LOOKS_PER_TURN * ANSWER_BYTES);
        }
        let length = answer.encoded_len();
        let length = length as u64;
        encode_key(RESULTS, WireType::LengthDelimited, &mut self.bytes);
        // A key of one byte comes before the inner length.
        encode_varint(1 + encoded_len_varint(length) as u64 + length, &mut self.bytes);
        encode_key(QUOTA, WireType::LengthDelimited, &mut self.bytes);
        encode_varint(length, &mut self.bytes);
        answer.encode_raw(&mut self.bytes);
        self.count += 1;
    }
}
