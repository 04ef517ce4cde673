//! Asks who calls, before anything of the body is read.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};

use super::refused::Refused;
use crate::api::{access::Access, status::status};

/// `router`, for those who have a token; what is open to everybody stays so. A route that is added
/// to it later is not open.
pub fn guarded(router: Router, access: &Arc<Access>) -> Router {
    if access.is_open() {
        return router;
    }
    let access = access.clone();
    router.layer(from_fn(move |request: Request, next: Next| {
        let access = access.clone();
        async move { ask(&access, request, next).await }
    }))
}

async fn ask(access: &Access, mut request: Request, next: Next) -> Response {
    if !is_open(access, request.uri().path()) {
        match access.let_in(request.uri().path(), request.headers()) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
            }
            Err(refusal) => return Refused(status(*refusal)).into_response(),
        }
    }
    next.run(request).await
}

fn is_open(access: &Access, path: &str) -> bool {
    match path {
        "/livez" => true,
        "/readyz" | "/metrics" => access.config.metrics_open,
        "/openapi.json" => access.config.descriptions_open,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::StatusCode;
    use tower::ServiceExt;

    use super::*;
    use crate::{
        api::access::config::{AccessConfig, AccessMode},
        clock::Clock,
        domain::token::{Role, Secret, Token},
    };

    async fn status_of(config: AccessConfig, path: &str, token: Option<&Secret>) -> StatusCode {
        let access = Access::new(config, Clock::System);
        access.book.replace([Token {
            id: uuid::Uuid::nil(),
            name: "viewer".into(),
            role: Role::Viewer,
            tenant: None,
            expires_at: None,
            hash: Secret::of([1; 32]).hash(),
        }]);
        let router = Router::new()
            .route("/livez", get(async || "ok"))
            .route("/metrics", get(async || "ok"))
            .route("/v1/new-one", get(async || "ok"));
        let mut request = http::Request::get(path);
        if let Some(secret) = token {
            request = request.header("authorization", format!("Bearer {}", secret.as_str()));
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        guarded(router, &access).oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn what_is_not_said_to_be_open_asks_for_a_token() {
        let (right, wrong) = (Secret::of([1; 32]), Secret::of([2; 32]));
        let config = AccessConfig::default;
        assert_eq!(status_of(config(), "/livez", None).await, 200);
        assert_eq!(status_of(config(), "/metrics", None).await, 200);
        assert_eq!(status_of(config(), "/v1/new-one", None).await, 401);
        assert_eq!(status_of(config(), "/no/such/path", None).await, 401);
        assert_eq!(status_of(config(), "/v1/new-one", Some(&wrong)).await, 401);
        assert_eq!(status_of(config(), "/v1/new-one", Some(&right)).await, 200);
        let closed = AccessConfig { metrics_open: false, ..config() };
        assert_eq!(status_of(closed.clone(), "/metrics", None).await, 401);
        assert_eq!(status_of(closed, "/livez", None).await, 200);
        let open = AccessConfig { mode: AccessMode::Open, ..config() };
        assert_eq!(status_of(open, "/v1/new-one", None).await, 200);
    }
}
