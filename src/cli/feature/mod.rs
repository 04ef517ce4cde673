//! `tollgate feature`: overrides the features of single tenants, and lists what a tenant has.

mod clear;
mod list;
mod set;

/// Override features of single tenants, and list what a tenant has
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Give a tenant a feature with a value of its own
    Override(set::Args),
    /// Take an override away
    Clear(clear::Args),
    /// List the features of a tenant with their reasons
    List(list::Args),
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Override(args) => set::run(&args).await,
        Command::Clear(args) => clear::run(&args).await,
        Command::List(args) => list::run(&args).await,
    }
}
