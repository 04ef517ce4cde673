//! Catalogs and plans: every version ever applied.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{
    cell_rows::{read_column, read_unsigned},
    changes::{AuditEntry, Author, lock_changes, next_change},
    error::{LedgerError, Refusal},
    pool::Ledger,
};
use crate::domain::{
    ids::{CatalogName, PlanName},
    invalid::Invalid,
    tenant::PlanVersion,
};

/// A catalog to apply, in its canonical form.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogContent {
    pub catalog: CatalogName,
    pub content_hash: String,
    pub definition: Value,
    pub plans: Vec<PlanContent>,
}

/// One of its plans, in its canonical form.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanContent {
    pub plan: PlanName,
    pub content_hash: String,
    pub definition: Value,
}

/// What applying a catalog did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The catalog's version in force.
    pub version: u32,
    /// Whether it is a new one; without it, nothing at all was changed.
    pub is_new: bool,
    /// The plans that got a new version, with that version (1 = the plan is new).
    pub changed_plans: Vec<(PlanName, u32)>,
    /// Plans that the catalog no longer names. Their subscribers keep them.
    pub retired_plans: Vec<PlanName>,
}

/// A stored version of a catalog.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCatalog {
    pub catalog: CatalogName,
    pub version: u32,
    pub content_hash: String,
    pub definition: Value,
    /// When it was first applied.
    pub created_at: Timestamp,
}

/// A catalog of which another version is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedCatalog {
    pub catalog: CatalogName,
    pub version: u32,
    /// Number of the change that brought it.
    pub change: u64,
}

/// A plan and the version that new subscribers sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentPlan {
    pub plan: PlanVersion,
    /// Since when the catalog has no longer named it.
    pub retired_at: Option<Timestamp>,
}

/// Which of a plan's versions is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichVersion {
    /// The one that new subscribers sign; not of a retired plan.
    Current,
    /// This one, whatever its age.
    Exactly(u32),
}

impl Ledger {
    /// Puts `content` in force. A plan whose content is not that of its current version becomes a
    /// new version; subscribers keep theirs. Applying what is in force changes nothing.
    pub async fn apply_catalog(
        &self,
        content: &CatalogContent,
        author: Author<'_>,
    ) -> Result<Applied, LedgerError> {
        self.apply_catalog_if(content, None, author).await
    }

    /// Like [`Self::apply_catalog`], unless the version in force is another than `before`, which
    /// `content` was checked against (0 = there was none).
    pub async fn apply_catalog_after(
        &self,
        content: &CatalogContent,
        before: u32,
        author: Author<'_>,
    ) -> Result<Applied, LedgerError> {
        self.apply_catalog_if(content, Some(before), author).await
    }

    async fn apply_catalog_if(
        &self,
        content: &CatalogContent,
        expected: Option<u32>,
        author: Author<'_>,
    ) -> Result<Applied, LedgerError> {
        self.run_tx("apply_catalog", |tx| {
            Box::pin(apply(tx.connection(), content, expected, author))
        })
        .await
    }

    /// A version of a catalog.
    pub async fn catalog(
        &self,
        catalog: &CatalogName,
        which: WhichVersion,
    ) -> Result<Option<StoredCatalog>, LedgerError> {
        let version = match which {
            WhichVersion::Current => None,
            WhichVersion::Exactly(version) => Some(i64::from(version)),
        };
        let row = sqlx::query!(
            "SELECT v.version, v.content_hash, v.definition, v.created_at
             FROM catalogs c JOIN catalog_versions v USING (catalog)
             WHERE c.catalog = $1 AND v.version = coalesce($2::bigint, c.current_version)",
            catalog.as_str(),
            version
        )
        .fetch_optional(self.query("catalog"))
        .await?;
        row.map(|row| {
            Ok(StoredCatalog {
                catalog: catalog.clone(),
                version: read_version("catalog_versions", catalog.as_str(), row.version)?,
                content_hash: row.content_hash,
                definition: row.definition,
                created_at: row.created_at.to_jiff(),
            })
        })
        .transpose()
    }

    /// The names of all catalogs with their versions in force, in order.
    pub async fn catalog_names(&self) -> Result<Vec<(CatalogName, u32)>, LedgerError> {
        let rows = sqlx::query!("SELECT catalog, current_version FROM catalogs ORDER BY catalog")
            .fetch_all(self.query("catalog_names"))
            .await?;
        rows.into_iter()
            .map(|row| {
                let version = read_version("catalogs", &row.catalog, row.current_version)?;
                let name = CatalogName::new(&row.catalog);
                let name = read_column("catalogs", "catalog", &row.catalog, &row.catalog, name)?;
                Ok((name, version))
            })
            .collect()
    }

    /// The catalogs that were changed after the change `version`, in the order of their changes.
    pub async fn catalogs_changed_since(
        &self,
        version: u64,
    ) -> Result<Vec<ChangedCatalog>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT catalog, current_version, change_version FROM catalogs
             WHERE change_version > $1 ORDER BY change_version",
            i64::try_from(version).unwrap_or(i64::MAX)
        )
        .fetch_all(self.query("catalogs_changed_since"))
        .await?;
        rows.into_iter()
            .map(|row| {
                let name = CatalogName::new(&row.catalog);
                let key = &row.catalog;
                Ok(ChangedCatalog {
                    catalog: read_column("catalogs", "catalog", key, key, name)?,
                    version: read_version("catalogs", key, row.current_version)?,
                    change: read_unsigned("catalogs", "change_version", key, row.change_version)?,
                })
            })
            .collect()
    }

    /// The plans of a catalog, retired ones last, each with its current version.
    pub async fn plans(&self, catalog: &CatalogName) -> Result<Vec<CurrentPlan>, LedgerError> {
        let rows = sqlx::query!(
            "SELECT plan, current_version, retired_at FROM plans WHERE catalog = $1
             ORDER BY retired_at IS NOT NULL, plan",
            catalog.as_str()
        )
        .fetch_all(self.query("plans"))
        .await?;
        rows.into_iter()
            .map(|row| {
                let version = read_version("plans", &row.plan, row.current_version)?;
                let plan = PlanName::new(&row.plan);
                let plan = read_column("plans", "plan", catalog, &row.plan, plan)?;
                Ok(CurrentPlan {
                    plan: PlanVersion { catalog: catalog.clone(), plan, version },
                    retired_at: row.retired_at.map(|at| at.to_jiff()),
                })
            })
            .collect()
    }

    /// The definition of a version of a plan; it never changes.
    pub async fn plan_definition(&self, plan: &PlanVersion) -> Result<Option<Value>, LedgerError> {
        let row = sqlx::query!(
            "SELECT definition FROM plan_versions
             WHERE catalog = $1 AND plan = $2 AND version = $3::bigint",
            plan.catalog.as_str(),
            plan.plan.as_str(),
            i64::from(plan.version)
        )
        .fetch_optional(self.query("plan_definition"))
        .await?;
        Ok(row.map(|row| row.definition))
    }
}

async fn apply(
    tx: &mut PgConnection,
    content: &CatalogContent,
    expected: Option<u32>,
    author: Author<'_>,
) -> Result<Applied, LedgerError> {
    lock_changes(tx).await?;
    let name = content.catalog.as_str();
    let current = sqlx::query!(
        "SELECT v.version, v.content_hash FROM catalogs c
                 JOIN catalog_versions v ON v.catalog = c.catalog AND v.version = c.current_version
                 WHERE c.catalog = $1",
        name
    )
    .fetch_optional(&mut *tx)
    .await?;
    let before = match current {
        Some(row) if row.content_hash == content.content_hash => {
            return Ok(Applied {
                version: read_version("catalogs", name, row.version)?,
                is_new: false,
                changed_plans: Vec::new(),
                retired_plans: Vec::new(),
            });
        }
        Some(row) => row.version,
        None => 0,
    };
    if expected.is_some_and(|expected| i64::from(expected) != i64::from(before)) {
        return Err(Refusal::Invalid(Invalid::new(
            format!("catalog {name}"),
            format!("has come to version {before} meanwhile"),
            "look at what that changed, then apply again",
        ))
        .into());
    }
    let version = before + 1;
    let change = next_change(tx).await?;
    write_catalog(tx, content, version, change).await?;
    let mut changed_plans = Vec::new();
    for plan in &content.plans {
        if let Some(version) = write_plan(tx, content, plan, version).await? {
            changed_plans.push((plan.plan.clone(), version));
        }
    }
    let retired_plans = retire_others(tx, content).await?;
    let version = read_version("catalogs", name, version)?;
    let detail = json!({
        "catalog": name,
        "version": version,
        "changed_plans": changed_plans,
        "retired_plans": retired_plans,
    });
    AuditEntry { author, action: "catalog.apply", account: None, tenant: None, detail }
        .write(tx)
        .await?;
    Ok(Applied { version, is_new: true, changed_plans, retired_plans })
}

async fn write_catalog(
    tx: &mut PgConnection,
    content: &CatalogContent,
    version: i32,
    change: i64,
) -> Result<(), LedgerError> {
    sqlx::query!(
        "INSERT INTO catalog_versions (catalog, version, content_hash, definition)
         VALUES ($1, $2, $3, $4)",
        content.catalog.as_str(),
        version,
        content.content_hash,
        content.definition
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO catalogs (catalog, current_version, change_version) VALUES ($1, $2, $3)
         ON CONFLICT (catalog) DO UPDATE SET current_version = excluded.current_version,
             change_version = excluded.change_version, applied_at = now()",
        content.catalog.as_str(),
        version,
        change
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes a plan whose content is new, and answers its new version.
async fn write_plan(
    tx: &mut PgConnection,
    content: &CatalogContent,
    plan: &PlanContent,
    catalog_version: i32,
) -> Result<Option<u32>, LedgerError> {
    let (catalog, name) = (content.catalog.as_str(), plan.plan.as_str());
    let current = sqlx::query!(
        "SELECT v.version, v.content_hash FROM plans p
         JOIN plan_versions v ON v.catalog = p.catalog AND v.plan = p.plan
             AND v.version = p.current_version
         WHERE p.catalog = $1 AND p.plan = $2",
        catalog,
        name
    )
    .fetch_optional(&mut *tx)
    .await?;
    let before = match current {
        Some(row) if row.content_hash == plan.content_hash => {
            // It may come back from retirement as it was.
            sqlx::query!(
                "UPDATE plans SET retired_at = NULL WHERE catalog = $1 AND plan = $2",
                catalog,
                name
            )
            .execute(tx)
            .await?;
            return Ok(None);
        }
        Some(row) => row.version,
        None => 0,
    };
    let version = before + 1;
    sqlx::query!(
        "INSERT INTO plan_versions
             (catalog, plan, version, catalog_version, content_hash, definition)
         VALUES ($1, $2, $3, $4, $5, $6)",
        catalog,
        name,
        version,
        catalog_version,
        plan.content_hash,
        plan.definition
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO plans (catalog, plan, current_version) VALUES ($1, $2, $3)
         ON CONFLICT (catalog, plan) DO UPDATE
             SET current_version = excluded.current_version, retired_at = NULL",
        catalog,
        name,
        version
    )
    .execute(tx)
    .await?;
    Ok(Some(read_version("plan_versions", name, version)?))
}

async fn retire_others(
    tx: &mut PgConnection,
    content: &CatalogContent,
) -> Result<Vec<PlanName>, LedgerError> {
    let named: BTreeSet<String> = content.plans.iter().map(|it| it.plan.to_string()).collect();
    let named: Vec<String> = named.into_iter().collect();
    let rows = sqlx::query!(
        "UPDATE plans SET retired_at = now()
         WHERE catalog = $1 AND plan <> ALL($2) AND retired_at IS NULL RETURNING plan",
        content.catalog.as_str(),
        &named
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let plan = PlanName::new(&row.plan);
            read_column("plans", "plan", &content.catalog, &row.plan, plan)
        })
        .collect()
}

/// The version of `catalog`'s `plan` that is meant, if there is such a plan and version.
pub(super) async fn resolve_plan(
    tx: &mut PgConnection,
    catalog: &CatalogName,
    plan: &PlanName,
    which: WhichVersion,
) -> Result<PlanVersion, LedgerError> {
    let version = match which {
        WhichVersion::Current => None,
        WhichVersion::Exactly(version) => Some(i64::from(version)),
    };
    let row = sqlx::query!(
        "SELECT v.version FROM plans p JOIN plan_versions v USING (catalog, plan)
         WHERE p.catalog = $1 AND p.plan = $2 AND (
             v.version = $3::bigint
             OR ($3::bigint IS NULL AND v.version = p.current_version AND p.retired_at IS NULL))",
        catalog.as_str(),
        plan.as_str(),
        version
    )
    .fetch_optional(tx)
    .await?
    .ok_or_else(|| {
        let version = version.map(|version| format!(" version {version}")).unwrap_or_default();
        LedgerError::not_found("plan", format!("{catalog}/{plan}{version}"))
    })?;
    let version = read_version("plan_versions", plan.as_str(), row.version)?;
    Ok(PlanVersion { catalog: catalog.clone(), plan: plan.clone(), version })
}

/// Versions count from 1 and are small.
pub(super) fn read_version(
    table: &'static str,
    key: &str,
    version: i32,
) -> Result<u32, LedgerError> {
    let version = read_unsigned(table, "version", key, i64::from(version))?;
    read_column(table, "version", key, version, u32::try_from(version))
}
