//! The paths of OFREP.

use serde_json::{Map, Value, json};

use super::schemas::reference;

/// Each path with its operation.
pub fn all() -> Map<String, Value> {
    let paths = json!({
        "/ofrep/v1/evaluate/flags/{key}": { "post": one() },
        "/ofrep/v1/evaluate/flags": { "post": bulk() },
    });
    match paths {
        Value::Object(paths) => paths,
        _ => Map::new(),
    }
}

fn failures() -> Value {
    let failed = |told: &str| {
        json!({
            "description": told,
            "content": { "application/json": { "schema": reference("OfrepFailure") } },
        })
    };
    json!({
        "400": failed("PARSE_ERROR, TARGETING_KEY_MISSING or INVALID_CONTEXT; an unknown tenant is the last."),
        "401": { "$ref": "#/components/responses/Refused" },
        "403": failed("The token is for another tenant."),
        "429": {
            "description": "The token or the sidecar is asked too much: a failure, or a Status.",
            "headers": { "Retry-After": { "$ref": "#/components/headers/Retry-After" } },
            "content": { "application/json": { "schema": {
                "anyOf": [reference("OfrepFailure"), reference("Status")],
            } } },
        },
        "default": failed("Nothing could be evaluated: GENERAL."),
    })
}

fn request() -> Value {
    json!({
        "required": true,
        "content": { "application/json": { "schema": reference("OfrepRequest") } },
    })
}

fn one() -> Value {
    let mut responses = failures();
    responses["200"] = json!({
        "description": "The flag as the tenant has it.",
        "content": { "application/json": { "schema": reference("OfrepFlag") } },
    });
    responses["404"] = json!({
        "description": "FLAG_NOT_FOUND.",
        "content": { "application/json": { "schema": reference("OfrepFailure") } },
    });
    json!({
        "operationId": "OfrepEvaluateFlag",
        "summary": "Evaluates one feature as a flag",
        "tags": ["flags"],
        "parameters": [{
            "name": "key",
            "in": "path",
            "required": true,
            "description": "The feature's name.",
            "schema": { "type": "string" },
        }],
        "requestBody": request(),
        "responses": responses,
    })
}

fn bulk() -> Value {
    let mut responses = failures();
    let etag = json!({ "ETag": { "schema": { "type": "string" } } });
    responses["200"] = json!({
        "description": "Every feature of the tenant's catalog.",
        "headers": etag,
        "content": { "application/json": { "schema": reference("OfrepFlags") } },
    });
    responses["304"] = json!({
        "description": "All is as the caller has it.",
        "headers": etag,
    });
    json!({
        "operationId": "OfrepEvaluateFlags",
        "summary": "Evaluates all features as flags",
        "tags": ["flags"],
        "parameters": [{
            "name": "If-None-Match",
            "in": "header",
            "required": false,
            "description": "The ETag of what the caller has.",
            "schema": { "type": "string" },
        }],
        "requestBody": request(),
        "responses": responses,
    })
}

/// The schemas of OFREP.
pub fn schemas() -> Map<String, Value> {
    let schemas = json!({
        "OfrepRequest": {
            "type": "object",
            "properties": { "context": {
                "type": "object",
                "description": "What targeting rules go by, by the names of the catalog's attributes.",
                "properties": {
                    "targetingKey": {
                        "type": "string",
                        "description": "The tenant. A token for one tenant may leave it out.",
                    },
                    "subject": {
                        "type": ["string", "number", "boolean"],
                        "description": "Whom rollouts are decided by within the tenant.",
                    },
                },
                "additionalProperties": true,
            } },
        },
        "OfrepFlag": {
            "type": "object",
            "required": ["key", "reason", "variant", "metadata"],
            "additionalProperties": false,
            "properties": {
                "key": { "type": "string", "description": "The feature's name." },
                "value": {
                    "description": "Absent where the tenant has none: the application's own default \
                                    holds.",
                },
                "reason": { "enum": ["STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"] },
                "variant": {
                    "type": "string",
                    "description": "The value of an enum; `on` or `off` of others.",
                },
                "metadata": {
                    "type": "object",
                    "required": ["reason"],
                    "additionalProperties": false,
                    "properties": {
                        "reason": {
                            "type": "string",
                            "description": "FeatureReason, without FEATURE_REASON_.",
                        },
                        "availableInPlan": { "type": "string" },
                        "overrideExpiresAt": { "type": "string", "format": "date-time" },
                        "sunsetAt": { "type": "string", "format": "date-time" },
                        "withdrawnAt": {
                            "type": "string",
                            "format": "date-time",
                            "description": "Present while tenants are to be told of it.",
                        },
                        "replacement": { "type": "string" },
                    },
                },
            },
        },
        "OfrepFlags": {
            "type": "object",
            "required": ["flags"],
            "additionalProperties": false,
            "properties": { "flags": { "type": "array", "items": reference("OfrepFlag") } },
        },
        "OfrepFailure": {
            "type": "object",
            "required": ["errorCode", "errorDetails"],
            "additionalProperties": false,
            "properties": {
                "key": { "type": "string", "description": "The flag that was asked for." },
                "errorCode": { "enum": [
                    "PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "FLAG_NOT_FOUND",
                    "GENERAL",
                ] },
                "errorDetails": { "type": "string" },
            },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
