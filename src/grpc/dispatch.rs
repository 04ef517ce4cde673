//! Which service a call is for.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use http::Request;
use tonic::{Status, body::Body, server::NamedService, service::Routes};
use tower::Service;

use super::{
    call::{Answered, Answering, GrpcService},
    check_batch::CheckBatch,
    short,
};
use crate::{
    api::{
        access::{Access, Caller},
        at_once::AnswersAtOnce,
        status::status,
    },
    proto::v1::tollgate_service_server::{TollgateService, TollgateServiceServer},
};

/// Answers without a token: who asks whether a process lives has none.
const HEALTH: &str = "/grpc.health.v1.Health/";
const REFLECTION: &str = "/grpc.reflection.";

/// The product's service in front of all others: its calls are many, and need no router.
#[derive(Debug)]
pub struct Dispatch<T> {
    service: Arc<T>,
    server: TollgateServiceServer<T>,
    message_bytes_max: usize,
    others: Routes,
    /// Who is asked who calls; `None` where everybody may.
    access: Option<Arc<Access>>,
}

impl<T> Clone for Dispatch<T> {
    fn clone(&self) -> Self {
        let Self { service, server, message_bytes_max, others, access } = self;
        Self {
            service: service.clone(),
            server: server.clone(),
            message_bytes_max: *message_bytes_max,
            others: others.clone(),
            access: access.clone(),
        }
    }
}

impl<T: TollgateService> Dispatch<T> {
    /// Asks `service` for its own calls, of which no message is longer than `message_bytes_max`,
    /// and `others` (health, reflection, Envoy's) for the rest.
    pub fn new(service: T, message_bytes_max: usize, others: Routes) -> Self {
        let service = Arc::new(service);
        let server = TollgateServiceServer::from_arc(service.clone())
            .max_decoding_message_size(message_bytes_max);
        Self { service, server, message_bytes_max, others: others.prepare(), access: None }
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

impl<T: TollgateService> Dispatch<T> {
    /// Lets a call in, and notes who makes it; or refuses it.
    fn let_in<B>(&self, request: &mut Request<B>) -> Result<(), Box<Status>> {
        let Some(access) = &self.access else { return Ok(()) };
        let is_let_in = request.extensions().get::<Caller>().is_some();
        if is_let_in || is_open(access, request.uri().path()) {
            return Ok(());
        }
        match access.let_in(request.uri().path(), request.headers()) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Ok(())
            }
            Err(refusal) => Err(Box::new(status(*refusal))),
        }
    }
}

impl<T: AnswersAtOnce + Clone> GrpcService for Dispatch<T> {
    fn apart(&self) -> Self {
        Self { service: Arc::new((*self.service).clone()), ..self.clone() }
    }

    fn answer(&self, mut request: Request<Body>) -> BoxFuture<'static, Answered> {
        if let Err(refusal) = self.let_in(&mut request) {
            return ready(Ok(refusal.into_http())).boxed();
        }
        // The contract asks for `poll_ready` first; these are always ready.
        match short::call(request.uri().path()) {
            Some(short::CHECK_BATCH) => {
                let batch = CheckBatch(self.service.clone());
                batch.serve(self.message_bytes_max, request).map(Ok).boxed()
            }
            Some(_) => self.server.clone().call(request),
            None => Box::pin(self.others.clone().call(request)),
        }
    }

    fn answer_whole(&self, request: &mut Request<Bytes>) -> Option<Answering> {
        short::call(request.uri().path())?;
        match self.let_in(request) {
            Ok(()) => short::answer(&self.service, request),
            Err(refusal) => Some(Answering::Done((*refusal).into())),
        }
    }
}

fn is_open(access: &Access, path: &str) -> bool {
    path.starts_with(HEALTH) || access.config.descriptions_open && path.starts_with(REFLECTION)
}
