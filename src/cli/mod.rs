//! The command line: one file per command, which wires parts together and does nothing else.

use std::process::ExitCode;

use clap::Parser;

pub mod account;
pub mod catalog;
pub mod config;
pub mod ledger_args;
pub mod replay;
pub mod table;
pub mod tenant;

/// Usage metering and enforcement: exact quotas answered from local memory, and the bill they lead
/// to.
#[derive(Parser)]
#[command(name = "tollgate", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Account(account::Args),
    Catalog(catalog::Args),
    Config(config::Args),
    Replay(replay::Args),
    Tenant(tenant::Args),
}

/// Parses the arguments, runs the command, and says how it went: 0, or 1 with the error on standard
/// error (2 when the arguments themselves are wrong).
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Account(args) => block_on(account::run(args)),
        Command::Catalog(args) => block_on(catalog::run(args)),
        Command::Config(args) => config::run(&args),
        Command::Replay(args) => block_on(replay::run(args)),
        Command::Tenant(args) => block_on(tenant::run(args)),
    }
}

/// Runs a command that has no needs of its own on a runtime with one thread per core.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(work)
}
