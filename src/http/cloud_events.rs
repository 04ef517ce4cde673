//! `POST /v1/events`: usage as CloudEvents 1.0, in structured, binary and batch mode.
//!
//! | CloudEvent | usage event |
//! | --- | --- |
//! | `subject` | the tenant |
//! | `source` and `id` | the idempotency key (they name an event for good) |
//! | `time` | when it happened |
//! | `data` | `meter`, `amount`, `subject`, `properties`, `reservationId` |
//! | the last part of `type` | the meter, where `data` names none |
//!
//! It is then recorded as any other: a batch is all or nothing.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Json, Router,
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::post,
};
use cloudevents::{AttributesReader, Data, Event};
use percent_encoding::percent_decode;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tonic::Status;

use super::{
    body::{Bodies, parse},
    mirror::{carrying, contained},
    refused::{CONTENT_TYPE, Refused, unsupported},
    told::cut,
};
use crate::{
    api::{status::status, usage::BATCH_EVENTS_MAX},
    domain::invalid::{Invalid, Problems},
    proto::{v1, v1::tollgate_service_server::TollgateService},
};

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
/// The version of CloudEvents that is taken.
const SPEC_VERSION: &str = "1.0";
/// What headers of an event in binary mode begin with.
const HEADER: &str = "ce-";
/// What the envelope says, and data may not say otherwise.
const OF_THE_ENVELOPE: [&str; 4] = ["tenant", "time", "idempotencyKey", "idempotency_key"];

/// The route.
pub fn routes<T: TollgateService>(service: &Arc<T>, bodies: &Bodies) -> Router {
    let parts = (service.clone(), bodies.clone());
    Router::new().route(
        "/v1/events",
        post(async move |request: Request| {
            let (service, bodies) = parts;
            record(request, &*service, &bodies).await.unwrap_or_else(|s| Refused(s).into_response())
        }),
    )
}

async fn record<T: TollgateService>(
    request: Request,
    service: &T,
    bodies: &Bodies,
) -> Result<Response, Status> {
    let (head, body) = request.into_parts();
    let mode =
        EventMode::of(&head.headers).map_err(|invalid| unsupported(CONTENT_TYPE, invalid))?;
    let body = bodies.read(&head.headers, body).await?;
    let events = read(mode, &head.headers, &body.bytes);
    let events = events.map_err(|problems| status(problems.into()))?;
    let message = v1::RecordUsageRequest { events, durability: 0 };
    let receipt = contained(service.record_usage(carrying(message, head.extensions))).await?;
    Ok(Json(receipt.into_inner()).into_response())
}

/// How a request carries events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventMode {
    /// One, with everything in the body.
    Structured,
    /// One, with only the data in the body.
    Binary,
    /// Several in the body.
    Batch,
}

impl EventMode {
    fn of(headers: &HeaderMap) -> Result<Self, Invalid> {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let content_type = String::from_utf8_lossy(content_type.unwrap_or_default());
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        let is_binary = headers.contains_key("ce-specversion");
        match essence.as_str() {
            BATCH => Ok(Self::Batch),
            ONE => Ok(Self::Structured),
            // SDKs leave the type of JSON out.
            "" | "application/json" if is_binary => Ok(Self::Binary),
            json if is_binary && json.ends_with("+json") => Ok(Self::Binary),
            _ if is_binary => {
                let problem = format!("is {}", cut(&essence));
                let remedy = "send the data as application/json";
                Err(Invalid::new("content-type", problem, remedy))
            }
            _ => {
                let problem = format!("is {:?}, and there is no ce-specversion", cut(&essence));
                let remedy = format!("send {ONE}, {BATCH}, or an event in binary mode");
                Err(Invalid::new("content-type", problem, remedy))
            }
        }
    }
}

/// The usage that a request carries.
fn read(
    mode: EventMode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<v1::UsageEvent>, Problems> {
    let events = match mode {
        EventMode::Structured => vec![parse(body)?],
        EventMode::Binary => vec![binary(headers, body)?],
        EventMode::Batch => {
            let events: Vec<Value> = parse(body)?;
            if events.len() > BATCH_EVENTS_MAX {
                let problem = format!("has {} entries", events.len());
                let remedy = format!("send at most {BATCH_EVENTS_MAX} in one batch");
                return Err(Invalid::new("events", problem, remedy).into());
            }
            events
        }
    };
    let mut problems = Problems::default();
    let mut usage = Vec::with_capacity(events.len());
    for (number, event) in events.into_iter().enumerate() {
        let read = usage_event(event);
        let event = problems.keep(read.map_err(|bad| bad.within(&format!("events[{number}]"))));
        usage.extend(event);
    }
    problems.into_result()?;
    Ok(usage)
}

/// An event in binary mode, in the form that structured mode has.
fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Value, Invalid> {
    let mut event = Map::new();
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix(HEADER) {
            let unquoted = unquoted(value.as_bytes());
            let decoded = percent_decode(&unquoted).decode_utf8().map_err(|_| {
                Invalid::new(name.as_str(), "is not UTF-8", "percent-encode what is not ASCII")
            })?;
            if event.insert(attribute.to_owned(), decoded.into()).is_some() {
                return Err(Invalid::new(name.as_str(), "is given twice", "give it once"));
            }
        }
    }
    event.insert("datacontenttype".to_owned(), "application/json".into());
    event.insert("data".to_owned(), parse(body)?);
    Ok(Value::Object(event))
}

/// What stands between quotes, as section 3.1.3.2 of the HTTP binding has it; a value without them
/// as it is.
fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return value.into();
    };
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        let escaped = if *byte == b'\\' { bytes.next() } else { None };
        plain.push(*escaped.unwrap_or(byte));
    }
    plain.into()
}

/// What an event says was used.
fn usage_event(event: Value) -> Result<v1::UsageEvent, Invalid> {
    check_version(&event)?;
    let event: Event = serde_json::from_value(event).map_err(|error| {
        let remedy = "give specversion 1.0, id, source, type, subject and data";
        Invalid::new("event", format!("is no CloudEvent ({error})"), remedy)
    })?;
    names_it("id", event.id())?;
    names_it("source", event.source())?;
    let tenant = event.subject().unwrap_or_default();
    if tenant.is_empty() {
        return Err(Invalid::new("subject", "is missing", "give the tenant"));
    }
    let Some(Data::Json(Value::Object(data))) = event.data() else {
        let remedy = "give an object with meter and amount, as JSON";
        return Err(Invalid::new("data", "is no JSON object", remedy));
    };
    if let Some(name) = OF_THE_ENVELOPE.iter().find(|name| data.contains_key(**name)) {
        let remedy = "leave it out: subject, time, source and id of the event say it";
        return Err(Invalid::new(format!("data.{name}"), "is not part of the data", remedy));
    }
    let mut usage = data.clone();
    if !usage.contains_key("meter") {
        let meter = event.ty().rsplit('.').next().unwrap_or_default();
        usage.insert("meter".to_owned(), meter.into());
    }
    usage.insert("tenant".to_owned(), tenant.into());
    usage.insert("idempotencyKey".to_owned(), key(&event).into());
    if let Some(time) = event.time() {
        usage.insert("time".to_owned(), json!(time.to_rfc3339()));
    }
    let usage = serde_json::to_vec(&usage).unwrap_or_default();
    parse(&usage).map_err(|invalid| invalid.within("data"))
}

/// Checks the version of CloudEvents that an event is of: attributes of others mean other things.
fn check_version(event: &Value) -> Result<(), Invalid> {
    let Value::Object(attributes) = event else { return Ok(()) };
    let problem = match attributes.get("specversion") {
        Some(Value::String(version)) if version == SPEC_VERSION => return Ok(()),
        Some(other) => format!("is {}", cut(&other.to_string())),
        None => "is missing".to_owned(),
    };
    Err(Invalid::new("specversion", problem, format!("send events of version {SPEC_VERSION}")))
}

/// Checks what names an event: without it, all such events would be one.
fn names_it(field: &str, value: &str) -> Result<(), Invalid> {
    if value.is_empty() {
        return Err(Invalid::new(field, "is empty", "give what names the event for good"));
    }
    if value.chars().any(char::is_control) {
        let remedy = "leave it out, as CloudEvents 1.0 says of all text";
        return Err(Invalid::new(field, "contains a control character", remedy));
    }
    Ok(())
}

/// The key of an event: the same for the same source and id, and for no others. They may be longer
/// than a key, and of other characters.
fn key(event: &Event) -> String {
    idempotency_key(event.source(), event.id())
}

/// The idempotency key of the event that `source` calls `id`.
pub fn idempotency_key(source: &str, id: &str) -> String {
    let mut hash = Sha256::new();
    // Neither contains it (`names_it`).
    hash.update(source.as_bytes());
    hash.update([0]);
    hash.update(id.as_bytes());
    let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("ce-{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Value {
        json!({
            "specversion": "1.0",
            "id": "42",
            "source": "/shop/1",
            "type": "com.example.tokens",
            "subject": "acme",
            "time": "2026-11-21T10:00:00+01:00",
            "data": { "amount": 5, "properties": { "model": "small" } },
        })
    }

    fn headers(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())])
    }

    fn read_as(headers: &HeaderMap, body: &[u8]) -> Result<Vec<v1::UsageEvent>, Problems> {
        read(EventMode::of(headers)?, headers, body)
    }

    fn structured(event: &Value) -> Result<v1::UsageEvent, String> {
        let read = read_as(&headers(ONE), event.to_string().as_bytes());
        let mut read = read.map_err(|problems| problems.listed()[0].field.clone())?;
        Ok(read.remove(0))
    }

    #[test]
    fn an_event_becomes_usage_with_a_key_of_its_source_and_id() {
        let usage = structured(&event()).unwrap();
        assert_eq!((usage.tenant.as_str(), usage.meter.as_str()), ("acme", "tokens"));
        assert_eq!((usage.amount, usage.properties["model"].as_str()), (Some(5), "small"));
        assert_eq!(usage.time.unwrap().seconds, 1_795_251_600);
        let key = usage.idempotency_key;
        assert_eq!(structured(&event()).unwrap().idempotency_key, key);
        let other = json!({ "source": "/shop/2" });
        let mut moved = event();
        moved["source"] = other["source"].clone();
        assert_ne!(structured(&moved).unwrap().idempotency_key, key);
        let mut named = event();
        named["data"]["meter"] = "calls".into();
        assert_eq!(structured(&named).unwrap().meter, "calls");
    }

    #[test]
    fn binary_mode_says_the_same() {
        let mut headers = headers("application/json; charset=utf-8");
        let whole = event();
        for (name, value) in whole.as_object().unwrap() {
            if let Some(value) = value.as_str() {
                let name = header::HeaderName::try_from(format!("ce-{name}")).unwrap();
                headers.insert(name, value.parse().unwrap());
            }
        }
        let body = whole["data"].to_string();
        let read = read_as(&headers, body.as_bytes()).unwrap();
        assert_eq!(read, [structured(&event()).unwrap()]);
        headers.append("ce-id", "43".parse().unwrap());
        let problems = read_as(&headers, body.as_bytes()).unwrap_err();
        assert_eq!(problems.listed()[0].field, "ce-id", "it has two names");
    }

    #[test]
    fn an_event_of_another_version_than_1_0_is_refused_in_every_mode() {
        let mut old = event();
        old["specversion"] = "0.3".into();
        assert_eq!(structured(&old).unwrap_err(), "events[0].specversion");
        let batch = Value::from(vec![event(), old]).to_string();
        let problems = read_as(&headers(BATCH), batch.as_bytes()).unwrap_err();
        assert_eq!(problems.listed()[0].field, "events[1].specversion");
        assert!(problems.to_string().contains("0.3"), "{problems}");
        let mut headers = headers("application/json");
        let attributes = [("specversion", "0.3"), ("id", "42"), ("source", "/s")];
        for (name, value) in attributes.into_iter().chain([("type", "a.b"), ("subject", "acme")]) {
            let name = header::HeaderName::try_from(format!("ce-{name}")).unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        let problems = read_as(&headers, br#"{"amount":1}"#).unwrap_err();
        assert_eq!(problems.listed()[0].field, "events[0].specversion");
    }

    #[test]
    fn header_values_may_stand_in_quotes() {
        let told = |value: &'static str| {
            let unquoted = unquoted(value.as_bytes()).into_owned();
            percent_decode(&unquoted).decode_utf8().unwrap().into_owned()
        };
        assert_eq!(told("/shop/1"), "/shop/1");
        assert_eq!(told(r#""/shop/1""#), "/shop/1");
        assert_eq!(told(r#""a \"b\" \\ %E2%82%AC""#), r#"a "b" \ €"#);
        assert_eq!(told("\""), "\"");
        let mut headers = headers("application/json");
        let quoted = [("specversion", "1.0"), ("id", "42"), ("source", "/s"), ("type", "a.tokens")];
        for (name, value) in quoted.into_iter().chain([("subject", "acme")]) {
            let name = header::HeaderName::try_from(format!("ce-{name}")).unwrap();
            headers.insert(name, format!("\"{value}\"").parse().unwrap());
        }
        assert_eq!(read_as(&headers, br#"{"amount":1}"#).unwrap()[0].tenant, "acme");
    }

    #[test]
    fn one_bad_event_refuses_the_batch_and_is_named() {
        let mut bad = event();
        bad["subject"] = "".into();
        let batch = Value::from(vec![event(), bad]).to_string();
        let problems = read_as(&headers(BATCH), batch.as_bytes()).unwrap_err();
        assert_eq!(problems.listed()[0].field, "events[1].subject");
        let batch = Value::from(vec![event(), event()]).to_string();
        assert_eq!(read_as(&headers(BATCH), batch.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_usage_is_told_by_its_field() {
        let told = |change: &dyn Fn(&mut Value)| {
            let mut event = event();
            change(&mut event);
            structured(&event).unwrap_err()
        };
        assert_eq!(told(&|event| event["data"] = 5.into()), "events[0].data");
        assert_eq!(told(&|event| event["specversion"] = "9".into()), "events[0].specversion");
        assert_eq!(told(&|event| event["specversion"] = 1.0.into()), "events[0].specversion");
        assert_eq!(told(&|event| event["data"]["amount"] = "x".into()), "events[0].data.amount");
        assert_eq!(told(&|event| event["data"]["tenant"] = "b".into()), "events[0].data.tenant");
        assert_eq!(told(&|event| event["id"] = "".into()), "events[0].id");
        assert_eq!(told(&|event| event["source"] = "a\0b".into()), "events[0].source");
        let none = read_as(&headers("text/plain"), b"").unwrap_err();
        assert_eq!(none.listed()[0].field, "content-type");
    }
}
