//! Uses every tenant's meters once, so that all of them are active.

use anyhow::bail;
use futures::{StreamExt, future::try_join_all, stream};
use tollgate::proto::v1;

use crate::server::{Client, Server};

/// Streams at a time. The sidecar works off some hundreds of each at a time.
const STREAMS: usize = 4;

/// Takes one of each meter of each tenant.
pub async fn touch(server: &Server, tenants: usize, meters: &[String]) -> anyhow::Result<()> {
    let clients = try_join_all((0..STREAMS).map(|_| server.client())).await?;
    let part = |(first, client)| touch_part(client, first, tenants, meters);
    try_join_all(clients.into_iter().enumerate().map(part)).await?;
    Ok(())
}

/// Does so for every `STREAMS`th tenant from `first` on.
async fn touch_part(
    mut client: Client,
    first: usize,
    tenants: usize,
    meters: &[String],
) -> anyhow::Result<()> {
    let meters = meters.to_vec();
    let wanted = (first..tenants).step_by(STREAMS).count() * meters.len();
    let requests = (first..tenants).step_by(STREAMS).flat_map(move |tenant| {
        let requests: Vec<_> = meters.iter().map(|meter| request(tenant, meter)).collect();
        requests
    });
    let mut answers = client.check_stream(stream::iter(requests)).await?.into_inner();
    let mut allowed = 0;
    while let Some(answer) = answers.next().await {
        match answer?.result.and_then(|result| result.result) {
            Some(v1::any_check_result::Result::Quota(quota)) if quota.allowed => allowed += 1,
            other => bail!("a tenant's first use was not allowed: {other:?}"),
        }
    }
    if allowed != wanted {
        bail!("{allowed} of {wanted} first uses were answered");
    }
    Ok(())
}

fn request(tenant: usize, meter: &str) -> v1::CheckStreamRequest {
    let quota = v1::CheckQuotaRequest {
        tenant: format!("load-{tenant}"),
        meter: meter.to_owned(),
        amount: Some(1),
        mode: v1::Mode::Consume.into(),
        durability: v1::Durability::Written.into(),
        ..Default::default()
    };
    let check = v1::AnyCheck { check: Some(v1::any_check::Check::Quota(quota)) };
    v1::CheckStreamRequest { id: 0, check: Some(check) }
}
