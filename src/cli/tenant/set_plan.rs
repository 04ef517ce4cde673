//! `tollgate tenant set-plan`.

use anyhow::bail;

use super::{known_plan::known_plan, shown::IntervalArg};
use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
        values::version,
    },
    clock::Clock,
    domain::{
        ids::{CatalogName, PlanName, TenantId},
        tenant::PlanVersion,
        window::BillingInterval,
    },
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
    let catalog = args.catalog.clone().unwrap_or_else(|| before.catalog.clone());
    let current = known_plan(&ledger, &catalog, &args.plan).await?.plan;
    let wanted = PlanVersion { version: args.plan_version.unwrap_or(current.version), ..current };
    let interval = args.interval.map(BillingInterval::from);
    let keeps_interval =
        interval.is_none_or(|it| it == listed.tenant.subscription.schedule.interval);
    if wanted == *before && keeps_interval && !args.reset_usage {
        outln!(
            "tenant {} is on {}/{} version {} already: nothing changed",
            args.tenant,
            before.catalog,
            before.plan,
            before.version
        );
        return Ok(());
    }
    let change = PlanChange {
        catalog,
        plan: args.plan.clone(),
        plan_version: args.plan_version.map_or(WhichVersion::Current, WhichVersion::Exactly),
        interval,
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
