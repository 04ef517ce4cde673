//! `tollgate grant create`.

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::shown::{as_json, known_tenant};
use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
        values::{instant, still_to_come, units},
    },
    clock::Clock,
    domain::{
        amount::check_amount,
        catalog::{
            allowances::{GrantDef, GrantKind as CatalogKind},
            compiled_plan::CompiledPlan,
            definition::CatalogDefinition,
        },
        grant::{GrantKind, GrantPrice},
        ids::{MeterName, Subject, TenantId},
        invalid::Invalid,
        period::Period,
        tenant::Tenant,
    },
    ledger::{Ledger, catalogs::WhichVersion, grants::NewGrant},
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The tenant's id
    tenant: TenantId,
    /// A grant of the tenant's catalog; without it, say --meter and --amount
    #[arg(long, value_name = "GRANT", conflicts_with_all = ["meter", "amount", "kind", "every", "rollover_cap"])]
    from: Option<String>,
    /// The meter that it allows more of
    #[arg(long, required_unless_present = "from")]
    meter: Option<MeterName>,
    /// Base units; of a recurring grant, in each period
    #[arg(long, value_parser = units, required_unless_present = "from")]
    amount: Option<i64>,
    /// How it comes about
    #[arg(long, value_enum, default_value = "top-up")]
    kind: KindArg,
    /// Only for usage of this subject
    #[arg(long)]
    subject: Option<Subject>,
    /// Lower burns first
    #[arg(long, default_value_t = 0)]
    priority: u16,
    /// When it begins (RFC 3339); the tenant's now unless given
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    starts_at: Option<Timestamp>,
    /// When what is unused lapses (RFC 3339); never unless given
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    expires_at: Option<Timestamp>,
    /// The period that a recurring grant is given anew in (month, day, billing_cycle, ...)
    #[arg(long, value_name = "PERIOD")]
    every: Option<Period>,
    /// Most unused base units that a recurring grant carries into its next period
    #[arg(long, value_name = "UNITS", value_parser = units)]
    rollover_cap: Option<i64>,
    /// Makes a repeat harmless: under one key a tenant gets one grant
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// What an operator can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum KindArg {
    TopUp,
    Promotional,
    Recurring,
}

impl From<KindArg> for GrantKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::TopUp => Self::TopUp,
            KindArg::Promotional => Self::Promotional,
            KindArg::Recurring => Self::Recurring,
        }
    }
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let tenant = known_tenant(&ledger, &args.tenant).await?;
    let now = tenant.now(Clock::System.now());
    still_to_come("--expires-at", args.expires_at, now)?;
    check_order(args.starts_at.unwrap_or(now), args.expires_at)?;
    let actor = args.author.actor();
    let mut new = match &args.from {
        Some(name) => from_catalog(args, &tenant, &catalog_grant(&ledger, &tenant, name).await?)?,
        None => from_arguments(args, &tenant, &actor)?,
    };
    let definition = ledger.plan_definition(&tenant.subscription.plan).await?;
    let plan = CompiledPlan::from_json(&definition.context("the tenant's plan is not stored")?)?;
    new.covers_level = plan.check_grantable(&new.meter, new.subject.as_ref(), new.every)?;
    let stored = ledger.create_grant(&new, args.author.author(&actor)).await?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&as_json(&stored))?);
        return Ok(());
    }
    let grant = &stored.grant;
    let end = grant.expires_at.map_or("without end".to_owned(), |at| format!("until {at}"));
    outln!(
        "{} gives {} {} of {} from {} on, {end}",
        grant.id,
        stored.tenant,
        grant.amount,
        grant.meter,
        grant.starts_at
    );
    Ok(())
}

fn check_order(starts_at: Timestamp, expires_at: Option<Timestamp>) -> Result<(), Invalid> {
    match expires_at.filter(|end| *end <= starts_at) {
        None => Ok(()),
        Some(end) => Err(Invalid::new(
            "--expires-at",
            format!("{end} is not after {starts_at}, when the grant begins (--starts-at)"),
            "give an end that is after the beginning",
        )),
    }
}

fn from_arguments(args: &Args, tenant: &Tenant, actor: &str) -> anyhow::Result<NewGrant> {
    let (Some(meter), Some(amount)) = (&args.meter, args.amount) else {
        bail!("give --meter and --amount, or --from");
    };
    let is_recurring = args.kind == KindArg::Recurring;
    if is_recurring != args.every.is_some() {
        bail!("--every: a recurring grant needs its period, and no other grant has one");
    }
    if args.rollover_cap.is_some() && !is_recurring {
        bail!("--rollover-cap: only a recurring grant carries anything over");
    }
    let amount = check_amount("--amount", amount)?;
    if amount == 0 {
        bail!("--amount: is 0; give 1 or more");
    }
    let cap = args.rollover_cap.map(|cap| check_amount("--rollover-cap", cap)).transpose()?;
    Ok(NewGrant {
        tenant: tenant.id.clone(),
        kind: args.kind.into(),
        meter: meter.clone(),
        subject: args.subject.clone(),
        amount,
        priority: args.priority,
        starts_at: args.starts_at.unwrap_or_else(|| tenant.now(Clock::System.now())),
        expires_at: args.expires_at,
        every: args.every,
        rollover_cap: cap,
        covers_level: false,
        source: actor.to_owned(),
        source_key: key(args),
        price: None,
    })
}

fn key(args: &Args) -> String {
    let unique = || Uuid::new_v4().to_string();
    format!("operator:{}", args.key.clone().unwrap_or_else(unique))
}

async fn catalog_grant(ledger: &Ledger, tenant: &Tenant, name: &str) -> anyhow::Result<GrantDef> {
    let plan = &tenant.subscription.plan;
    let stored = ledger.catalog(&plan.catalog, WhichVersion::Current).await?;
    let stored = stored.context("the tenant's catalog is not stored")?;
    let catalog: CatalogDefinition = serde_json::from_value(stored.definition)?;
    let names: Vec<_> = catalog.grants.iter().map(|grant| grant.name.to_string()).collect();
    let Some(grant) = catalog.grants.into_iter().find(|grant| grant.name.as_str() == name) else {
        bail!("--from: the catalog {} has the grants: {}", plan.catalog, names.join(", "));
    };
    if !grant.plans.is_empty() && !grant.plans.contains(&plan.plan) {
        bail!("--from: the grant {name} is not open to the plan {}", plan.plan);
    }
    Ok(grant)
}

fn from_catalog(args: &Args, tenant: &Tenant, grant: &GrantDef) -> anyhow::Result<NewGrant> {
    let starts_at = args.starts_at.unwrap_or_else(|| tenant.now(Clock::System.now()));
    let days = |days: u16| starts_at + SignedDuration::from_hours(24 * i64::from(days));
    let is_recurring = grant.kind == CatalogKind::Recurring;
    if is_recurring && grant.price.is_some() {
        bail!("--from: {} has a price each time, which is not billed yet", grant.name);
    }
    Ok(NewGrant {
        tenant: tenant.id.clone(),
        kind: match grant.kind {
            CatalogKind::TopUp => GrantKind::TopUp,
            CatalogKind::Recurring => GrantKind::Recurring,
            CatalogKind::Promotional => GrantKind::Promotional,
        },
        meter: grant.meter.clone(),
        subject: args.subject.clone(),
        amount: grant.amount.get(),
        priority: grant.priority,
        starts_at,
        expires_at: args.expires_at.or(grant.expires_after_days.map(days)),
        every: is_recurring.then(|| grant.every.unwrap_or(Period::BillingCycle)),
        rollover_cap: grant.rollover_cap.map(|cap| cap.get()),
        covers_level: false,
        source: format!("catalog:{}", grant.name),
        source_key: key(args),
        price: grant.price.map(GrantPrice::Flat),
    })
}
