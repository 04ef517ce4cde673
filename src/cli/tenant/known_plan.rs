//! A plan by the name that the user gave.

use anyhow::bail;

use crate::{
    domain::ids::{CatalogName, PlanName},
    ledger::{Ledger, catalogs::CurrentPlan},
};

/// The plan; when there is none of this name, says whether it is the catalog that is not there.
pub(super) async fn known_plan(
    ledger: &Ledger,
    catalog: &CatalogName,
    plan: &PlanName,
) -> anyhow::Result<CurrentPlan> {
    let catalogs = ledger.catalog_names().await?;
    if !catalogs.iter().any(|(name, _)| name == catalog) {
        let names = listed(catalogs.iter().map(|(name, _)| name.as_str()));
        bail!("--catalog: there is no catalog {catalog}; there {names} (`tollgate catalog apply`)");
    }
    let plans = ledger.plans(catalog).await?;
    let names = listed(plans.iter().map(|known| known.plan.plan.as_str()));
    match plans.into_iter().find(|known| known.plan.plan == *plan) {
        Some(known) => Ok(known),
        None => bail!("--plan: the catalog {catalog} has no plan {plan}; there {names}"),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    match names.as_slice() {
        [] => "are none yet".to_owned(),
        [one] => format!("is {one}"),
        many => format!("are {}", many.join(", ")),
    }
}
