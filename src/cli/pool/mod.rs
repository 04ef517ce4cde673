//! `tollgate pool`: allowances that tenants of an account share.

mod create;
mod list;
mod members;
mod resize;
mod show;
mod shown;

/// Set up pools that tenants of an account share, and say who draws on them
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Set up a pool of the catalog for an account
    Create(create::Args),
    /// Show a pool, its shares and what each member has used
    Show(show::Args),
    /// List pools
    List(list::Args),
    /// Give a pool another size, in force at once
    Resize(resize::Args),
    /// Have a tenant of the account draw on a pool, instead of on its plan's limit
    AddMember(members::AddArgs),
    /// Have a tenant draw on its plan's limit again
    RemoveMember(members::RemoveArgs),
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Create(args) => create::run(&args).await,
        Command::Show(args) => show::run(&args).await,
        Command::List(args) => list::run(&args).await,
        Command::Resize(args) => resize::run(&args).await,
        Command::AddMember(args) => members::add(&args).await,
        Command::RemoveMember(args) => members::remove(&args).await,
    }
}
