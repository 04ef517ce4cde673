//! `tollgate feature clear`.

use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
    },
    domain::ids::{FeatureName, TenantId},
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The tenant's id
    tenant: TenantId,
    /// The feature
    feature: FeatureName,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let actor = args.author.actor();
    let author = args.author.author(&actor);
    let was_there = ledger.clear_feature_override(&args.tenant, &args.feature, author).await?;
    match was_there {
        true => outln!("tenant {} has {} as its plan says", args.tenant, args.feature),
        false => {
            outln!("tenant {} has no override of {}: nothing changed", args.tenant, args.feature);
        }
    }
    Ok(())
}
