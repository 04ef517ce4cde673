//! `tollgate check`: may this tenant do this now?

use std::process::ExitCode;

use super::{
    answer,
    endpoint::{DurabilityArg, EndpointArgs, durability, property},
};
use crate::{
    cli::{
        print::outln,
        values::{seconds, units},
    },
    proto::v1::{CheckQuotaRequest, Mode},
};

/// What a denial exits with, so that scripts can tell it from an error (1).
const DENIED: u8 = 3;

/// Ask a sidecar whether a tenant may use an amount of a meter now
///
/// Exits with 0 when allowed, 3 when denied, 1 on an error.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Who
    tenant: String,
    /// What is counted
    meter: String,
    /// Base units
    #[arg(default_value_t = 1, allow_negative_numbers = true, value_parser = units)]
    amount: i64,
    /// Look only, take and record in one step, or hold for later
    #[arg(long, value_enum, default_value = "check")]
    mode: ModeArg,
    /// Something within the tenant, for limits that hold per subject
    #[arg(long, default_value = "")]
    subject: String,
    /// Idempotency key: a repeat with the same key counts once
    #[arg(long, default_value = "")]
    key: String,
    /// What the acknowledgement survives; the sidecar's default unless given
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// Seconds that a reservation holds; the sidecar's default unless given
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    ttl: Option<u32>,
    /// A property of the event, NAME=VALUE; may be given several times
    #[arg(long = "property", value_parser = property)]
    properties: Vec<(String, String)>,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ModeArg {
    Check,
    Consume,
    Reserve,
}

/// Asks, and prints the answer.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mode = match args.mode {
        ModeArg::Check => Mode::Check,
        ModeArg::Consume => Mode::Consume,
        ModeArg::Reserve => Mode::Reserve,
    };
    let request = CheckQuotaRequest {
        tenant: args.tenant,
        meter: args.meter,
        subject: args.subject,
        amount: Some(args.amount),
        mode: mode.into(),
        idempotency_key: args.key,
        durability: durability(args.durability).into(),
        reservation_ttl: args
            .ttl
            .map(|seconds| crate::proto::time::Duration { seconds: seconds.into(), nanos: 0 }),
        properties: args.properties.into_iter().collect(),
    };
    let mut sidecar = args.endpoint.connect().await?;
    let answer = sidecar
        .check_quota(request)
        .await
        .map_err(|status| args.endpoint.refused(status))?
        .into_inner();
    if args.endpoint.json {
        outln!("{}", answer::check_as_json(&answer));
    } else {
        outln!("{}", answer::check_as_text(&answer));
    }
    Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::from(DENIED) })
}
