//! Settings as flags: one per setting, besides the file.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, builder::ValueParser};

use super::{
    load::{self, Given, Loaded},
    reference::{self, Kind, Setting},
};

const CONFIG: &str = "config";

/// The part of a command line that gives settings; flattened into each command that reads them.
#[derive(Clone, Debug, Default)]
pub struct SettingsArgs {
    file: Option<PathBuf>,
    flags: Vec<(String, String)>,
}

impl SettingsArgs {
    /// Puts the settings together, from the file and the flags given here and the environment.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        let given = Given {
            file: self.file.clone(),
            variables: std::env::vars_os()
                .filter_map(|(name, text)| {
                    Some((name.into_string().ok()?, text.into_string().ok()?))
                })
                .collect(),
            flags: self.flags.clone(),
        };
        Ok(load::load(&given)?)
    }
}

impl clap::FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>(CONFIG).cloned();
        let given = reference::settings().filter_map(|setting| {
            let text = matches.get_one::<String>(&setting.path)?;
            Some((setting.path.clone(), text.clone()))
        });
        self.flags = given.collect();
        Ok(())
    }
}

impl clap::Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .env("TOLLGATE_CONFIG")
            .value_name("FILE")
            .value_parser(ValueParser::path_buf())
            .help("Settings as TOML; `tollgate config` prints one with every setting");
        command.arg(file).args(reference::settings().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let value_name = match setting.kind {
        Kind::Text => "TEXT",
        Kind::WholeNumber | Kind::Number => "N",
        Kind::YesNo => "BOOL",
    };
    Arg::new(setting.path.as_str())
        .long(setting.flag())
        .value_name(value_name)
        .allow_hyphen_values(true)
        .help(format!("{} [default: {}]", setting.description, shown(&setting.default)))
        .help_heading("Settings (also in --config and the environment)")
        .hide_short_help(true)
}

fn shown(default: &serde_json::Value) -> String {
    match default {
        serde_json::Value::Null => "none".to_owned(),
        serde_json::Value::String(text) if text.is_empty() => "none".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    #[test]
    fn a_flag_sets_its_setting_and_an_unknown_one_is_refused() {
        let command = || SettingsArgs::augment_args(Command::new("tollgate"));
        let matches = command().try_get_matches_from(["tollgate", "--grpc-drain-s", "7"]).unwrap();
        let args = SettingsArgs::from_arg_matches(&matches).unwrap();
        assert_eq!(args.flags, [("grpc.drain_s".to_owned(), "7".to_owned())]);
        assert!(command().try_get_matches_from(["tollgate", "--grpc-drian-s", "7"]).is_err());
    }
}
