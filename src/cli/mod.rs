//! The command line: one file per command, which wires parts together and does nothing else.

use std::process::ExitCode;

use clap::{Arg, CommandFactory, FromArgMatches, Parser};

pub mod account;
pub mod alert;
pub mod catalog;
pub mod charges;
pub mod client;
pub mod config;
mod counters;
pub mod dev;
pub mod feature;
pub mod grant;
mod help;
pub mod job;
pub mod ledger_args;
pub mod migrate;
pub mod pool;
mod print;
pub mod reconcile;
pub mod replay;
pub mod run;
pub mod sidecar;
pub mod table;
pub mod tenant;
pub mod token;
mod told;
pub mod trace;
mod values;
pub mod worker;
mod worker_name;

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
    Alert(alert::Args),
    Catalog(catalog::Args),
    Charges(charges::Args),
    Check(client::check::Args),
    Config(config::Args),
    Dev(dev::Args),
    Feature(feature::Args),
    Grant(grant::Args),
    Migrate(migrate::Args),
    Job(job::Args),
    Pool(pool::Args),
    Reconcile(reconcile::Args),
    Record(client::record::Args),
    Release(client::release::Args),
    Replay(replay::Args),
    Run(run::Args),
    Sidecar(sidecar::Args),
    Tenant(tenant::Args),
    Token(token::Args),
    Trace(trace::Args),
    Usage(client::usage::Args),
    Worker(worker::Args),
}

/// Parses the arguments, runs the command, and says how it went: 0, or 1 with the error on standard
/// error (2 when the arguments themselves are wrong); some commands have further codes.
pub fn main() -> ExitCode {
    let matches = command_line().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    dispatch(cli.command).unwrap_or_else(|error| {
        eprintln!("tollgate: {}", told::told(&error));
        ExitCode::FAILURE
    })
}

fn command_line() -> clap::Command {
    take_negative_numbers(help::hide_unread_settings(Cli::command()))
}

/// Lets every argument be given a negative number: what is wrong with it is for the argument's own
/// check to say, which knows what to give instead.
fn take_negative_numbers(command: clap::Command) -> clap::Command {
    let take = |arg: Arg| match arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    command.mut_args(take).mut_subcommands(take_negative_numbers)
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Account(args) => block_on(account::run(args)),
        Command::Alert(args) => block_on(alert::run(args)),
        Command::Catalog(args) => block_on(catalog::run(args)),
        Command::Charges(args) => block_on(charges::run(args)),
        Command::Check(args) => return block_on(client::check::run(args)),
        Command::Config(args) => config::run(&args),
        Command::Dev(args) => block_on(dev::run(args)),
        Command::Feature(args) => block_on(feature::run(args)),
        Command::Grant(args) => block_on(grant::run(args)),
        Command::Migrate(args) => block_on(migrate::run(args)),
        Command::Job(args) => block_on(job::run(args)),
        Command::Pool(args) => block_on(pool::run(args)),
        Command::Reconcile(args) => return block_on(reconcile::run(args)),
        Command::Record(args) => block_on(client::record::run(args)),
        Command::Release(args) => block_on(client::release::run(args)),
        Command::Replay(args) => block_on(replay::run(args)),
        Command::Run(args) => block_on(run::run(args)),
        Command::Sidecar(args) => block_on(sidecar::run(args)),
        Command::Tenant(args) => block_on(tenant::run(args)),
        Command::Token(args) => block_on(token::run(args)),
        Command::Trace(args) => block_on(trace::run(args)),
        Command::Usage(args) => block_on(client::usage::run(args)),
        Command::Worker(args) => block_on(worker::run(args)),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs a command that has no needs of its own on a runtime with one thread per core.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new()?;
    let done = runtime.block_on(work);
    // A thread that still waits for something (a server to come up) is nothing to wait for.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::OTHER_VARIABLES;

    fn variables(command: &clap::Command) -> Vec<String> {
        let own = command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.into()));
        let below = command.get_subcommands().flat_map(variables);
        own.chain(below).collect()
    }

    #[test]
    fn every_variable_that_a_flag_reads_is_known_not_to_be_a_setting() {
        let found = variables(&Cli::command());
        assert!(found.len() > 1);
        for name in found {
            assert!(OTHER_VARIABLES.contains(&name.as_str()), "{name} would be refused");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command_line().debug_assert();
    }

    #[test]
    fn what_begins_with_a_hyphen_is_told_by_the_arguments_own_check() {
        let told = |arguments: &[&str]| {
            let given = ["tollgate"].iter().chain(arguments);
            command_line().try_get_matches_from(given).unwrap_err().to_string()
        };
        let token = told(&["token", "create", "shop", "--expires", "-5d"]);
        assert!(token.contains("give an instant (2027-01-01T00:00:00Z)"), "{token}");
        let list = told(&["run", "list", "--limit", "-1"]);
        assert!(list.contains("give a whole number of at least 1"), "{list}");
        let clock = told(&["account", "clock", "acme", "--advance", "1fortnight"]);
        assert!(clock.contains("give a span, such as 3d"), "{clock}");
        assert!(!clock.contains("friendly"), "{clock}");
        let grant = ["grant", "create", "acme", "--meter", "calls", "--amount", "-5"];
        let given = ["tollgate"].iter().chain(&grant);
        assert!(command_line().try_get_matches_from(given).is_ok(), "the amount's own check");
    }
}
