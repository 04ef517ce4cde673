//! `/livez`, `/readyz`, `/metrics`.

use axum::{
    Json, Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::lifecycle::readiness::Readiness;

/// The content type of Prometheus' text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The routes. `metrics` writes the process's metrics in Prometheus' text format.
///
/// - `/livez`: 200 as long as a restart would mend nothing, 503 once a task has died.
/// - `/readyz`: 200 or 503 with every condition, its status and its reason as JSON.
/// - `/metrics`: for Prometheus.
pub fn router<M>(readiness: Readiness, metrics: M) -> Router
where
    M: Fn() -> String + Clone + Send + Sync + 'static,
{
    let (for_livez, for_readyz) = (readiness.clone(), readiness);
    Router::new()
        .route("/livez", get(async move || livez(&for_livez)))
        .route("/readyz", get(async move || readyz(&for_readyz)))
        .route("/metrics", get(async move || ([(CONTENT_TYPE, PROMETHEUS_TEXT)], metrics())))
}

fn livez(readiness: &Readiness) -> Response {
    if readiness.report().dead {
        (StatusCode::SERVICE_UNAVAILABLE, "a task has died; see /readyz\n").into_response()
    } else {
        (StatusCode::OK, "ok\n").into_response()
    }
}

fn readyz(readiness: &Readiness) -> Response {
    let report = readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::clock::Clock;

    async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_every_condition_and_its_reason() {
        let readiness = Readiness::new(Clock::manual(jiff::Timestamp::UNIX_EPOCH));
        let (journal, redis) = (readiness.condition("journal"), readiness.condition("redis"));
        let router = router(readiness, String::new);
        assert_eq!(ask(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        journal.ok();
        redis.degrade("cannot be reached");
        let (status, body) = ask(&router, "/readyz").await;
        assert_eq!(status, StatusCode::OK);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["conditions"][0]["name"], "journal");
        assert_eq!(body["conditions"][1]["status"], "degraded");
        assert_eq!(body["conditions"][1]["reason"], "cannot be reached");
    }

    #[tokio::test]
    async fn a_process_that_is_not_ready_still_lives() {
        let readiness = Readiness::new(Clock::System);
        let journal = readiness.condition("journal");
        journal.fail("the disk is full");
        let router = router(readiness, String::new);
        assert_eq!(ask(&router, "/livez").await.0, StatusCode::OK);
        assert_eq!(ask(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn metrics_are_served_as_prometheus_text() {
        let router = router(Readiness::new(Clock::System), || "tollgate_build_info 1\n".to_owned());
        assert_eq!(ask(&router, "/metrics").await.1, "tollgate_build_info 1\n");
    }
}
