//! Which sidecar is called, and what every call says.

use std::time::Duration;

use anyhow::Context;
use tonic::{Status, transport::Channel};

use super::{address::SidecarAddress, refused};
use crate::proto::v1::{self, tollgate_service_client::TollgateServiceClient};

/// How long a call may take; far above what any call needs.
const CALL_WAIT_MAX: Duration = Duration::from_secs(15);

/// Which sidecar to call.
#[derive(clap::Args, Debug)]
pub(super) struct EndpointArgs {
    /// The sidecar: HOST:PORT, http://HOST:PORT or unix:///PATH
    #[arg(long, env = "TOLLGATE_ENDPOINT", default_value = "http://127.0.0.1:7421")]
    endpoint: SidecarAddress,
    /// Answer in JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl EndpointArgs {
    /// Connects to the sidecar.
    pub(super) async fn connect(&self) -> anyhow::Result<TollgateServiceClient<Channel>> {
        let at = &self.endpoint;
        let channel = at.endpoint(CALL_WAIT_MAX).connect().await.with_context(|| {
            format!("no sidecar answers at {at}; start one (`tollgate dev`) or give --endpoint")
        })?;
        Ok(TollgateServiceClient::new(channel))
    }

    /// A failed call as an error for people.
    pub(super) fn refused(&self, status: Status) -> anyhow::Error {
        refused::refused(&status, &self.endpoint)
    }
}

/// What an acknowledgement survives.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum DurabilityArg {
    /// Nothing but an orderly stop.
    Memory,
    /// The end of the sidecar.
    Written,
    /// The end of the host.
    Sync,
}

/// The wire's durability; unspecified when none was asked for.
pub(super) fn durability(asked: Option<DurabilityArg>) -> v1::Durability {
    match asked {
        None => v1::Durability::Unspecified,
        Some(DurabilityArg::Memory) => v1::Durability::Memory,
        Some(DurabilityArg::Written) => v1::Durability::Written,
        Some(DurabilityArg::Sync) => v1::Durability::Sync,
    }
}

/// Reads `NAME=VALUE`.
pub(super) fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("give NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_cut_at_its_first_equals_sign() {
        assert_eq!(property("path=/a?b=c"), Ok(("path".into(), "/a?b=c".into())));
        assert!(property("=c").is_err());
        assert!(property("path").is_err());
    }
}
