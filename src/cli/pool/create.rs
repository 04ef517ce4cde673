//! `tollgate pool create`.

use anyhow::{Context, bail};
use serde_json::json;

use super::shown::as_json;
use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
    },
    clock::Clock,
    domain::{
        catalog::{
            allowances::PoolDef, compiled_plan::CompiledPlan, definition::CatalogDefinition,
        },
        ids::AccountId,
        meter::MeterKind,
        pool::classes,
        tenant::Tenant,
    },
    ledger::{Ledger, catalogs::WhichVersion, pools::NewPool, tenants::PAGE_MAX},
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The account whose tenants share it
    account: AccountId,
    /// The pool's name in the catalog of the account's plans
    pool: String,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let tenants = tenants_of(&ledger, &args.account).await?;
    let Some(first) = tenants.first() else {
        bail!("the account {} has no tenants; create them first", args.account);
    };
    let (payer, pool) = described(&ledger, &tenants, &args.pool).await?;
    if pool.overage.is_some() {
        bail!("{} has an overage price, which is not billed for pools yet; remove it", pool.name);
    }
    let definition = ledger.plan_definition(&payer.subscription.plan).await?;
    let mut definition = definition.context("the plan is not stored")?;
    let plan = CompiledPlan::from_json(&definition)?;
    let meter = plan.meter(pool.meter.as_str()).context("the plan lacks the pool's meter")?;
    if meter.meter.kind == MeterKind::Static || !meter.meter.is_summed() {
        bail!("{} is not added up, so that nothing of it can be shared", pool.meter);
    }
    let period = pool.period.unwrap_or(meter.limit.period);
    definition["plan"]["limits"] = json!({
        (pool.meter.as_str()): { "limit": pool.size, "period": period }
    });
    let schedule = &first.subscription.schedule;
    let new = NewPool {
        account: args.account.clone(),
        catalog: payer.subscription.plan.catalog.clone(),
        name: pool.name.clone(),
        meter: pool.meter.clone(),
        size: pool.size.get(),
        classes: classes(&pool),
        max_members: pool.max_members,
        definition,
        zone: schedule.zone.iana_name().unwrap_or("UTC").to_owned(),
        anchor: first.now(Clock::System.now()),
        interval: schedule.interval,
    };
    let actor = args.author.actor();
    let stored = ledger.create_pool(&new, args.author.author(&actor)).await?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&as_json(&stored))?);
        return Ok(());
    }
    let (id, size, meter) = (stored.pool.id, stored.pool.size, &stored.pool.meter);
    outln!("{id}: tenants of {} can share {size} of {meter}", stored.account);
    Ok(())
}

async fn tenants_of(ledger: &Ledger, account: &AccountId) -> anyhow::Result<Vec<Tenant>> {
    let (mut tenants, mut after) = (vec![], None);
    loop {
        let page = ledger.list_tenants(account.as_str(), after.as_ref(), PAGE_MAX).await?;
        let Some(last) = page.last() else { return Ok(tenants) };
        after = Some(last.tenant.id.clone());
        let of_account = page.into_iter().map(|listed| listed.tenant);
        tenants.extend(of_account.filter(|tenant| tenant.account == *account));
    }
}

/// The pool of that name, and a tenant whose plan lets the account have it.
async fn described<'t>(
    ledger: &Ledger,
    tenants: &'t [Tenant],
    name: &str,
) -> anyhow::Result<(&'t Tenant, PoolDef)> {
    let mut open_to = None;
    for tenant in tenants {
        let plan = &tenant.subscription.plan;
        let stored = ledger.catalog(&plan.catalog, WhichVersion::Current).await?;
        let Some(stored) = stored else { continue };
        let catalog: CatalogDefinition = serde_json::from_value(stored.definition)?;
        let found = catalog.pools.into_iter().find(|pool| pool.name.as_str() == name);
        match found {
            Some(pool) if pool.plans.contains(&plan.plan) => return Ok((tenant, pool)),
            Some(pool) => open_to = Some(pool.plans),
            None => {}
        }
    }
    match open_to {
        None => bail!("no catalog of the account's plans has a pool {name}"),
        Some(plans) => {
            let plans: Vec<_> = plans.iter().map(|plan| plan.as_str()).collect();
            bail!("the pool {name} is open to accounts with a plan of {}", plans.join(", "))
        }
    }
}
