//! `tollgate catalog show`.

use anyhow::{Context, bail};

use super::{matrix, sections};
use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
        values::version,
    },
    domain::{catalog::Catalog, ids::CatalogName},
    ledger::{Ledger, catalogs::WhichVersion},
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The catalog; all are listed unless given
    catalog: Option<CatalogName>,
    /// This version instead of the one in force
    #[arg(long, requires = "catalog", value_name = "VERSION", value_parser = version)]
    catalog_version: Option<u32>,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON: the catalog as it is stored
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    match &args.catalog {
        Some(name) => one(&ledger, name, args).await,
        None => list(&ledger, args.json).await,
    }
}

async fn one(ledger: &Ledger, name: &CatalogName, args: &Args) -> anyhow::Result<()> {
    let which = args.catalog_version.map_or(WhichVersion::Current, WhichVersion::Exactly);
    let Some(stored) = ledger.catalog(name, which).await? else {
        let version =
            args.catalog_version.map(|version| format!(" version {version}")).unwrap_or_default();
        bail!("there is no catalog {name}{version}; `tollgate catalog show` lists all");
    };
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&stored.definition)?);
        return Ok(());
    }
    let catalog = Catalog::from_json(&stored.definition)
        .with_context(|| format!("cannot read version {} of {name}", stored.version))?;
    let title = catalog.definition().title.as_deref().unwrap_or_default();
    outln!("{name}, version {}, {}: {title}", stored.version, stored.created_at);
    outln!("prices in {}\n", catalog.definition().currency);
    out!("{}", matrix::of(&catalog));
    out!("{}", sections::of(&catalog));
    let plans = ledger.plans(name).await?;
    let versions = plans.iter().map(|plan| {
        let retired = if plan.retired_at.is_some() { " (retired)" } else { "" };
        format!("{} {}{retired}", plan.plan.plan, plan.plan.version)
    });
    outln!("\nversions that new subscribers sign: {}", versions.collect::<Vec<_>>().join(", "));
    Ok(())
}

async fn list(ledger: &Ledger, json: bool) -> anyhow::Result<()> {
    let names = ledger.catalog_names().await?;
    if json {
        let rows: Vec<_> = names
            .iter()
            .map(|(catalog, version)| serde_json::json!({ "catalog": catalog, "version": version }))
            .collect();
        outln!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let rows: Vec<_> =
        names.iter().map(|(name, version)| vec![name.to_string(), version.to_string()]).collect();
    out!("{}", table(&["catalog", "version"], &rows));
    Ok(())
}
