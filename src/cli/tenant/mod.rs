//! `tollgate tenant`: creates, shows and lists tenants, changes their plans, suspends them.

mod create;
mod known_plan;
mod list;
mod set_plan;
mod set_status;
mod show;
mod shown;

/// Create, show and list tenants, change their plans, suspend them
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Create a tenant and its subscription
    Create(create::Args),
    /// Show a tenant, its plan and how it came to it
    Show(show::Args),
    /// List tenants
    List(list::Args),
    /// Put a tenant on another plan, or on another version of its plan
    SetPlan(set_plan::Args),
    /// Deny a tenant everything, until it is reactivated
    Suspend(set_status::Args),
    /// Serve a suspended tenant again
    Reactivate(set_status::Args),
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Create(args) => create::run(&args).await,
        Command::Show(args) => show::run(&args).await,
        Command::List(args) => list::run(&args).await,
        Command::SetPlan(args) => set_plan::run(&args).await,
        Command::Suspend(args) => set_status::suspend(&args).await,
        Command::Reactivate(args) => set_status::reactivate(&args).await,
    }
}
