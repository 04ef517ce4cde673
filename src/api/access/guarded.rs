//! The calls behind the check of who makes them.

use futures::{
    FutureExt, Stream, StreamExt, TryStreamExt,
    future::{BoxFuture, ready},
    stream,
};
use tonic::{Extensions, Request, Response, Status, Streaming, codegen::BoxStream};

use super::{Caller, needs::Needs};
use crate::{
    api::{
        at_once::{AnswersAtOnce, AtOnce, EncodedAnswer, MayConsume, MayOperate},
        refusal::Refusal,
        status::{status, unread},
    },
    domain::token::Need,
    proto::{
        NamesTenants,
        borrowed::{PlainCheck, PlainQuota},
        calls, v1,
        v1::tollgate_service_server::TollgateService,
    },
};

/// A service whose calls are only made for those who may make them.
#[derive(Clone, Debug)]
pub struct Guarded<T> {
    service: T,
    is_open: bool,
}

impl<T> Guarded<T> {
    /// Every call needs a [`Caller`] in its extensions.
    pub fn new(service: T) -> Self {
        Self { service, is_open: false }
    }

    /// Everybody may do everything.
    pub fn open(service: T) -> Self {
        Self { service, is_open: true }
    }

    /// Who makes a call that is let in; `None` where nobody is asked.
    fn caller<M>(&self, request: &Request<M>) -> Result<Option<Caller>, Status> {
        if self.is_open {
            return Ok(None);
        }
        match request.extensions().get::<Caller>() {
            Some(caller) => Ok(Some(caller.clone())),
            // A face that let a call in without asking who makes it.
            None => Err(Status::unauthenticated("nobody has asked who makes this call")),
        }
    }

    /// Lets a call with one message in.
    fn admit<M: Needs + NamesTenants>(&self, request: &Request<M>) -> Result<(), Status> {
        if self.is_open {
            return Ok(());
        }
        match request.extensions().get::<Caller>() {
            Some(caller) => check(caller, request.get_ref()).map_err(|refusal| status(*refusal)),
            None => self.caller(request).map(|_| ()),
        }
    }

    /// Whether the caller may consume for the tenant; why not, is said at length.
    fn may_use(&self, call: &Extensions, tenant: &str) -> Option<()> {
        if self.is_open {
            return Some(());
        }
        let caller = call.get::<Caller>()?;
        caller
            .check_lives()
            .and_then(|()| caller.check_role(Need::Use))
            .and_then(|()| caller.check_tenant(tenant))
            .ok()
    }
}

fn check<M: Needs + NamesTenants>(caller: &Caller, message: &M) -> Result<(), Box<Refusal>> {
    // The message may have come long after its head.
    let checked = caller
        .check_lives()
        .and_then(|()| caller.check_role(message.need()))
        .and_then(|()| caller.check_tenants(message));
    checked.inspect_err(|refusal| super::count(refusal))
}

impl<T: AnswersAtOnce> AnswersAtOnce for Guarded<T> {
    fn begin_looks<'s>(&'s self, call: &'s Extensions) -> Option<AtOnce<'s>> {
        if self.is_open {
            return self.service.begin_looks(call);
        }
        let caller = call.get::<Caller>()?;
        caller.check_lives().and_then(|()| caller.check_role(Need::Look)).ok()?;
        Some(self.service.begin_looks(call)?.only(caller.tenant()))
    }

    fn consume_at_once(&self, call: &Extensions, plain: &PlainQuota<'_>) -> Option<MayConsume> {
        self.may_use(call, plain.tenant)?;
        self.service.consume_at_once(call, plain)
    }

    fn operate_at_once(
        &self,
        call: &Extensions,
        plain: &PlainCheck<'_>,
        answer: Vec<u8>,
    ) -> Option<MayOperate> {
        self.may_use(call, plain.tenant)?;
        self.service.operate_at_once(call, plain, answer)
    }

    async fn check_encoded(&self, request: Request<v1::CheckRequest>) -> EncodedAnswer {
        self.admit(&request)?;
        self.service.check_encoded(request).await
    }
}

/// The messages of a call that sends a stream, each compared with what its caller may, and no more
/// of them than the caller's rate allows. The stream ends with the first one that is not let in.
pub fn messages<M: Needs + NamesTenants + Send + 'static>(
    request: Request<Streaming<M>>,
) -> BoxStream<M> {
    // Who is not asked, in `Guarded::open`, has none.
    let caller = request.extensions().get::<Caller>().cloned();
    let messages = request.into_inner().map_err(unread);
    match caller {
        Some(caller) => Box::pin(compared(messages, caller)),
        None => Box::pin(messages),
    }
}

fn compared<M: Needs + NamesTenants>(
    messages: impl Stream<Item = Result<M, Status>>,
    caller: Caller,
) -> impl Stream<Item = Result<M, Status>> {
    messages.then(move |message| {
        let caller = caller.clone();
        async move {
            let message = message?;
            caller.count_message().await;
            check(&caller, &message).map_err(|refusal| status(*refusal))?;
            Ok(message)
        }
    })
}

/// Answers as long as the caller's token holds.
fn while_it_holds<A: Send + 'static>(
    answers: BoxStream<A>,
    caller: Option<Caller>,
) -> BoxStream<A> {
    let Some(caller) = caller else { return answers };
    let ended = caller.ended().map(|refusal| {
        super::count(&refusal);
        status(*refusal)
    });
    let answers = answers.map(Some).chain(stream::iter([None]));
    let ended = ended.into_stream().map(|status| Some(Err(status)));
    // The end of the answers is the end; what ends them from outside is told.
    let both = stream::select(answers, ended).scan(false, |is_over, item| {
        if *is_over {
            return ready(None);
        }
        *is_over = matches!(item, Some(Err(_)));
        ready(item)
    });
    Box::pin(both)
}

/// The calls one by one, as the proto lists them. An admitted one costs no future of its own.
macro_rules! guard {
    (unary {$($name:ident $call:ident $request:ident $response:ident $path:literal;)*}
     answers_stream {$($watch_name:ident $watch:ident $watch_request:ident
                       $watch_response:ident $watch_path:literal;)*}
     streams {$($stream_name:ident $stream:ident $stream_request:ident
                $stream_response:ident $stream_path:literal;)*}) => {
        impl<T: TollgateService> TollgateService for Guarded<T> {
            $(
                fn $call<'a, 'b>(
                    &'a self,
                    request: Request<v1::$request>,
                ) -> BoxFuture<'b, Result<Response<v1::$response>, Status>>
                where
                    'a: 'b,
                    Self: 'b,
                {
                    match self.admit(&request) {
                        Ok(()) => self.service.$call(request),
                        Err(status) => ready(Err(status)).boxed(),
                    }
                }
            )*
            $(
                fn $watch<'a, 'b>(
                    &'a self,
                    request: Request<v1::$watch_request>,
                ) -> BoxFuture<'b, Result<Response<BoxStream<v1::$watch_response>>, Status>>
                where
                    'a: 'b,
                    Self: 'b,
                {
                    async move {
                        self.admit(&request)?;
                        let caller = self.caller(&request)?;
                        let answers = self.service.$watch(request).await?;
                        Ok(answers.map(|answers| while_it_holds(answers, caller)))
                    }
                    .boxed()
                }
            )*
            $(
                fn $stream<'a, 'b>(
                    &'a self,
                    request: Request<Streaming<v1::$stream_request>>,
                ) -> BoxFuture<'b, Result<Response<BoxStream<v1::$stream_response>>, Status>>
                where
                    'a: 'b,
                    Self: 'b,
                {
                    async move {
                        // Its messages are compared by `messages`, as the service reads them.
                        let caller = self.caller(&request)?;
                        let answers = self.service.$stream(request).await?;
                        Ok(answers.map(|answers| while_it_holds(answers, caller)))
                    }
                    .boxed()
                }
            )*
        }
    };
}
calls!(guard);

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        api::access::{Access, config::AccessConfig},
        clock::Clock,
        domain::token::{Role, Secret, Token},
    };

    /// A token that may call so often, 0 for no limit; and one call with it.
    fn call(calls_per_token_s: u32) -> (Arc<Access>, Caller) {
        let config = AccessConfig { calls_per_token_s, ..AccessConfig::default() };
        let access = Access::new(config, Clock::System);
        let secret = Secret::of([1; 32]);
        let token = Token {
            id: uuid::Uuid::nil(),
            name: "shop".into(),
            role: Role::Service,
            tenant: None,
            expires_at: None,
            hash: secret.hash(),
        };
        access.book.replace([token]);
        let mut head = http::HeaderMap::new();
        let bearer = format!("Bearer {}", secret.as_str());
        head.insert(http::header::AUTHORIZATION, bearer.parse().unwrap());
        let caller = access.let_in("/tollgate.v1.TollgateService/CheckQuota", &head).unwrap();
        (access, caller)
    }

    #[test]
    fn a_message_that_comes_after_its_token_was_revoked_is_not_let_in() {
        let (access, caller) = call(0);
        let mut request = Request::new(v1::CheckQuotaRequest::default());
        request.extensions_mut().insert(caller);
        let guarded = Guarded::new(());
        assert!(guarded.admit(&request).is_ok());
        access.book.replace([]);
        assert_eq!(guarded.admit(&request).unwrap_err().code(), tonic::Code::Unauthenticated);
    }

    #[tokio::test]
    async fn the_messages_of_a_stream_count_as_calls_and_wait_for_their_turn() {
        let began = Instant::now();
        let (_access, caller) = call(1);
        let sent = stream::iter([1, 2].map(|id| Ok(v1::CheckStreamRequest { id, check: None })));
        let ids: Vec<u64> =
            compared(sent, caller).map(|message| message.unwrap().id).collect().await;
        assert_eq!(ids, [1, 2], "none is refused");
        // The call itself had the first second's.
        assert!(began.elapsed() > Duration::from_millis(1_900), "{:?}", began.elapsed());
    }
}
