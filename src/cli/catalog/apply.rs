//! `tollgate catalog apply`.

use std::path::PathBuf;

use super::files::{not_applied, read};
use crate::{
    api::catalogs,
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::{out, outln},
    },
    ledger::catalogs::Applied,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Catalog files (YAML); all are checked before the first is applied
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let mut catalogs = Vec::new();
    for path in &args.files {
        catalogs.push((path, read(path)?));
    }
    let ledger = args.ledger.open().await?;
    for (path, catalog) in &catalogs {
        let checked = catalogs::check_against_stored(&ledger, catalog).await;
        checked.map_err(|error| not_applied(path, error))?;
    }
    let actor = args.author.actor();
    for (path, catalog) in &catalogs {
        let applied = catalogs::apply(&ledger, catalog, args.author.author(&actor)).await;
        let applied = applied.map_err(|error| not_applied(path, error))?;
        out!("{}", told(catalog.name().as_str(), &applied));
        let tenants = catalog.tenants().count();
        if tenants > 0 {
            outln!(
                "  its {tenants} tenants are ignored: those of a ledger come from `tollgate tenant \
                 create`"
            );
        }
    }
    Ok(())
}

fn told(name: &str, applied: &Applied) -> String {
    if !applied.is_new {
        return format!("catalog {name}: no changes, version {} is in force\n", applied.version);
    }
    let mut text = format!("catalog {name}: version {} is in force\n", applied.version);
    for (plan, version) in &applied.changed_plans {
        let subscribers = if *version > 1 { "; subscribers keep theirs" } else { "" };
        text.push_str(&format!("  plan {plan}: version {version}{subscribers}\n"));
    }
    for plan in &applied.retired_plans {
        text.push_str(&format!("  plan {plan}: retired; subscribers keep it\n"));
    }
    text
}
