//! Whom flags are evaluated for: OFREP's evaluation context as our calls ask.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::failure::Failure;
use crate::{
    domain::{
        features::query::{ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX},
        ids::TenantId,
    },
    http::body::parse,
};

/// The context's name of the tenant.
const TARGETING_KEY: &str = "targetingKey";
/// The context's name of whom rollouts are decided by within the tenant.
const SUBJECT: &str = "subject";

/// Whom features are asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asker {
    pub tenant: String,
    /// Empty = the tenant itself.
    pub subject: String,
    pub attributes: BTreeMap<String, String>,
}

impl Asker {
    /// Reads a request. Who says no tenant means that of its token, where it has one.
    pub fn read(body: &[u8], of_token: Option<&TenantId>) -> Result<Self, Failure> {
        let request: Map<String, Value> = parse(body).map_err(|bad| Failure::parse(&bad))?;
        let context = match request.get("context") {
            // SDKs leave an empty one out.
            None | Some(Value::Null) => &Map::new(),
            Some(Value::Object(context)) => context,
            Some(_) => return Err(Failure::context("context is no object")),
        };
        let tenant = match (context.get(TARGETING_KEY), of_token) {
            (None | Some(Value::Null), Some(tenant)) => tenant.to_string(),
            (Some(Value::String(key)), Some(tenant)) if key.is_empty() => tenant.to_string(),
            (Some(Value::String(key)), _) if !key.is_empty() => key.clone(),
            (None | Some(Value::Null | Value::String(_)), _) => {
                return Err(Failure::no_targeting_key());
            }
            (Some(_), _) => return Err(Failure::context("targetingKey is no text")),
        };
        let subject = match context.get(SUBJECT) {
            None | Some(Value::Null) => String::new(),
            Some(subject) => text(subject)
                .ok_or_else(|| Failure::context("subject is neither text nor a number"))?,
        };
        let attributes = context
            .iter()
            .filter(|(name, _)| ![TARGETING_KEY, SUBJECT].contains(&name.as_str()))
            .filter_map(|(name, value)| Some((name.clone(), text(value)?)))
            // No rule can go by these, and applications put much into a context.
            .filter(|(name, value)| {
                (1..=ATTRIBUTE_NAME_BYTES_MAX).contains(&name.len())
                    && value.len() <= ATTRIBUTE_VALUE_BYTES_MAX
            })
            .collect();
        Ok(Self { tenant, subject, attributes })
    }
}

/// A value as rules compare it; `None` for what no rule can name.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::ofrep::failure::ErrorCode;

    fn read(request: &Value) -> Result<Asker, ErrorCode> {
        Asker::read(request.to_string().as_bytes(), None).map_err(|failure| failure.code)
    }

    #[test]
    fn the_key_is_the_tenant_and_what_rules_can_name_are_attributes() {
        let asker = read(&json!({ "context": {
            "targetingKey": "acme", "subject": 7, "country": "GB", "age": 30, "beta": true,
            "nested": { "a": 1 }, "none": null, "long": "x".repeat(257),
        } }))
        .unwrap();
        assert_eq!((asker.tenant.as_str(), asker.subject.as_str()), ("acme", "7"));
        let named = [("age", "30"), ("beta", "true"), ("country", "GB")];
        let named = named.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(asker.attributes, BTreeMap::from(named));
    }

    #[test]
    fn what_is_no_context_is_told_by_its_code() {
        assert_eq!(read(&json!({})), Err(ErrorCode::TargetingKeyMissing));
        assert_eq!(read(&json!({ "context": {} })), Err(ErrorCode::TargetingKeyMissing));
        let empty = json!({ "context": { "targetingKey": "" } });
        assert_eq!(read(&empty), Err(ErrorCode::TargetingKeyMissing));
        let number = json!({ "context": { "targetingKey": 5 } });
        assert_eq!(read(&number), Err(ErrorCode::InvalidContext));
        assert_eq!(read(&json!({ "context": "acme" })), Err(ErrorCode::InvalidContext));
        let subject = json!({ "context": { "targetingKey": "acme", "subject": {} } });
        assert_eq!(read(&subject), Err(ErrorCode::InvalidContext));
        assert_eq!(read(&json!([])), Err(ErrorCode::ParseError));
    }

    #[test]
    fn a_token_for_one_tenant_says_who_where_the_context_does_not() {
        let acme = TenantId::new("acme").unwrap();
        let read = |text: &str| Asker::read(text.as_bytes(), Some(&acme)).unwrap().tenant;
        for text in ["", "{}", r#"{"context":{}}"#, r#"{"context":{"targetingKey":""}}"#] {
            assert_eq!(read(text), "acme", "{text:?}");
        }
        // Whether it may is for those to say who ask everybody.
        assert_eq!(read(r#"{"context":{"targetingKey":"globex"}}"#), "globex");
    }
}
