//! `tollgate usage`: what a tenant has used of what it may.

use super::{endpoint::EndpointArgs, usage_shown};
use crate::{cli::print::outln, proto::v1::GetUsageRequest};

/// Ask a sidecar what a tenant has used of each of its limits
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Who
    tenant: String,
    /// The meters to show; all of the tenant's plan unless given
    meters: Vec<String>,
    /// Something within the tenant, for limits that hold per subject
    #[arg(long, default_value = "")]
    subject: String,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// Asks, and prints a row per meter.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let request =
        GetUsageRequest { tenant: args.tenant, meters: args.meters, subject: args.subject };
    let mut sidecar = args.endpoint.connect().await?;
    let answer = sidecar
        .get_usage(request)
        .await
        .map_err(|status| args.endpoint.refused(status))?
        .into_inner();
    if args.endpoint.json {
        outln!("{}", usage_shown::as_json(&answer));
    } else {
        outln!("{}", usage_shown::as_text(&answer));
    }
    Ok(())
}
