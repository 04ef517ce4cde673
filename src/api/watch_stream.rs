//! `WatchUsage`: a tenant's usage, and what changes of it, for as long as the caller listens.

use futures::{Stream, stream::unfold};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{refusal::Refusal, usage_status::watch_response};
use crate::{
    enforcement::{error::EngineError, watch::UsageWatch},
    proto::v1::WatchUsageResponse,
};

/// Looks when the caller has room for news, so one that does not read costs nothing. An error ends
/// the stream.
pub fn watch_stream(
    watch: UsageWatch,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<WatchUsageResponse, Status>> + Send + 'static {
    unfold(Some(watch), move |watch| {
        let shutdown = shutdown.clone();
        async move {
            let mut watch = watch?;
            let news = tokio::select! {
                biased;
                () = shutdown.cancelled() => Err(EngineError::ShuttingDown),
                news = watch.next() => news,
            };
            Some(match news {
                Ok(status) => (Ok(watch_response(status)), Some(watch)),
                Err(error) => (Err(Refusal::from(error).into()), None),
            })
        }
    })
}
