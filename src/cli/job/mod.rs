//! `tollgate job`: shows the worker's jobs and their runs, and runs one by hand.

mod history;
mod list;
mod run;
mod shown;

/// Show the worker's jobs and their runs; run one by hand
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Show every job: what it does, when it is due, how its last run ended
    List(list::Args),
    /// Run a job now; exits with 1 when it fails
    Run(run::Args),
    /// Show the latest runs
    History(history::Args),
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::List(args) => list::run(args).await,
        Command::Run(args) => run::run(args).await,
        Command::History(args) => history::run(args).await,
    }
}
