//! `tollgate token`: who may call the sidecars.

mod create;
mod list;
mod revoke;

/// Create, list and revoke the tokens that calls are made with
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Create a token and print it, this once
    Create(create::Args),
    /// List tokens, without their secrets
    List(list::Args),
    /// Revoke a token: sidecars refuse it within a second, and end its streams
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
