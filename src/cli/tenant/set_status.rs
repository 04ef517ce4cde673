//! `tollgate tenant suspend` and `reactivate`.

use anyhow::bail;

use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
    },
    clock::Clock,
    domain::{ids::TenantId, tenant::SubscriptionStatus},
};

use super::shown::word;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The tenant's id
    tenant: TenantId,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Denies the tenant everything until it is reactivated.
pub(super) async fn suspend(args: &Args) -> anyhow::Result<()> {
    set(args, SubscriptionStatus::Suspended, |before| before.is_served()).await
}

/// Serves a suspended tenant again.
pub(super) async fn reactivate(args: &Args) -> anyhow::Result<()> {
    let is_suspended = |before| before == SubscriptionStatus::Suspended;
    set(args, SubscriptionStatus::Active, is_suspended).await
}

async fn set(
    args: &Args,
    to: SubscriptionStatus,
    is_possible: impl Fn(SubscriptionStatus) -> bool,
) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let Some(listed) = ledger.tenant(&args.tenant).await? else {
        bail!("there is no tenant {}; `tollgate tenant list` lists all", args.tenant);
    };
    let before = listed.tenant.subscription.status;
    if before == to {
        outln!("tenant {} is {} already: nothing changed", args.tenant, word(to));
        return Ok(());
    }
    if !is_possible(before) {
        bail!("tenant {} is {}, and cannot become {}", args.tenant, word(before), word(to));
    }
    let effective_at = listed.tenant.now(Clock::System.now());
    let actor = args.author.actor();
    let author = args.author.author(&actor);
    let tenant = ledger.set_status(&args.tenant, to, effective_at, author).await?;
    let after = tenant.subscription.status;
    outln!("tenant {} is {}, before {}", tenant.id, word(after), word(before));
    Ok(())
}
