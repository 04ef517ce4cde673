//! `tollgate catalog`: checks, compares, stores and shows catalogs.

mod apply;
mod diff;
mod files;
mod matrix;

mod sections;
mod show;
mod validate;

/// Check, compare, store and show catalogs
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Say everything that is wrong with catalog files
    Validate(validate::Args),
    /// Put catalog files in force; what is in force already changes nothing
    Apply(apply::Args),
    /// Show a catalog that is in force, or list all
    Show(show::Args),
    /// Say what applying a catalog file would change
    Diff(diff::Args),
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Validate(args) => validate::run(&args),
        Command::Apply(args) => apply::run(&args).await,
        Command::Show(args) => show::run(&args).await,
        Command::Diff(args) => diff::run(&args).await,
    }
}
