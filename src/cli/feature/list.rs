//! `tollgate feature list`.

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::{
    api::catalogs,
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
    },
    clock::Clock,
    domain::{
        catalog::{compiled_catalog::CompiledCatalog, compiled_plan::CompiledPlan},
        features::{
            access::FeatureReason,
            compiled::Attributes,
            offered::{OfferedFeature, TenantFeatures},
        },
        ids::{Subject, TenantId},
    },
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The tenant's id
    tenant: TenantId,
    /// Whom rollouts are decided by within the tenant; the tenant itself unless given
    #[arg(long)]
    subject: Option<Subject>,
    /// What targeting goes by; may be given several times
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let Some(listed) = ledger.tenant(&args.tenant).await? else {
        bail!("there is no tenant {}; `tollgate tenant list` lists all", args.tenant);
    };
    let tenant = listed.tenant;
    let version = &tenant.subscription.plan;
    let found = catalogs::in_force(&ledger, &version.catalog).await?;
    let (catalog, _) =
        found.with_context(|| format!("the catalog {} is not stored", version.catalog))?;
    let definition = ledger.plan_definition(version).await?;
    let definition =
        definition.with_context(|| format!("the plan {} is not stored", version.plan))?;
    let attributes: Attributes = args.attributes.iter().cloned().collect();
    let features = TenantFeatures {
        tenant: &tenant,
        plan: &CompiledPlan::from_json(&definition)?,
        catalog: &CompiledCatalog::compile(&catalog)?,
        subject: args.subject.as_ref(),
        attributes: &attributes,
        now: tenant.now(Clock::System.now()),
    }
    .all();
    if args.json {
        let features: Vec<Value> = features.iter().map(as_json).collect();
        outln!("{}", serde_json::to_string_pretty(&features)?);
        return Ok(());
    }
    let why = |offered: &OfferedFeature| {
        let held = tenant.feature_override(&offered.access.feature);
        let held = held.filter(|_| offered.access.reason == FeatureReason::Override);
        held.map(|held| held.reason.clone()).unwrap_or_default()
    };
    let instant = |at: Option<jiff::Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let rows: Vec<_> = features
        .iter()
        .map(|offered| {
            let OfferedFeature { access, available_in_plan } = offered;
            let value = access.value.as_ref().map(|value| value.to_json().to_string());
            vec![
                access.feature.to_string(),
                value.unwrap_or_else(|| "none".to_owned()),
                word(access.reason).to_owned(),
                instant(access.override_expires_at),
                instant(access.sunset_at),
                available_in_plan.as_ref().map(ToString::to_string).unwrap_or_default(),
                why(offered),
            ]
        })
        .collect();
    let heads = ["feature", "value", "by", "until", "withdrawn", "in plan", "reason"];
    out!("{}", table(&heads, &rows));
    Ok(())
}

fn as_json(offered: &OfferedFeature) -> Value {
    let OfferedFeature { access, available_in_plan } = offered;
    json!({
        "feature": access.feature,
        "enabled": access.is_enabled(),
        "value": access.value.as_ref().map(|value| value.to_json()),
        "by": word(access.reason),
        "override_expires_at": access.override_expires_at,
        "sunset_at": access.sunset_at,
        "available_in_plan": available_in_plan,
    })
}

fn word(reason: FeatureReason) -> &'static str {
    match reason {
        FeatureReason::InPlan => "in plan",
        FeatureReason::NotInPlan => "not in plan",
        FeatureReason::Override => "override",
        FeatureReason::Targeting => "targeting",
        FeatureReason::InRollout => "in rollout",
        FeatureReason::NotInRollout => "not in rollout",
        FeatureReason::Default => "default",
        FeatureReason::Sunset => "withdrawn",
        FeatureReason::SubscriptionInactive => "subscription inactive",
    }
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let pair = pair.map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| "give an attribute as NAME=VALUE, such as country=GB".to_owned())
}
