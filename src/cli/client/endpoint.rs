//! Which sidecar is called, and what every call says.

use std::time::Duration;

use anyhow::Context;
use tonic::transport::{Channel, Endpoint};

use crate::proto::v1::{self, tollgate_service_client::TollgateServiceClient};

/// How long a sidecar may take to take a connection.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a call may take; far above what any call needs.
const CALL_WAIT_MAX: Duration = Duration::from_secs(15);

/// Which sidecar to call.
#[derive(clap::Args, Debug)]
pub(super) struct EndpointArgs {
    /// The sidecar: http://HOST:PORT or unix:///PATH
    #[arg(long, env = "TOLLGATE_ENDPOINT", default_value = "http://127.0.0.1:7421")]
    endpoint: String,
    /// The answer as JSON, for programs
    #[arg(long)]
    pub(super) json: bool,
}

impl EndpointArgs {
    /// Connects to the sidecar.
    pub(super) async fn connect(&self) -> anyhow::Result<TollgateServiceClient<Channel>> {
        let at = &self.endpoint;
        let endpoint = Endpoint::from_shared(at.clone())
            .with_context(|| format!("--endpoint: {at:?} is not http://HOST:PORT or unix:///PATH"))?
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_WAIT_MAX)
            .timeout(CALL_WAIT_MAX);
        let channel = endpoint.connect().await.with_context(|| {
            format!("no sidecar answers at {at}; start one (`tollgate dev`) or give --endpoint")
        })?;
        Ok(TollgateServiceClient::new(channel))
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
