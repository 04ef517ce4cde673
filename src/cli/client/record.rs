//! `tollgate record`: this was used.

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;

use super::endpoint::{DurabilityArg, EndpointArgs, durability, property};
use crate::{
    cli::{
        print::outln,
        values::{instant, units},
    },
    proto::v1::{RecordUsageRequest, UsageEvent},
};

/// Record usage with a sidecar, after the fact
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Who used it
    tenant: String,
    /// What is counted
    meter: String,
    /// Base units; negative only to lower a level
    #[arg(allow_negative_numbers = true, value_parser = units)]
    amount: i64,
    /// Something within the tenant, for limits that hold per subject
    #[arg(long, default_value = "")]
    subject: String,
    /// Idempotency key: a repeat with the same key counts once
    #[arg(long, default_value = "")]
    key: String,
    /// When it happened (RFC 3339); now unless given
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    time: Option<Timestamp>,
    /// The reservation that this usage settles
    #[arg(long, default_value = "")]
    reservation: String,
    /// What the acknowledgement survives; the sidecar's default unless given
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// A property of the event, NAME=VALUE; may be given several times
    #[arg(long = "property", value_parser = property)]
    properties: Vec<(String, String)>,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// Records one event, and prints the acknowledgement.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let event = UsageEvent {
        tenant: args.tenant,
        meter: args.meter,
        subject: args.subject,
        amount: Some(args.amount),
        idempotency_key: args.key,
        time: args.time.map(|at| crate::proto::time::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }),
        properties: args.properties.into_iter().collect(),
        reservation_id: args.reservation,
    };
    let request =
        RecordUsageRequest { events: vec![event], durability: durability(args.durability).into() };
    let mut sidecar = args.endpoint.connect().await?;
    let receipt = sidecar
        .record_usage(request)
        .await
        .map_err(|status| args.endpoint.refused(status))?
        .into_inner();
    if args.endpoint.json {
        let receipt = json!({
            "accepted": receipt.accepted,
            "duplicates": receipt.duplicates,
            "late": receipt.late,
        });
        outln!("{receipt}");
        return Ok(());
    }
    let known = usize::try_from(receipt.duplicates).context("a negative count of duplicates")?;
    outln!(
        "{}",
        match (known, receipt.late) {
            (0, 0) => "recorded",
            (0, _) =>
                "recorded, and settles nothing: the reservation had ended (or is not of this \
                       sidecar)",
            _ => "known already: counted once",
        }
    );
    Ok(())
}
