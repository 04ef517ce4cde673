//! `tollgate tenant set-plan`.

use anyhow::bail;

use super::shown::IntervalArg;
use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
        values::version,
    },
    clock::Clock,
    domain::ids::{CatalogName, PlanName, TenantId},
    ledger::{
        catalogs::WhichVersion,
        subscriptions::{PlanChange, WindowsAfter},
    },
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The tenant's id
    tenant: TenantId,
    /// The plan
    #[arg(long)]
    plan: PlanName,
    /// The catalog of the plan; the present one unless given
    #[arg(long)]
    catalog: Option<CatalogName>,
    /// A version of the plan; the current one unless given
    #[arg(long, value_name = "VERSION", value_parser = version)]
    plan_version: Option<u32>,
    /// Another length of a billing cycle; it starts anew
    #[arg(long, value_enum)]
    interval: Option<IntervalArg>,
    /// Starts billing cycles anew, and usage at zero
    #[arg(long)]
    reset_usage: bool,
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
    let before = &listed.tenant.subscription.plan;
    let change = PlanChange {
        catalog: args.catalog.clone().unwrap_or_else(|| before.catalog.clone()),
        plan: args.plan.clone(),
        plan_version: args.plan_version.map_or(WhichVersion::Current, WhichVersion::Exactly),
        interval: args.interval.map(Into::into),
        windows: if args.reset_usage { WindowsAfter::Reset } else { WindowsAfter::Keep },
        effective_at: listed.tenant.now(Clock::System.now()),
    };
    let actor = args.author.actor();
    let tenant = ledger.set_plan(&args.tenant, &change, args.author.author(&actor)).await?;
    let after = &tenant.subscription.plan;
    outln!(
        "tenant {} is on {}/{} version {}, before on {}/{} version {}",
        tenant.id,
        after.catalog,
        after.plan,
        after.version,
        before.catalog,
        before.plan,
        before.version
    );
    Ok(())
}
