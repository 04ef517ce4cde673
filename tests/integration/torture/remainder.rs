//! Nothing is stranded: what is left of a limit can be had, to the last unit and no more.

use std::time::{Duration, Instant};

use tollgate::proto::v1::{CheckQuotaResponse, GetUsageRequest, Mode, QuotaReason};
use tonic::Status;

use super::{
    comparison::Books,
    operation::{Batch, Operation, Verb},
    stage::Stage,
    tenants::{KEYED, LOOSE, MEMBERS, POOL},
    truth::Truth,
};
use crate::sidecars::cluster::{Client, quota};

/// How long what is left may take to be had: sidecars hand back what they hold.
const HAD_WAIT_MAX: Duration = Duration::from_secs(60);
const METERS: [&str; 2] = ["calls", "jobs"];

/// Takes what is left of each monthly limit, in one piece, and one unit more, which must be denied.
pub async fn take(stage: &Stage, truth: &Truth, books: &Books) -> Vec<String> {
    let mut differences = vec![];
    let client = stage.client(0, HAD_WAIT_MAX);
    let tenants = KEYED.into_iter().chain([LOOSE]);
    let limits = tenants.flat_map(|tenant| METERS.map(|meter| (tenant, meter)));
    for (tenant, meter) in limits.chain([(MEMBERS[0], POOL.1)]) {
        if let Err(difference) = take_of(&client, truth, books, tenant, meter).await {
            differences.push(format!("{tenant}/{meter}: {difference}"));
        }
    }
    differences
}

async fn take_of(
    client: &Client,
    truth: &Truth,
    books: &Books,
    tenant: &str,
    meter: &'static str,
) -> Result<(), String> {
    let request = GetUsageRequest {
        tenant: tenant.to_owned(),
        meters: vec![meter.to_owned()],
        ..Default::default()
    };
    let usage = client.clone().get_usage(request).await.map_err(|status| status.to_string())?;
    let usage = &usage.into_inner().meters[0];
    let limit = usage.limit;
    let granted = usage.grants.iter().map(|grant| grant.amount).sum();
    let left = books.left(tenant, meter, limit, granted);
    if left > 0 {
        let is_had = |answer: &CheckQuotaResponse| answer.allowed;
        until(client, tenant, meter, left, is_had)
            .await
            .map_err(|seen| format!("{left} of {limit} are left and cannot be had: {seen}"))?;
        let operation =
            Operation { tenant: tenant.to_owned(), meter, amount: left, key: String::new() };
        let batch = Batch {
            operations: vec![operation],
            verb: Verb::Consume,
            durability: tollgate::proto::v1::Durability::Sync,
        };
        truth.book().counted(&batch, true);
    }
    let is_denied = |answer: &CheckQuotaResponse| answer.reason() == QuotaReason::LimitExceeded;
    until(client, tenant, meter, 1, is_denied)
        .await
        .map_err(|seen| format!("nothing is left of {limit}, and one more is not denied: {seen}"))
}

/// Consumes until the answer is the one that is waited for; an allowed one that is not ends it.
async fn until(
    client: &Client,
    tenant: &str,
    meter: &str,
    amount: i64,
    is_it: impl Fn(&CheckQuotaResponse) -> bool,
) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let request = quota(Mode::Consume, tenant, meter, amount);
        let answer: Result<_, Status> = client.clone().check_quota(request).await;
        let answer = answer.map(tonic::Response::into_inner);
        match answer {
            Ok(answer) if is_it(&answer) => return Ok(()),
            Ok(answer) if !answer.allowed && started.elapsed() < HAD_WAIT_MAX => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return Err(format!("{other:?}")),
        }
    }
}
