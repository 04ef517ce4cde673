//! Logs on standard error.

use std::io::IsTerminal;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::domain::invalid::Invalid;

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line for people.
    Human,
    /// One JSON object per line, for collectors.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `human`, or `json` with one object per line.
    #[schemars(with = "String")]
    pub format: LogFormat,
    /// Levels by module, as tracing-subscriber's EnvFilter has them (`info,tollgate::leases=debug`).
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Human, filter: "info".into() }
    }
}

impl LogConfig {
    /// Checks that the filter can be read.
    pub fn check(&self) -> Result<(), Invalid> {
        self.parsed().map(drop)
    }

    fn parsed(&self) -> Result<EnvFilter, Invalid> {
        EnvFilter::builder().parse(&self.filter).map_err(|error| {
            Invalid::new(
                "filter",
                format!("{:?} cannot be read ({error})", self.filter),
                "give a level (error, warn, info, debug, trace) or pairs like module=level",
            )
        })
    }
}

/// Sends logs to standard error from now on; a second call in one process changes nothing.
pub fn init(config: &LogConfig) -> Result<(), Invalid> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(config.parsed()?)
        .with_ansi(has_colours(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR")))
        .with_writer(std::io::stderr);
    // Only the first of several processes' worth of wiring in one test binary can win.
    let _ = match config.format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Colours are for people before a terminal who have not said otherwise (https://no-color.org).
fn has_colours(is_terminal: bool, no_color: Option<std::ffi::OsString>) -> bool {
    is_terminal && no_color.is_none_or(|text| text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_is_given_colours() {
        assert!(has_colours(true, None));
        assert!(!has_colours(true, Some("1".into())));
        assert!(!has_colours(false, None));
    }

    #[test]
    fn a_filter_that_cannot_be_read_says_how_one_looks() {
        let config = LogConfig { filter: "tollgate=loud".into(), ..LogConfig::default() };
        let error = config.check().unwrap_err();
        assert!(error.problem.contains("tollgate=loud"), "{error}");
        assert!(error.remedy.contains("debug"), "{error}");
        assert!(LogConfig::default().check().is_ok());
    }
}
