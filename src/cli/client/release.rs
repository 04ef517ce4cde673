//! `tollgate release`: give back what a reservation holds.

use serde_json::json;

use super::endpoint::EndpointArgs;
use crate::{cli::print::outln, proto::v1::ReleaseReservationRequest};

/// Give back what a reservation holds, because the operation did not happen
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The tenant that reserved
    tenant: String,
    /// The reservation's id, from `tollgate check --mode reserve`
    reservation: String,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// Releases, and prints how much was given back.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let request =
        ReleaseReservationRequest { tenant: args.tenant, reservation_id: args.reservation };
    let mut sidecar = args.endpoint.connect().await?;
    let answer = sidecar
        .release_reservation(request)
        .await
        .map_err(|status| args.endpoint.refused(status))?
        .into_inner();
    match (args.endpoint.json, answer.released) {
        (true, released) => outln!("{}", json!({ "released": released })),
        (false, 0) => outln!("nothing given back: the reservation had already ended"),
        (false, released) => outln!("released {released}"),
    }
    Ok(())
}
