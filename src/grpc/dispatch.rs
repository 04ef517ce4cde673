//! Which service a call is for.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use http::{Request, Response};
use tonic::{body::Body, server::NamedService, service::Routes};
use tower::Service;

use crate::api::{access::Access, status::status};

/// Answers without a token: who asks whether a process lives has none.
const HEALTH: &str = "/grpc.health.v1.Health/";
const REFLECTION: &str = "/grpc.reflection.";

/// The product's service in front of all others: its calls are many, and need no router.
#[derive(Clone, Debug)]
pub struct Dispatch<T> {
    first: T,
    others: Routes,
    /// Who is asked who calls; `None` where everybody may.
    access: Option<Arc<Access>>,
}

impl<T> Dispatch<T> {
    /// Asks `first` for its own calls and `others` (health, reflection, Envoy's) for the rest.
    pub fn new(first: T, others: Routes) -> Self {
        Self { first, others: others.prepare(), access: None }
    }

    /// Serves another service too.
    #[must_use]
    pub fn beside<S>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        Self { others: self.others.add_service(service).prepare(), ..self }
    }

    /// Asks everybody for a token, before anything of the message is read.
    #[must_use]
    pub fn guarded_by(self, access: Arc<Access>) -> Self {
        Self { access: Some(access).filter(|access| !access.is_open()), ..self }
    }
}

impl<T> Service<Request<Body>> for Dispatch<T>
where
    T: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<'static, Result<Response<Body>, Infallible>>,
        > + NamedService,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = T::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services and tonic's router are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(access) = &self.access
            && !is_open(access, request.uri().path())
        {
            match access.let_in(request.uri().path(), request.headers()) {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                }
                Err(refusal) => return ready(Ok(status(*refusal).into_http())).boxed(),
            }
        }
        let is_first = request
            .uri()
            .path()
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(T::NAME))
            .is_some_and(|rest| rest.starts_with('/'));
        if is_first {
            return self.first.call(request);
        }
        let answer = self.others.call(request);
        Box::pin(answer)
    }
}

fn is_open(access: &Access, path: &str) -> bool {
    path.starts_with(HEALTH) || access.config.descriptions_open && path.starts_with(REFLECTION)
}
