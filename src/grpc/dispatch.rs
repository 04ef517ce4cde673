//! Which service a call is for.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::{body::Body, server::NamedService, service::Routes};
use tower::Service;

/// The product's service in front of all others: its calls are many, and need no router.
#[derive(Clone, Debug)]
pub struct Dispatch<T> {
    first: T,
    others: Routes,
}

impl<T> Dispatch<T> {
    /// Asks `first` for its own calls and `others` (health, reflection) for the rest.
    pub fn new(first: T, others: Routes) -> Self {
        Self { first, others: others.prepare() }
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

    fn call(&mut self, request: Request<Body>) -> Self::Future {
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
