//! The command line: one file per command, which wires parts together and does nothing else.

pub mod replay;

use std::process::ExitCode;

use clap::Parser;

/// Usage metering and enforcement: exact quotas answered from local memory, and the bill they lead
/// to.
#[derive(Parser)]
#[command(name = "tollgate", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {}

/// Parses the arguments, runs the command, and says how it went.
pub fn main() -> ExitCode {
    match Cli::parse().command {}
}
