//! `tollgate alert`: thresholds that usage has reached.

mod list;

/// Show the thresholds of limits that usage has reached
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// List a tenant's alerts, the latest first
    List(list::Args),
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::List(args) => list::run(&args).await,
    }
}
