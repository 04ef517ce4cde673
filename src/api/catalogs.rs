//! Putting a catalog in force: checked against all that was in force before, then stored.

use crate::{
    domain::{
        catalog::{Catalog, error::CatalogError, meters::MeterDef},
        ids::CatalogName,
        invalid::Invalid,
    },
    ledger::{
        Ledger, LedgerError,
        catalogs::{Applied, CatalogContent, PlanContent, WhichVersion},
        changes::Author,
    },
};

/// Why a catalog could not be put in force. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It contradicts what was in force before.
    #[error("the catalog contradicts what was in force before")]
    Refused(Vec<CatalogError>),
    /// Something stored cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Invalid),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Puts `catalog` in force, if it keeps the meaning of every meter that it ever had. Applying what
/// is in force changes nothing.
pub async fn apply(
    ledger: &Ledger,
    catalog: &Catalog,
    author: Author<'_>,
) -> Result<Applied, ApplyError> {
    let current = stored_version(ledger, catalog.name()).await?;
    check(ledger, catalog, current).await?;
    Ok(ledger.apply_catalog_after(&content(catalog), current, author).await?)
}

/// Refuses `catalog` if it contradicts what was in force before.
pub async fn check_against_stored(ledger: &Ledger, catalog: &Catalog) -> Result<(), ApplyError> {
    let current = stored_version(ledger, catalog.name()).await?;
    check(ledger, catalog, current).await
}

/// The catalog called `name` as it is in force, with its version.
pub async fn in_force(
    ledger: &Ledger,
    name: &CatalogName,
) -> Result<Option<(Catalog, u32)>, ApplyError> {
    match ledger.catalog(name, WhichVersion::Current).await? {
        Some(stored) => Ok(Some((Catalog::from_json(&stored.definition)?, stored.version))),
        None => Ok(None),
    }
}

async fn check(ledger: &Ledger, catalog: &Catalog, current: u32) -> Result<(), ApplyError> {
    let mut meters: Vec<MeterDef> = Vec::new();
    for version in 1..=current {
        // Every version holds all meters that its plans use, so that none is missed.
        if let Some(stored) = ledger.catalog(catalog.name(), WhichVersion::Exactly(version)).await?
        {
            meters.extend(Catalog::from_json(&stored.definition)?.definition().meters.clone());
        }
    }
    catalog.check_meters_keep_their_meaning(&meters).map_err(ApplyError::Refused)
}

async fn stored_version(ledger: &Ledger, name: &CatalogName) -> Result<u32, LedgerError> {
    let stored = ledger.catalog(name, WhichVersion::Current).await?;
    Ok(stored.map_or(0, |stored| stored.version))
}

fn content(catalog: &Catalog) -> CatalogContent {
    CatalogContent {
        catalog: catalog.name().clone(),
        content_hash: catalog.hash().to_string(),
        definition: catalog.to_json(),
        plans: catalog
            .plans()
            .map(|plan| PlanContent {
                plan: plan.plan.name.clone(),
                content_hash: plan.hash().to_string(),
                definition: plan.to_json(),
            })
            .collect(),
    }
}
