//! `tollgate grant`: gives tenants extra allowance beside their plans' limits, lists and revokes it.

mod create;
mod list;
mod revoke;
mod shown;

/// Give, list and revoke grants: extra allowance beside a plan's limit
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Give a tenant a top-up, a promotional or a recurring grant
    Create(Box<create::Args>),
    /// List a tenant's grants and what was used of each
    List(list::Args),
    /// End a grant now
    Revoke(revoke::Args),
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Create(args) => create::run(&args).await,
        Command::List(args) => list::run(&args).await,
        Command::Revoke(args) => revoke::run(&args).await,
    }
}
