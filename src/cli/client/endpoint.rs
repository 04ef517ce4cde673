//! Which sidecar is called, and what every call says.

use std::time::Duration;

use anyhow::Context;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

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
    /// The token to call with (`tollgate token create`); none over a Unix socket, or where access
    /// is open
    #[arg(long, env = "TOLLGATE_TOKEN", hide_env_values = true, value_parser = bearer)]
    token: Option<Bearer>,
    /// Answer in JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A client of the sidecar, which sends the token.
pub(super) type Client = TollgateServiceClient<InterceptedService<Channel, Bearer>>;

/// What every call carries.
#[derive(Clone, Debug, Default)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

fn bearer(text: &str) -> Result<Bearer, String> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {text}")
        .parse()
        .map_err(|_| "give the token as `tollgate token create` printed it".to_owned())?;
    value.set_sensitive(true);
    Ok(Bearer(Some(value)))
}

impl EndpointArgs {
    /// Connects to the sidecar.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let at = &self.endpoint;
        let channel = at.endpoint(CALL_WAIT_MAX).connect().await.with_context(|| {
            format!("no sidecar answers at {at}; start one (`tollgate dev`) or give --endpoint")
        })?;
        let token = self.token.clone().unwrap_or_default();
        Ok(TollgateServiceClient::with_interceptor(channel, token))
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
