//! The paths that are no calls of the proto.

use serde_json::{Map, Value, json};

use super::schemas::reference;

/// Each path with its operations.
pub fn all() -> Map<String, Value> {
    let text = |told: &str| {
        json!({
            "description": told,
            "content": { "text/plain": { "schema": { "type": "string" } } },
        })
    };
    let refused = json!({ "$ref": "#/components/responses/Refused" });
    let paths = json!({
        "/v1/events": { "post": events(&refused) },
        "/openapi.json": { "get": {
            "operationId": "GetOpenApi",
            "summary": "This document",
            "tags": ["process"],
            "security": [{}],
            "responses": {
                "200": {
                    "description": "OpenAPI 3.1.",
                    "content": { "application/json": { "schema": { "type": "object" } } },
                },
                "default": refused,
            },
        } },
        "/livez": { "get": {
            "operationId": "GetLiveness",
            "summary": "Whether a restart would mend nothing",
            "tags": ["process"],
            "security": [{}],
            "responses": { "200": text("It lives."), "503": text("A task has died.") },
        } },
        "/readyz": { "get": {
            "operationId": "GetReadiness",
            "summary": "Whether work should come here, with every condition and its reason",
            "tags": ["process"],
            "security": [{}],
            "responses": {
                "200": readiness("Ready, perhaps on a fallback."),
                "503": readiness("Work should go elsewhere."),
                "default": refused,
            },
        } },
        "/metrics": { "get": {
            "operationId": "GetMetrics",
            "summary": "Metrics in Prometheus' text format",
            "tags": ["process"],
            "security": [{}],
            "responses": { "200": text("The metrics."), "default": refused },
        } },
    });
    match paths {
        Value::Object(paths) => paths,
        _ => Map::new(),
    }
}

fn readiness(told: &str) -> Value {
    json!({
        "description": told,
        "content": { "application/json": { "schema": { "type": "object" } } },
    })
}

fn events(refused: &Value) -> Value {
    let event = json!({
        "type": "object",
        "description": "A CloudEvent 1.0; docs/http.md says what of it is counted.",
        "required": ["specversion", "id", "source", "type", "subject", "data"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": { "type": "string" },
            "source": { "type": "string", "format": "uri-reference" },
            "type": { "type": "string" },
            "subject": { "type": "string", "description": "The tenant." },
            "time": { "type": "string", "format": "date-time" },
            "data": reference("CloudEventUsage"),
        },
    });
    json!({
        "operationId": "RecordCloudEvents",
        "summary": "Records usage that comes as CloudEvents",
        "description": "One event in structured or in binary mode (`ce-` headers, the data as the \
                        body), or a batch, which is all or nothing.",
        "tags": ["usage"],
        "requestBody": { "required": true, "content": {
            "application/cloudevents+json": { "schema": event },
            "application/cloudevents-batch+json": {
                "schema": { "type": "array", "items": event, "minItems": 1 },
            },
            "application/json": { "schema": reference("CloudEventUsage") },
        } },
        "responses": {
            "200": {
                "description": "Every event is recorded, as durable as the sidecar's default says.",
                "content": { "application/json": { "schema": reference("RecordUsageResponse") } },
            },
            "default": refused,
        },
    })
}

/// The schemas of what is no message of the proto.
pub fn schemas() -> Map<String, Value> {
    let schemas = json!({
        "Status": {
            "type": "object",
            "description": "google.rpc.Status: why a call failed.",
            "required": ["code", "message", "details"],
            "additionalProperties": false,
            "properties": {
                "code": { "type": "integer", "description": "google.rpc.Code: 3 = INVALID_ARGUMENT, …" },
                "message": { "type": "string", "description": "For people." },
                "details": {
                    "type": "array",
                    "description": "google.rpc.ErrorInfo (`reason`, for programs), BadRequest \
                                    (`fieldViolations`), RetryInfo, ResourceInfo, \
                                    PreconditionFailure.",
                    "items": {
                        "type": "object",
                        "required": ["@type"],
                        "properties": { "@type": { "type": "string" } },
                    },
                },
            },
        },
        "CloudEventUsage": {
            "type": "object",
            "required": ["meter", "amount"],
            "properties": {
                "meter": { "type": "string", "description": "A meter of the tenant's catalog." },
                "amount": { "type": ["integer", "string"], "description": "Base units." },
                "subject": { "type": "string", "description": "Something within the tenant." },
                "reservationId": { "type": "string", "description": "The hold that it settles." },
                "properties": { "type": "object", "additionalProperties": { "type": "string" } },
            },
            "additionalProperties": false,
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
