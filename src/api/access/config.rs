//! Settings of access.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::invalid::Invalid;

/// Who may call at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    /// Whoever has a token.
    #[default]
    Tokens,
    /// Everybody who can reach the ports.
    Open,
}

/// Who may call, over TCP. A Unix socket is for those who may open its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// `tokens`: calls need a token (`tollgate token create`). `open`: everybody who can reach the
    /// ports may do everything; for trying out, and for networks that somebody else guards.
    #[schemars(with = "String")]
    pub mode: AccessMode,
    /// A YAML file with tokens beside those of the ledger, read again when it changes: for a
    /// sidecar without a ledger. `tollgate token create --print-entry` makes its entries.
    pub tokens_file: Option<PathBuf>,
    /// Whether `/metrics` and `/readyz` answer without a token. `/livez` and gRPC's health always
    /// do.
    pub metrics_open: bool,
    /// Whether gRPC reflection and `/openapi.json` answer without a token.
    pub descriptions_open: bool,
    /// Calls a second that one token may make on this sidecar, with a burst of one second's; 0 for
    /// no such limit. A message of a stream counts as a call and waits for its turn; a batch is one
    /// call, whatever it holds.
    pub calls_per_token_s: u32,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            mode: AccessMode::Tokens,
            tokens_file: None,
            metrics_open: true,
            descriptions_open: true,
            calls_per_token_s: 1_000_000,
        }
    }
}

impl AccessConfig {
    /// Checks the settings against each other.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.mode == AccessMode::Open && self.tokens_file.is_some() {
            return Err(Invalid::new(
                "tokens_file",
                "is given while access is open, and would not be looked at",
                "leave it out, or set access.mode to tokens",
            ));
        }
        Ok(())
    }
}
