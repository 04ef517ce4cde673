//! The example catalogs, and tenants on them.

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;

use super::recorded::{self, Tenants};
use crate::{
    api::catalogs,
    clock::Clock,
    domain::{
        catalog::Catalog,
        ids::{AccountId, CatalogName, PlanName, TenantId},
        tenant::SubscriptionStatus,
        window::BillingInterval,
    },
    ledger::{Ledger, catalogs::WhichVersion, changes::Author, tenants::NewTenant},
};

const CATALOGS: [(&str, &str); 5] = [
    ("assistant.yaml", include_str!("../../../deploy/catalogs/assistant.yaml")),
    ("hosting.yaml", include_str!("../../../deploy/catalogs/hosting.yaml")),
    ("listings.yaml", include_str!("../../../deploy/catalogs/listings.yaml")),
    ("factory.yaml", include_str!("../../../deploy/catalogs/factory.yaml")),
    ("mailer.yaml", include_str!("../../../deploy/catalogs/mailer.yaml")),
];

/// Whom the recorded usage is booked on.
pub(super) const RECORDED: Tenants = Tenants { llm: "demo-llm", web_prefix: "site-" };

/// Tenant, catalog, plan.
const TENANTS: [(&str, &str, &str); 6] = [
    ("demo-free", "assistant", "free"),
    ("demo-pro", "assistant", "pro"),
    (RECORDED.llm, "assistant", "business"),
    ("demo-hosting", "hosting", "starter"),
    ("demo-listings", "listings", "basic"),
    ("demo-factory", "factory", "professional"),
];
/// The plans that the web's clients are spread over.
const WEB_PLANS: [&str; 3] = ["starter", "professional", "business"];

const AUTHOR: Author<'static> = Author { actor: "cli:dev", reason: "demonstration" };

/// Puts the catalogs in force and creates the tenants that the first start needs, those of the
/// first `web_requests` recorded requests among them. Says whether they were new.
pub(super) async fn prepare(ledger: &Ledger, web_requests: usize) -> Result<bool> {
    for (file, text) in CATALOGS {
        let catalog = parse(file, text)?;
        catalogs::apply(ledger, &catalog, AUTHOR)
            .await
            .with_context(|| format!("applying {file}"))?;
    }
    if ledger.tenant(&TenantId::new(TENANTS[0].0)?).await?.is_some() {
        return Ok(false);
    }
    let now = Clock::System.now();
    let mut tenants = Vec::new();
    for (tenant, catalog, plan) in TENANTS {
        tenants.push(new_tenant(tenant, catalog, plan, now)?);
    }
    for (client, plan) in recorded::web_clients(web_requests).iter().zip(WEB_PLANS.iter().cycle()) {
        tenants.push(new_tenant(
            &format!("{}{client}", RECORDED.web_prefix),
            "hosting",
            plan,
            now,
        )?);
    }
    // All in one transaction: an interrupted first start starts over.
    ledger.create_tenants(&tenants, AUTHOR).await.context("creating the demo tenants")?;
    Ok(true)
}

fn parse(file: &str, text: &str) -> Result<Catalog> {
    Catalog::parse(file, text).map_err(|errors| {
        let told = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        anyhow!("{told}")
    })
}

fn new_tenant(tenant: &str, catalog: &str, plan: &str, now: Timestamp) -> Result<NewTenant> {
    Ok(NewTenant {
        tenant: TenantId::new(tenant)?,
        account: AccountId::new(tenant)?,
        name: String::new(),
        catalog: CatalogName::new(catalog)?,
        plan: PlanName::new(plan)?,
        plan_version: WhichVersion::Current,
        status: SubscriptionStatus::Active,
        zone: "UTC".to_owned(),
        anchor: now,
        interval: BillingInterval::Monthly,
        started_at: now,
        test_clock: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_demo_tenant_is_on_a_plan_that_its_catalog_has() {
        let web = WEB_PLANS.map(|plan| ("web", "hosting", plan));
        for (tenant, catalog, plan) in TENANTS.into_iter().chain(web) {
            let parsed = CATALOGS.map(|(file, text)| parse(file, text).unwrap());
            let found = parsed.iter().find(|parsed| parsed.name().as_str() == catalog).unwrap();
            let definition = serde_json::to_string(&found.to_json()).unwrap();
            assert!(definition.contains(&format!("\"name\":\"{plan}\"")), "{tenant}: {plan}");
        }
    }
}
