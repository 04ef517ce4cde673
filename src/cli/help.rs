//! Which settings the help of a command shows: those that it reads. All others are taken all the
//! same, so that one settings file, and one line of flags, serves every command.

use clap::{Arg, Command};

/// Sections that a command reads. The ledger is all that most of the operator's tools need.
fn sections(command: &str) -> &'static [&'static str] {
    match command {
        "sidecar" => {
            &["log", "grpc", "http", "access", "tls", "enforcement", "journal", "redis", "ledger"]
        }
        "worker" => &["log", "ledger", "worker_http", "jobs"],
        "job" => &["log", "ledger", "jobs"],
        "run" | "reconcile" => &["redis", "ledger"],
        _ => &["ledger"],
    }
}

/// Hides the flags of settings that a command does not read; `tollgate config` shows all.
pub(super) fn hide_unread_settings(cli: Command) -> Command {
    let names: Vec<String> = cli.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().filter(|name| name != "config").fold(cli, |cli, name| {
        let read = sections(&name);
        cli.mut_subcommand(name, |command| hide(command, read))
    })
}

fn hide(command: Command, read: &'static [&'static str]) -> Command {
    command
        .mut_args(|arg| if is_read(&arg, read) { arg } else { arg.hide(true) })
        .mut_subcommands(|below| hide(below, read))
}

/// A setting's argument is called by the setting's path.
fn is_read(arg: &Arg, read: &[&str]) -> bool {
    let section = arg.get_id().as_str().split_once('.').map(|(section, _)| section);
    section.is_none_or(|section| read.contains(&section))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn long_help(path: &[&str]) -> String {
        let mut cli = hide_unread_settings(Cli::command());
        let below = path.iter().fold(&mut cli, |command, name| {
            command.find_subcommand_mut(name).unwrap_or_else(|| panic!("{path:?}"))
        });
        below.render_long_help().to_string()
    }

    #[test]
    fn help_shows_the_settings_that_a_command_reads() {
        let list = long_help(&["tenant", "list"]);
        assert!(list.contains("--ledger-url") && !list.contains("--grpc-listen"), "{list}");
        assert!(long_help(&["sidecar"]).contains("--grpc-listen"));
        let config = long_help(&["config"]);
        assert!(
            config.contains("--jobs-overages-schedule") || config.contains("--jobs-"),
            "{config}"
        );
    }

    #[test]
    fn a_setting_that_is_not_shown_is_taken_all_the_same() {
        let cli = hide_unread_settings(Cli::command());
        let given = ["tollgate", "tenant", "list", "--grpc-drain-s", "5"];
        assert!(cli.try_get_matches_from(given).is_ok());
    }

    #[test]
    fn every_headline_is_an_imperative() {
        fn check(command: &Command) {
            for below in command.get_subcommands() {
                let about = below.get_about().map(ToString::to_string).unwrap_or_default();
                let verb = about.split([' ', ',']).next().unwrap_or_default();
                let is_imperative = !verb.is_empty() && !verb.ends_with('s');
                assert!(is_imperative && !about.ends_with('.'), "{}: {about}", below.get_name());
                check(below);
            }
        }
        check(&Cli::command());
    }
}
