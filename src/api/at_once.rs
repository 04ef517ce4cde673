//! Checks that are decided at once, from the bytes of their messages.

use http::Extensions;
use prost::Message;
use tonic::Status;

use super::{fields, operation::put_allowed};
use crate::{
    domain::{ids::TenantId, quota::QuotaAnswer},
    enforcement::{
        consume_at_once::{Consumed, PlainConsume},
        engine::Engine,
        error::EngineError,
        glance::{Glance, Glances},
        operation_at_once::{Operated, PlainOperation},
    },
    lanes::Shares,
    proto::{
        borrowed::{PlainCheck, PlainQuota},
        fields::Fields,
        v1::{CheckRequest, Mode, tollgate_service_server::TollgateService},
    },
};

/// A service that may answer plain checks at once.
pub trait AnswersAtOnce: TollgateService {
    /// Begins to answer the looks of a call, whose extensions say who makes it. `None` where none
    /// of them can be answered so; the service's own method then answers, or refuses.
    fn begin_looks<'s>(&'s self, call: &'s Extensions) -> Option<AtOnce<'s>> {
        let _ = call;
        None
    }

    /// Decides a CONSUME, if that can be done at once; as [`AnswersAtOnce::begin_looks`] otherwise.
    fn consume_at_once(&self, call: &Extensions, plain: &PlainQuota<'_>) -> Option<MayConsume> {
        let _ = (call, plain);
        None
    }

    /// Decides an operation that consumes; the same. Its answer's message is appended to `answer`.
    fn operate_at_once(
        &self,
        call: &Extensions,
        plain: &PlainCheck<'_>,
        answer: Vec<u8>,
    ) -> Option<MayOperate> {
        let _ = (call, plain, answer);
        None
    }

    /// As [`TollgateService::check`]. What answers by a message's maps makes them to no purpose.
    fn check_encoded(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> impl Future<Output = EncodedAnswer> + Send {
        async {
            let answer = self.check(request).await?;
            Ok(answer.map(|message| message.encode_to_vec()))
        }
    }
}

/// `Check` of a service: its answer's message, encoded.
pub type EncodedAnswer = Result<tonic::Response<Vec<u8>>, Status>;

/// What came of a CONSUME that was decided at once.
pub type MayConsume = Result<Consumed, EngineError>;

/// What came of an operation that was decided at once; with its answer's message, encoded.
pub type MayOperate = Result<Operated<Vec<u8>>, EngineError>;

/// Decides a CONSUME with `engine`.
pub fn consume_with(engine: &Shares<Engine>, plain: &PlainQuota<'_>) -> Option<MayConsume> {
    let PlainQuota { tenant, meter, amount, mode, idempotency_key, durability } = *plain;
    if mode != Mode::Consume {
        return None;
    }
    let durability = fields::durability(durability.into()).ok()?;
    engine.consume_at_once(PlainConsume { tenant, meter, amount, idempotency_key, durability })
}

/// Decides an operation with `engine`, and appends its answer's message to `answer`.
pub fn operate_with(
    engine: &Shares<Engine>,
    plain: &PlainCheck<'_>,
    mut answer: Vec<u8>,
) -> Option<MayOperate> {
    let PlainCheck { tenant, operation, ref amounts, mode, idempotency_key, durability } = *plain;
    if mode != Mode::Consume {
        return None;
    }
    let durability = fields::durability(durability.into()).ok()?;
    let plain = PlainOperation { tenant, operation, amounts, idempotency_key, durability };
    engine.operate_at_once(plain, |allowed| {
        put_allowed(allowed, &mut Fields(&mut answer));
        answer
    })
}

/// What answers the looks of one call, as they come. Not to be kept while anybody is waited for.
pub struct AtOnce<'s> {
    glances: Glances<'s>,
    /// The only tenant that may be looked at; `None` = any.
    only: Option<&'s TenantId>,
}

impl<'s> AtOnce<'s> {
    /// Answers from what `glances` sees.
    pub fn new(glances: Glances<'s>) -> Self {
        Self { glances, only: None }
    }

    /// The same, for a caller who may ask after one tenant alone.
    #[must_use]
    pub fn only(self, tenant: Option<&'s TenantId>) -> Self {
        Self { only: tenant, ..self }
    }

    /// The answer, if it is allowed and can be given at once.
    #[inline]
    pub fn look(&mut self, look: &PlainQuota<'_>) -> Option<QuotaAnswer> {
        let PlainQuota { tenant, meter, amount, .. } = *look;
        if !look.is_look() || self.only.is_some_and(|only| only.as_str() != tenant) {
            return None;
        }
        self.glances.look(Glance { tenant, meter, amount })
    }
}
