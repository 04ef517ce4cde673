//! The OpenFeature Remote Evaluation Protocol 0.3 (OFREP): features as flags, for the providers that
//! OpenFeature's SDKs have for it.
//!
//! `POST /ofrep/v1/evaluate/flags/{key}` is `CheckFeature`, `POST /ofrep/v1/evaluate/flags`
//! `ListFeatures`, with an `ETag` so that who asks again is only told of changes. They go through
//! the same calls as every other face, and so through the same check of who asks.

mod context;
mod failure;
mod flag;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Request, rejection::PathRejection},
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_128;

use self::{context::Asker, failure::Failure, flag::flag};
use super::{
    body::{Bodies, require_json},
    mirror::{carrying, contained},
};
use crate::{
    api::access::Caller,
    domain::ids::FeatureName,
    proto::{v1, v1::tollgate_service_server::TollgateService},
};

/// The routes.
pub fn routes<T: TollgateService>(service: &Arc<T>, bodies: &Bodies) -> Router {
    let for_one = (service.clone(), bodies.clone());
    let for_all = for_one.clone();
    Router::new()
        .route(
            "/ofrep/v1/evaluate/flags/{key}",
            post(async move |key: Result<Path<String>, PathRejection>, request: Request| {
                let (service, bodies) = for_one;
                // What is no UTF-8 names nothing.
                let key = key.map(|Path(key)| key).unwrap_or_default();
                let answer = one(&key, request, &*service, &bodies).await;
                answer.unwrap_or_else(|failure| failure.of(&key).into_response())
            }),
        )
        .route(
            "/ofrep/v1/evaluate/flags",
            post(async move |request: Request| {
                let (service, bodies) = for_all;
                let answer = all(request, &*service, &bodies).await;
                answer.unwrap_or_else(IntoResponse::into_response)
            }),
        )
}

async fn one<T: TollgateService>(
    key: &str,
    request: Request,
    service: &T,
    bodies: &Bodies,
) -> Result<Response, Failure> {
    let (asker, extensions) = asker(request, bodies).await?;
    if FeatureName::new(key).is_err() {
        return Err(Failure::not_found("there is no such flag: this is no name of a feature"));
    }
    let message = v1::CheckFeatureRequest {
        tenant: asker.tenant,
        feature: key.to_owned(),
        subject: asker.subject,
        attributes: asker.attributes,
    };
    let answer = contained(service.check_feature(carrying(message, extensions))).await?;
    let access = answer.into_inner().feature.unwrap_or_default();
    Ok(Json(flag(access)).into_response())
}

async fn all<T: TollgateService>(
    request: Request,
    service: &T,
    bodies: &Bodies,
) -> Result<Response, Failure> {
    let known = request.headers().clone();
    let (asker, extensions) = asker(request, bodies).await?;
    let message = v1::ListFeaturesRequest {
        tenant: asker.tenant,
        subject: asker.subject,
        attributes: asker.attributes,
    };
    let answer = contained(service.list_features(carrying(message, extensions))).await?;
    let flags = answer.into_inner().features.into_iter().map(flag);
    let body = json!({ "flags": flags.collect::<Vec<Value>>() }).to_string();
    let digest = format!("{:032x}", xxh3_128(body.as_bytes()));
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{digest}\"")) {
        headers.insert(header::ETAG, etag);
    }
    if is_known(&known, &digest) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((headers, body).into_response())
}

/// Whom features are asked for, and what the layers before have found out about who asks.
async fn asker(request: Request, bodies: &Bodies) -> Result<(Asker, Extensions), Failure> {
    let (head, body) = request.into_parts();
    require_json(&head.headers).map_err(Failure::unreadable)?;
    let read = bodies.read(&head.headers, body).await.map_err(Failure::unreadable)?;
    let of_token = head.extensions.get::<Caller>().and_then(Caller::tenant);
    let asker = Asker::read(&read.bytes, of_token)?;
    Ok((asker, head.extensions))
}

/// Whether the caller has what `digest` is of. Quotes may be missing, as in the protocol's example.
fn is_known(headers: &HeaderMap, digest: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == digest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_every_manner_that_clients_write_it() {
        let is_known = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            super::is_known(&HeaderMap::from_iter([(header::IF_NONE_MATCH, value)]), "ab")
        };
        for known in ["\"ab\"", "W/\"ab\"", "ab", "*", "\"x\", \"ab\""] {
            assert!(is_known(known), "{known}");
        }
        for other in ["\"abc\"", "\"\"", "a"] {
            assert!(!is_known(other), "{other}");
        }
        assert!(!super::is_known(&HeaderMap::new(), "ab"));
    }
}
