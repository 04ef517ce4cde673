//! The OpenAPI document, made of the protos' descriptors and what they say in words.
//!
//! `docs/openapi.json` is a copy of it for those who have no sidecar at hand.

mod comments;
mod flags;
mod others;
mod paths;
mod schemas;

use std::sync::LazyLock;

use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};

use crate::proto::v1::FILE_DESCRIPTOR_SET;

/// The package whose messages the document describes.
const PACKAGE: &str = "tollgate.v1";

const DESCRIPTION: &str = "\
May this tenant do this now? Every unary call of tollgate.v1.TollgateService as JSON, in proto's own \
mapping: whole numbers of 64 bits are text (requests may give numbers), times are RFC 3339, lengths of \
time are seconds (`1.5s`), enums are their names. Requests may write names as here or as in the proto \
(`idempotency_key`). What is absent in an answer is none.";

/// The document as text, made once.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        // Values of JSON always become text.
        serde_json::to_string_pretty(&document()).unwrap_or_default() + "\n"
    });
    &TEXT
}

fn document() -> Value {
    // The descriptors were compiled in, and are served by reflection too.
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let mut schemas = schemas::all(&files, PACKAGE);
    schemas.extend(others::schemas());
    schemas.extend(flags::schemas());
    let wait = "How many seconds to wait before it makes sense to come back.";
    let limits = "draft-ietf-httpapi-ratelimit-headers-10";
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate sidecar",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:7422", "description": "A sidecar on this machine." }],
        "security": [{ "token": [] }],
        "tags": [
            { "name": "calls", "description": "The calls of tollgate.v1.TollgateService." },
            { "name": "usage", "description": "Usage as others write it." },
            { "name": "flags", "description": "Features as OpenFeature asks for them (OFREP)." },
            { "name": "process", "description": "How the process is." },
        ],
        "paths": paths::all(&files, PACKAGE),
        "components": {
            "schemas": schemas,
            "responses": {
                "Refused": {
                    "description": "The call failed. `400` INVALID_ARGUMENT, FAILED_PRECONDITION, \
                        OUT_OF_RANGE; `401` UNAUTHENTICATED; `403` PERMISSION_DENIED; `404` \
                        NOT_FOUND; `409` ALREADY_EXISTS; `429` RESOURCE_EXHAUSTED; `500` INTERNAL; \
                        `501` UNIMPLEMENTED; `503` UNAVAILABLE; `504` DEADLINE_EXCEEDED.",
                    "headers": { "Retry-After": { "$ref": "#/components/headers/Retry-After" } },
                    "content": {
                        "application/json": { "schema": schemas::reference("Status") },
                    },
                },
            },
            "headers": {
                "Retry-After": { "description": wait, "schema": { "type": "integer" } },
                "RateLimit-Policy": {
                    "description": format!("{limits}: each limit's units (q) and window (w)."),
                    "schema": { "type": "string" },
                },
                "RateLimit": {
                    "description": format!("{limits}: what is left of each (r), and until when (t)."),
                    "schema": { "type": "string" },
                },
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`tollgate token create`. Not asked for where access is open.",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with the file, or writes it when `TOLLGATE_BLESS` is set.
    #[test]
    fn the_copy_in_the_documentation_is_what_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        if std::env::var_os("TOLLGATE_BLESS").is_some() {
            std::fs::write(path, text()).unwrap();
        }
        let copy = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            copy == text(),
            "docs/openapi.json is not what is served: run TOLLGATE_BLESS=1 cargo test openapi"
        );
    }

    #[test]
    fn every_route_is_in_the_document() {
        let document = document();
        let mut paths = vec![concat!(env!("CARGO_MANIFEST_DIR"), "/src/http").into()];
        let mut routes = 0;
        while let Some(path) = paths.pop() {
            let path: std::path::PathBuf = path;
            if path.is_dir() {
                paths.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let served = text.split("#[cfg(test)]").next().unwrap();
            for route in served.split(".route(").skip(1) {
                let route = route.trim_start();
                // Those of the calls come from the descriptors on both sides.
                let Some(literal) = route.strip_prefix('"') else { continue };
                let literal = literal.split('"').next().unwrap();
                assert!(document["paths"].get(literal).is_some(), "{literal} of {path:?}");
                routes += 1;
            }
        }
        assert!(routes >= 7, "{routes}");
    }

    #[test]
    fn what_the_protos_say_is_in_the_document() {
        let document = document();
        let quota = &document["paths"]["/v1/check-quota"]["post"];
        assert_eq!(quota["operationId"], "CheckQuota");
        assert!(quota["description"].as_str().unwrap().contains("ALREADY_EXISTS"));
        let request = &document["components"]["schemas"]["CheckQuotaRequest"];
        let required: Vec<_> = request["required"].as_array().unwrap().iter().collect();
        assert_eq!(required, ["tenant", "meter", "amount", "mode"]);
        let mode = document["components"]["schemas"]["Mode"]["description"].as_str().unwrap();
        assert!(mode.contains("`MODE_CHECK`: Looks only."), "{mode}");
        let answer = &document["components"]["schemas"]["CheckQuotaResponse"];
        assert!(answer["required"].as_array().unwrap().contains(&"allowed".into()));
    }
}
