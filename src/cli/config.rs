//! `tollgate config`: shows every setting.

use super::print::{out, outln};
use crate::config::{SettingsArgs, show};

/// Show every setting: value, where it came from, default, names, meaning. Passwords are hidden
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Answer in JSON; else as a TOML file
    #[arg(long)]
    json: bool,
}

/// Loads the settings as any command would, and prints them.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let loaded = args.settings.load()?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&show::json(&loaded))?);
    } else {
        out!("{}", show::toml(&loaded));
    }
    Ok(())
}
