//! `tollgate grant revoke`.

use super::shown::known_tenant;
use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
    },
    clock::Clock,
    domain::ids::{GrantId, TenantId},
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The tenant's id
    tenant: TenantId,
    /// The grant, as `tollgate grant list` shows it
    grant: GrantId,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let tenant = known_tenant(&ledger, &args.tenant).await?;
    let now = tenant.now(Clock::System.now());
    let actor = args.author.actor();
    let author = args.author.author(&actor);
    let stored = ledger.revoke_grant(&args.tenant, args.grant, now, author).await?;
    let (used, amount) = (stored.used, stored.grant.amount);
    outln!("{} of {} has ended; {used} of {amount} were used", args.grant, args.tenant);
    Ok(())
}
