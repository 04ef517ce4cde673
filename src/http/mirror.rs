//! The gRPC calls as JSON over HTTP: `POST /v1/check-quota` takes a `CheckQuotaRequest` and answers
//! a `CheckQuotaResponse`, in proto's own JSON mapping.
//!
//! The routes are made of the service's descriptor (`build/calls.rs`), so that a call that is added
//! to the proto is here too. Calls that answer with a stream are server-sent events; calls that
//! also take one are left to gRPC, which has the means for it.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Json, Router,
    extract::Request,
    http::{Extensions, HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::post,
};
use futures::{FutureExt, StreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tonic::{Code, Status, codegen::BoxStream};

use super::{
    body::Bodies,
    denial::{Asked, prefers_ok},
    refused::Refused,
};
use crate::{
    api::{
        limits::{Limited, fields},
        refusal::Refusal,
        status::status,
    },
    clock::Clock,
    proto::{calls, v1, v1::tollgate_service_server::TollgateService},
};

/// The routes of all calls of `service`, and `POST /v1/usage` as a shorter name of RecordUsage.
pub fn routes<T: TollgateService>(service: &Arc<T>, bodies: &Bodies, clock: &Clock) -> Router {
    let mut router = Router::new();
    macro_rules! add {
        (unary {$($name:ident $call:ident $request:ident $response:ident $path:literal;)*}
         answers_stream {$($stream_name:ident $stream_call:ident $stream_request:ident
                           $stream_response:ident $stream_path:literal;)*}
         streams {$($left_to_grpc:tt)*}) => {
            $(
                let parts = (service.clone(), bodies.clone(), clock.clone());
                router = router.route($path, post(async move |request: Request| {
                    let (service, bodies, clock) = parts;
                    let call = async move |request: tonic::Request<v1::$request>| {
                        service.$call(request).await
                    };
                    answer(request, &bodies, &clock, call).await
                }));
            )*
            $(
                let parts = (service.clone(), bodies.clone());
                router = router.route($stream_path, post(async move |request: Request| {
                    let (service, bodies) = parts;
                    let call = async move |request: tonic::Request<v1::$stream_request>| {
                        service.$stream_call(request).await
                    };
                    events(request, &bodies, call).await
                }));
            )*
        };
    }
    calls!(add);
    let parts = (service.clone(), bodies.clone(), clock.clone());
    router.route(
        "/v1/usage",
        post(async move |request: Request| {
            let (service, bodies, clock) = parts;
            let call = async move |request: tonic::Request<v1::RecordUsageRequest>| {
                service.record_usage(request).await
            };
            answer(request, &bodies, &clock, call).await
        }),
    )
}

/// How a call ends.
pub type Answered<M> = Result<tonic::Response<M>, Status>;

/// One call with one answer.
async fn answer<Q, A, C>(request: Request, bodies: &Bodies, clock: &Clock, call: C) -> Response
where
    Q: DeserializeOwned + Asked,
    A: Serialize + Limited,
    C: AsyncFnOnce(tonic::Request<Q>) -> Answered<A>,
{
    let (prefers_ok, extensions) = (prefers_ok(request.headers()), request.extensions().clone());
    let message: Q = match bodies.message(request).await {
        Ok(message) => message,
        Err(status) => return Refused(status).into_response(),
    };
    let (takes, name) = (message.takes(), message.limit_name().to_owned());
    match contained(call(carrying(message, extensions))).await {
        Err(status) => Refused(status).into_response(),
        Ok(answer) => {
            let answer = answer.into_inner();
            let is_denied = takes && answer.is_denied();
            let headers = fields(&answer.limits(&name, clock.now()), is_denied);
            let status = match is_denied && !prefers_ok {
                true if answer.is_for_subscribers() => StatusCode::FORBIDDEN,
                true => StatusCode::TOO_MANY_REQUESTS,
                false => StatusCode::OK,
            };
            (status, headers, Json(answer)).into_response()
        }
    }
}

/// One call with a stream of answers: an event `message` for each, and `error` at the end if it
/// failed.
async fn events<Q, A, C>(request: Request, bodies: &Bodies, call: C) -> Response
where
    Q: DeserializeOwned,
    A: Serialize + Send + 'static,
    C: AsyncFnOnce(tonic::Request<Q>) -> Answered<BoxStream<A>>,
{
    let extensions = request.extensions().clone();
    let message: Q = match bodies.message(request).await {
        Ok(message) => message,
        Err(status) => return Refused(status).into_response(),
    };
    match contained(call(carrying(message, extensions))).await {
        Err(status) => Refused(status).into_response(),
        Ok(answers) => {
            let answers = answers.into_inner();
            let events = stream::unfold(Some(answers), async |answers| {
                let mut answers = answers?;
                match answers.next().await? {
                    Ok(answer) => Some((Event::default().json_data(answer), Some(answers))),
                    Err(status) => Some((failed(&status), None)),
                }
            });
            let no_cache = HeaderMap::from_iter([(
                header::CACHE_CONTROL,
                header::HeaderValue::from_static("no-store"),
            )]);
            (no_cache, Sse::new(events).keep_alive(KeepAlive::default())).into_response()
        }
    }
}

fn failed(status: &Status) -> Result<Event, axum::Error> {
    let told = json!({ "code": status.code() as i32, "message": status.message() });
    Event::default().event("error").json_data(told)
}

/// The message as a call, with what the layers before have found out about the caller.
pub fn carrying<Q>(message: Q, extensions: Extensions) -> tonic::Request<Q> {
    let mut request = tonic::Request::new(message);
    *request.extensions_mut() = extensions;
    request
}

/// A handler that panics fails its own call only.
pub async fn contained<A>(call: impl Future<Output = Answered<A>>) -> Answered<A> {
    // What a handler shares with others is guarded against poisoning where it is locked.
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| {
        metrics::counter!("tollgate_http_handler_panics_total").increment(1);
        tracing::error!("an HTTP handler panicked; its call failed, the others go on");
        let told = "the sidecar failed at this call; whether it was counted is unknown";
        Err(status(Refusal::new(Code::Internal, "INTERNAL", told)))
    })
}
