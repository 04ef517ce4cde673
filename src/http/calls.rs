//! All that applications call over HTTP.

use std::sync::Arc;

use axum::{
    Router,
    http::{Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tonic::Status;

use super::{
    body::Bodies, cloud_events, config::HttpConfig, mirror, ofrep, openapi, refused::Refused,
};
use crate::{clock::Clock, proto::v1::tollgate_service_server::TollgateService};

/// The routes of `service`. A path or a method that there is not is told as any other failed call.
pub fn router<T: TollgateService>(service: &Arc<T>, config: &HttpConfig, clock: &Clock) -> Router {
    let bodies = Bodies::new(config);
    mirror::routes(service, &bodies, clock)
        .merge(cloud_events::routes(service, &bodies))
        .merge(ofrep::routes(service, &bodies))
        .route(
            "/openapi.json",
            get(async || ([(CONTENT_TYPE, "application/json")], openapi::text())),
        )
        .fallback(async |uri: Uri| {
            let problem = format!("there is no {}; /openapi.json lists all paths", uri.path());
            Refused(Status::not_found(problem))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let problem = format!("{} does not take {method}; see /openapi.json", uri.path());
            (StatusCode::METHOD_NOT_ALLOWED, Refused(Status::unimplemented(problem)))
                .into_response()
        })
}
