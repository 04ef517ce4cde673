//! The paths: those of the calls, made of the service's descriptor, and the others.

use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use serde_json::{Map, Value, json};

use super::{
    comments::{Comments, METHOD, SERVICE, first_sentence},
    schemas::{reference, short},
};
use crate::proto::calls;

/// Answers that a limit may deny, with `429`.
const LIMITED: [&str; 3] = ["CheckQuota", "CheckRateLimit", "Check"];

/// Every call's name and path.
fn mirrored() -> Vec<(&'static str, &'static str)> {
    macro_rules! list {
        (unary {$($name:ident $call:ident $request:ident $response:ident $path:literal;)*}
         answers_stream {$($watch:ident $w_call:ident $w_request:ident $w_response:ident
                           $w_path:literal;)*}
         streams {$($left_to_grpc:tt)*}) => {
            vec![$((stringify!($name), $path),)* $((stringify!($watch), $w_path),)*]
        };
    }
    calls!(list)
}

/// All paths of the document.
pub fn all(files: &FileDescriptorSet, package: &str) -> Map<String, Value> {
    let mut paths = Map::new();
    let mirrored = mirrored();
    for file in files.file.iter().filter(|file| file.package() == package) {
        let comments = Comments::of(file);
        for (at, service) in file.service.iter().enumerate() {
            for (number, method) in service.method.iter().enumerate() {
                let words = comments.at(&[SERVICE as usize, at, METHOD as usize, number]);
                let path = mirrored.iter().find(|(name, _)| *name == method.name());
                if let Some((_, path)) = path {
                    let call = operation(method, method.name(), words);
                    paths.insert((*path).to_owned(), json!({ "post": call }));
                }
                if method.name() == "RecordUsage" {
                    let call = operation(method, "RecordUsageShort", words);
                    paths.insert("/v1/usage".to_owned(), json!({ "post": call }));
                }
            }
        }
    }
    paths.extend(super::others::all());
    paths.extend(super::flags::all());
    paths
}

fn operation(method: &MethodDescriptorProto, id: &str, words: &str) -> Value {
    let answer = reference(method.output_type());
    let mut responses = Map::new();
    let body = |kind: &str, schema: Value| json!({ kind: { "schema": schema } });
    if method.server_streaming() {
        let told = format!(
            "Server-sent events: each `data` is a {} as JSON; an event `error` at the end of a \
             stream that failed.",
            short(method.output_type())
        );
        let content = body("text/event-stream", json!({ "type": "string" }));
        responses.insert("200".into(), json!({ "description": told, "content": content }));
    } else {
        let content = body("application/json", answer.clone());
        responses.insert("200".into(), json!({ "description": "The answer.", "content": content }));
    }
    if LIMITED.contains(&method.name()) {
        let headers = json!({
            "RateLimit-Policy": { "$ref": "#/components/headers/RateLimit-Policy" },
            "RateLimit": { "$ref": "#/components/headers/RateLimit" },
        });
        responses["200"]["headers"] = headers.clone();
        let mut denied = headers;
        let told = "Denied in a taking mode because the tenant's subscription is not active, or its \
                    plan has nothing of it: the answer, with `allowed` false (`200` with `Prefer: \
                    denial-status=200`). Or the token may not do it: a `Status`.";
        let either = json!({ "anyOf": [answer, reference("Status")] });
        responses.insert(
            "403".into(),
            json!({ "description": told, "content": body("application/json", either) }),
        );
        denied["Retry-After"] = json!({ "$ref": "#/components/headers/Retry-After" });
        let told = "Denied by a rate or a quota in a taking mode: the answer, with `allowed` false \
                    (`200` with `Prefer: denial-status=200`). Or the sidecar cannot take more now: \
                    a `Status`.";
        let either = json!({ "anyOf": [answer, reference("Status")] });
        responses.insert(
            "429".into(),
            json!({
                "description": told,
                "headers": denied,
                "content": body("application/json", either),
            }),
        );
    }
    responses.insert("default".into(), json!({ "$ref": "#/components/responses/Refused" }));
    json!({
        "operationId": id,
        "summary": first_sentence(words),
        "description": words,
        "tags": ["calls"],
        "requestBody": {
            "required": true,
            "content": body("application/json", reference(method.input_type())),
        },
        "responses": responses,
    })
}
