//! All that applications call over HTTP.

use std::sync::Arc;

use axum::{
    Router,
    http::{Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tonic::Code;

use super::{
    body::Bodies, cloud_events, config::HttpConfig, mirror, ofrep, openapi, refused::Refused,
    told::cut,
};
use crate::{
    api::{refusal::Refusal, status::status},
    clock::Clock,
    proto::v1::tollgate_service_server::TollgateService,
};

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
            let path = cut(uri.path());
            let problem = format!("there is no {path}; /openapi.json lists all paths");
            refused(Code::NotFound, "NOT_FOUND", problem)
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let problem = format!("{} does not take {method}; see /openapi.json", uri.path());
            let refused = refused(Code::Unimplemented, "UNIMPLEMENTED", problem);
            (StatusCode::METHOD_NOT_ALLOWED, refused).into_response()
        })
}

fn refused(code: Code, reason: &'static str, problem: String) -> Refused {
    Refused(status(Refusal::new(code, reason, problem)))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    /// None of its calls is there.
    struct Nothing;

    impl TollgateService for Nothing {}

    async fn reason(method: &str, path: &str) -> (u16, Value) {
        let config = HttpConfig::at(([127, 0, 0, 1], 0).into());
        let router = router(&Arc::new(Nothing), &config, &Clock::System);
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header(CONTENT_TYPE, "application/json");
        let answer =
            router.oneshot(request.body(axum::body::Body::from("{}")).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        (status, body["details"][0]["reason"].clone())
    }

    #[tokio::test]
    async fn what_there_is_not_has_a_reason_too() {
        assert_eq!(reason("POST", "/v1/no-such-call").await, (404, "NOT_FOUND".into()));
        assert_eq!(reason("GET", "/v1/check-quota").await, (405, "UNIMPLEMENTED".into()));
    }
}
