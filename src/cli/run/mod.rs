//! `tollgate run`: lists runs, and closes those that will not come back.

mod close;
mod list;

/// List the starts of sidecars, and close those that will not come back
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// List runs: every start of every sidecar
    List(list::Args),
    /// Close a run whose sidecar, or whose disk, is lost for good
    Close(close::Args),
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::List(args) => list::run(&args).await,
        Command::Close(args) => close::run(&args).await,
    }
}
