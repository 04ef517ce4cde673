//! `tollgate tenant`: creates, shows and lists tenants, and changes their plans.

mod create;
mod known_plan;
mod list;
mod set_plan;
mod show;
mod shown;

/// Create, show and list tenants, and change their plans
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
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Create(args) => create::run(&args).await,
        Command::Show(args) => show::run(&args).await,
        Command::List(args) => list::run(&args).await,
        Command::SetPlan(args) => set_plan::run(&args).await,
    }
}
