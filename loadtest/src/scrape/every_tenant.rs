//! A question about every tenant, so that each is in the sidecar's memory.

use std::ops::Range;

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use tollgate::proto::v1::{
    self, any_check::Check, any_check_result, tollgate_service_client::TollgateServiceClient,
};
use tonic::transport::Channel;

use crate::target::Target;

/// Checks of one batch.
const BATCH: usize = 1_000;
/// Batches at a time: a tenant that is not known waits for Postgres.
const BATCHES_AT_A_TIME: usize = 16;

/// Has every tenant and its counter in memory.
pub async fn ask_about_all(target: Target, tenants: usize) -> anyhow::Result<()> {
    let client = TollgateServiceClient::connect(format!("http://{target}")).await?;
    let batches = (0..tenants).step_by(BATCH).map(|first| first..tenants.min(first + BATCH));
    let asked = batches.map(|batch| ask_about(client.clone(), batch));
    stream::iter(asked).buffer_unordered(BATCHES_AT_A_TIME).try_collect().await
}

async fn ask_about(
    mut client: TollgateServiceClient<Channel>,
    tenants: Range<usize>,
) -> anyhow::Result<()> {
    let count = tenants.len();
    let checks = tenants.map(|number| {
        let quota = v1::CheckQuotaRequest {
            tenant: format!("load-{number}"),
            meter: "tokens".into(),
            amount: Some(1),
            mode: v1::Mode::Check.into(),
            ..Default::default()
        };
        v1::AnyCheck { check: Some(Check::Quota(quota)) }
    });
    let request = v1::CheckBatchRequest { checks: checks.collect() };
    let answer = client.check_batch(request).await?.into_inner();
    let wrong = answer.results.iter().find(|result| match &result.result {
        Some(any_check_result::Result::Quota(quota)) => !quota.allowed,
        _ => true,
    });
    ensure!(wrong.is_none() && answer.results.len() == count, "{wrong:?}");
    Ok(())
}
