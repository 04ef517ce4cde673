//! `tollgate feature override`.

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::catalogs,
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
        values::{instant, still_to_come},
    },
    clock::Clock,
    domain::{
        catalog::{
            error::did_you_mean,
            features::{FeatureDef, FeatureType},
        },
        features::feature_override::FeatureOverride,
        ids::{FeatureName, TenantId},
    },
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The tenant's id
    tenant: TenantId,
    /// The feature
    feature: FeatureName,
    /// The value: true or false, a number, a text, one of an enum's values, or JSON
    value: String,
    /// When it stops holding (RFC 3339, by the tenant's clock); never unless given
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    expires: Option<Timestamp>,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let Some(listed) = ledger.tenant(&args.tenant).await? else {
        bail!("there is no tenant {}; `tollgate tenant list` lists all", args.tenant);
    };
    still_to_come("--expires", args.expires, listed.tenant.now(Clock::System.now()))?;
    let name = &listed.tenant.subscription.plan.catalog;
    let found = catalogs::in_force(&ledger, name).await?;
    let (catalog, _) = found.with_context(|| format!("the catalog {name} is not stored"))?;
    let features = &catalog.definition().features;
    let Some(feature) = features.iter().find(|feature| feature.name == args.feature) else {
        let names = features.iter().map(|feature| feature.name.as_str());
        let remedy = did_you_mean(args.feature.as_str(), names);
        bail!("the catalog {name} has no feature {}; {remedy}", args.feature);
    };
    let actor = args.author.actor();
    let author = args.author.author(&actor);
    let wanted = FeatureOverride {
        feature: args.feature.clone(),
        value: value(feature, &args.value)?,
        expires_at: args.expires,
        reason: author.reason.to_owned(),
    };
    if wanted.reason.is_empty() {
        bail!("--reason: is missing; say why, for whoever finds the override later");
    }
    ledger.set_feature_override(&args.tenant, &wanted, author).await?;
    let until = args.expires.map_or_else(|| "for good".to_owned(), |at| format!("until {at}"));
    outln!("tenant {} has {} = {} {until}", args.tenant, args.feature, wanted.value);
    Ok(())
}

/// The value that was typed, in the feature's type.
fn value(feature: &FeatureDef, text: &str) -> anyhow::Result<Value> {
    let value = match feature.kind {
        FeatureType::String | FeatureType::Enum => Value::String(text.to_owned()),
        FeatureType::Boolean | FeatureType::Number | FeatureType::Json => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        }
    };
    if feature.kind == FeatureType::Json && value.as_str() == Some(text) {
        bail!("VALUE: {text} is not JSON; put a text in double quotes within single ones");
    }
    feature
        .value(&value)
        .map_err(|invalid| anyhow::anyhow!("VALUE: {}; {}", invalid.problem, invalid.remedy))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(kind: &str) -> FeatureDef {
        let values = if kind == "enum" { vec!["low", "high"] } else { vec![] };
        let json = serde_json::json!({"name": "editor", "type": kind, "values": values});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_typed_becomes_a_value_of_the_features_type() {
        let read = |kind, text| value(&feature(kind), text).unwrap();
        assert_eq!(read("boolean", "true"), Value::Bool(true));
        assert_eq!(read("number", "7"), Value::from(7));
        assert_eq!(read("string", "7"), Value::from("7"));
        assert_eq!(read("enum", "high"), Value::from("high"));
        assert_eq!(read("json", "{\"a\":1}"), serde_json::json!({"a": 1}));
    }

    #[test]
    fn what_does_not_fit_says_what_to_give() {
        let told = |kind, text| value(&feature(kind), text).unwrap_err().to_string();
        assert!(told("boolean", "yes").contains("use true or false"), "{}", told("boolean", "yes"));
        assert!(told("enum", "middle").contains("low, high"));
        assert!(told("json", "{a").contains("is not JSON"));
        assert!(told("number", "many").contains("use a number"));
    }
}
