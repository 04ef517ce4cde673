//! `tollgate tenant create`.

use anyhow::bail;
use jiff::Timestamp;

use super::{known_plan::known_plan, shown::IntervalArg};
use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs, test_clock},
        print::outln,
        values::{instant, version},
    },
    clock::Clock,
    domain::{
        catalog::names::Zone,
        ids::{AccountId, CatalogName, PlanName, TenantId},
        tenant::SubscriptionStatus,
    },
    ledger::{catalogs::WhichVersion, tenants::NewTenant},
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The tenant's id; several make a tenant each
    #[arg(required = true)]
    tenants: Vec<TenantId>,
    /// The catalog of the plan
    #[arg(long)]
    catalog: CatalogName,
    /// The plan
    #[arg(long)]
    plan: PlanName,
    /// A version of the plan; the current one unless given
    #[arg(long, value_name = "VERSION", value_parser = version)]
    plan_version: Option<u32>,
    /// Who pays; an account of the tenant's own name unless given
    #[arg(long)]
    account: Option<AccountId>,
    /// A name for people
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// IANA time zone of the tenant's calendar
    #[arg(long, default_value = "UTC", value_parser = zone)]
    zone: String,
    /// Instant that billing cycles are counted from (RFC 3339); the tenant's now unless given
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    anchor: Option<Timestamp>,
    /// Length of a billing cycle
    #[arg(long, value_enum, default_value = "monthly")]
    interval: IntervalArg,
    /// Puts a new account on a test clock that stands here (RFC 3339)
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    test_clock: Option<Timestamp>,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    known_plan(&ledger, &args.catalog, &args.plan).await?;
    let now = Clock::System.now();
    let mut new = Vec::new();
    for tenant in &args.tenants {
        let account = match &args.account {
            Some(account) => account.clone(),
            None => AccountId::new(tenant.as_str())?,
        };
        let clock = match (test_clock(&ledger, &account).await?, args.test_clock) {
            (None, wanted) => wanted,
            (Some(stands), None) => stands,
            (Some(stands), Some(wanted)) if stands == Some(wanted) => stands,
            (Some(_), Some(_)) => bail!(
                "the account {account} is there already and has another clock; leave \
                 --test-clock out, or move it with `tollgate account clock {account}`"
            ),
        };
        let started_at = clock.unwrap_or(now);
        new.push(NewTenant {
            tenant: tenant.clone(),
            account,
            name: args.name.clone(),
            catalog: args.catalog.clone(),
            plan: args.plan.clone(),
            plan_version: args.plan_version.map_or(WhichVersion::Current, WhichVersion::Exactly),
            status: SubscriptionStatus::Active,
            zone: args.zone.clone(),
            anchor: args.anchor.unwrap_or(started_at),
            interval: args.interval.into(),
            started_at,
            test_clock: clock,
        });
    }
    let actor = args.author.actor();
    for tenant in ledger.create_tenants(&new, args.author.author(&actor)).await? {
        let plan = &tenant.subscription.plan;
        outln!(
            "tenant {} is on {}/{} version {}",
            tenant.id,
            plan.catalog,
            plan.plan,
            plan.version
        );
    }
    Ok(())
}

fn zone(name: &str) -> Result<String, String> {
    Zone::new(name)
        .map(String::from)
        .map_err(|invalid| format!("{}; {}", invalid.problem, invalid.remedy))
}
