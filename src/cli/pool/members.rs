//! `tollgate pool add-member` and `remove-member`.

use super::shown::known_pool;
use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
    },
    domain::{
        catalog::names::RuleName,
        ids::{PoolId, TenantId},
    },
};

#[derive(clap::Args, Debug)]
pub(super) struct AddArgs {
    /// The pool, as `tollgate pool list` shows it
    pool: PoolId,
    /// A tenant of the pool's account; several join at once
    #[arg(required = true)]
    tenants: Vec<TenantId>,
    /// Priority class of the members
    #[arg(long, value_parser = class)]
    class: Option<RuleName>,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

#[derive(clap::Args, Debug)]
pub(super) struct RemoveArgs {
    /// The pool, as `tollgate pool list` shows it
    pool: PoolId,
    /// The member
    tenant: TenantId,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

pub(super) async fn add(args: &AddArgs) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let pool = known_pool(&ledger, args.pool).await?;
    let actor = args.author.actor();
    let author = args.author.author(&actor);
    for tenant in &args.tenants {
        ledger.add_pool_member(&pool, tenant, args.class.as_ref(), author).await?;
        outln!("{tenant} draws on {} for {}", args.pool, pool.pool.meter);
    }
    Ok(())
}

pub(super) async fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let pool = known_pool(&ledger, args.pool).await?;
    let actor = args.author.actor();
    ledger.remove_pool_member(&pool, &args.tenant, args.author.author(&actor)).await?;
    outln!("{} draws on its plan's limit of {} again", args.tenant, pool.pool.meter);
    Ok(())
}

fn class(text: &str) -> Result<RuleName, String> {
    RuleName::new(text).map_err(|invalid| format!("{}; {}", invalid.problem, invalid.remedy))
}
