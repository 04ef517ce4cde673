//! `tollgate token revoke`.

use crate::cli::{
    ledger_args::{AuthorArgs, LedgerArgs},
    print::outln,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The token's name or id
    token: String,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let actor = args.author.actor();
    let token = ledger.revoke_token(&args.token, args.author.author(&actor)).await?;
    outln!("token {} ({}) is revoked; sidecars refuse it within a second", token.name, token.id);
    Ok(())
}
