//! What belongs to another tenant, or stands beside it in one request.

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::ratelimit::v3::{RateLimitRequest, rate_limit_service_client::RateLimitServiceClient},
};
use futures::{poll, stream};
use tokio_stream::wrappers::ReceiverStream;
use tollgate::proto::v1::{
    CheckQuotaRequest, CheckQuotaResponse, Mode, RecordUsageRequest, RecordUsageStreamRequest,
    ReleaseReservationRequest, UsageEvent,
};
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use super::{Guarded, with_token};
use crate::sidecars::cluster::{Client, event, quota};

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_of_another_tenant_is_neither_released_nor_settled() {
    let guarded = Guarded::start().await;
    let mut client = Client::new(guarded.channel.clone());
    let reserve = with_token(quota(Mode::Reserve, "acme", "calls", 5), &guarded.acme);
    let reserved = client.check_quota(reserve).await.unwrap().into_inner();
    let reservation_id = reserved.reservation.unwrap().id;
    let release = |tenant: &str, token: &str| {
        let request = ReleaseReservationRequest {
            tenant: tenant.into(),
            reservation_id: reservation_id.clone(),
        };
        let (mut client, request) = (client.clone(), with_token(request, token));
        async move { client.release_reservation(request).await.map_err(|status| status.code()) }
    };
    assert_eq!(release("acme", &guarded.globex).await.unwrap_err(), Code::PermissionDenied);
    // Whose it is, it does not say.
    assert_eq!(release("globex", &guarded.globex).await.unwrap_err(), Code::NotFound);
    let stolen = UsageEvent {
        reservation_id: reservation_id.clone(),
        ..event("globex", "calls", 1, "stolen")
    };
    let request = RecordUsageRequest { events: vec![stolen], durability: 0 };
    let refused = client.clone().record_usage(with_token(request, &guarded.globex)).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let released = release("acme", &guarded.acme).await.unwrap().into_inner();
    assert_eq!(released.released, 5, "it was whole");
    // That it has ended is told to its tenant alone.
    assert_eq!(release("acme", &guarded.acme).await.unwrap().into_inner().released, 0);
    assert_eq!(release("globex", &guarded.globex).await.unwrap_err(), Code::NotFound);
    guarded.sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_a_batch_and_every_message_of_a_stream_is_compared() {
    let guarded = Guarded::start().await;
    let mut client = Client::new(guarded.channel.clone());
    let (own, other) = (event("acme", "tokens", 1, "own"), event("globex", "tokens", 1, "other"));
    let batch = RecordUsageRequest { events: vec![own.clone(), other.clone()], durability: 0 };
    let refused = client.record_usage(with_token(batch, &guarded.acme)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let message = |sequence, event: &UsageEvent| RecordUsageStreamRequest {
        sequence,
        events: vec![event.clone()],
        ..Default::default()
    };
    let messages = stream::iter([message(1, &own), message(2, &other)]);
    let answers = client.record_usage_stream(with_token(messages, &guarded.acme)).await;
    let mut answers = answers.unwrap().into_inner();
    let ended = loop {
        match answers.message().await {
            Ok(Some(answer)) => assert_eq!(answer.sequence, 1),
            other => break other,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::PermissionDenied);
    // The batch left nothing, the stream what was its own.
    guarded.sidecar.wait_until_used("acme", "tokens", 1).await;
    assert_eq!(guarded.sidecar.usage("globex", "tokens").await.used, 0);
    guarded.sidecar.process.stop();
}

/// Envoy's protocol, which reflection does not name.
pub async fn walk_envoy(guarded: &Guarded) {
    let ask = async |token: Option<&str>| {
        let entry = Entry { key: "tenant".into(), value: "globex".into() };
        let descriptor = RateLimitDescriptor { entries: vec![entry], ..Default::default() };
        let message = RateLimitRequest {
            domain: "edge".into(),
            descriptors: vec![descriptor],
            hits_addend: 1,
        };
        let request = match token {
            Some(token) => with_token(message, token),
            None => Request::new(message),
        };
        let mut client = RateLimitServiceClient::new(guarded.channel.clone());
        client.should_rate_limit(request).await.map(drop).map_err(|status| status.code())
    };
    for token in [None, Some(guarded.revoked.as_str()), Some("tg_nonsense")] {
        assert_eq!(ask(token).await, Err(Code::Unauthenticated), "Envoy's with {token:?}");
    }
    let before = refused(guarded);
    assert_eq!(ask(Some(&guarded.acme)).await, Err(Code::PermissionDenied));
    assert_eq!(ask(Some(&guarded.viewer)).await, Err(Code::PermissionDenied));
    assert_eq!(refused(guarded) - before, 2, "refusals are counted");
    assert_eq!(ask(Some(&guarded.globex)).await, Ok(()));
}

/// Calls that a role or a tenant has kept out.
fn refused(guarded: &Guarded) -> u64 {
    let metrics = crate::fixture::get(guarded.http, "/metrics").unwrap().1;
    let of = |line: &str| {
        let rest = line.strip_prefix("tollgate_access_refused_total{reason=\"")?;
        let (reason, count) = rest.split_once("\"} ")?;
        ["ROLE", "OTHER_TENANT"].contains(&reason).then(|| count.parse::<u64>().ok())?
    };
    metrics.lines().filter_map(of).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_begun_before_its_token_was_revoked_is_not_answered_after() {
    let guarded = Guarded::start().await;
    let shop = guarded.cluster.token("shop", &[]);
    guarded.wait_for(&shop, true).await;
    let (messages, received) = tokio::sync::mpsc::channel::<CheckQuotaRequest>(1);
    let request = with_token(ReceiverStream::new(received), &shop);
    let path = "/tollgate.v1.TollgateService/CheckQuota".parse().unwrap();
    let codec = ProstCodec::<CheckQuotaRequest, CheckQuotaResponse>::default();
    // On the wire every call is a stream: the head goes first, the message when it is there.
    let mut client = tonic::client::Grpc::new(guarded.channel.clone());
    client.ready().await.unwrap();
    let mut begun = Box::pin(client.streaming(request, path, codec));
    assert!(poll!(&mut begun).is_pending());
    // One that comes later on the same connection is answered: the head of the first has arrived.
    let look = || with_token(quota(Mode::Check, "acme", "calls", 1), &shop);
    let mut later = Client::new(guarded.channel.clone());
    assert!(later.check_quota(look()).await.is_ok());
    guarded.cluster.operate(&["token", "revoke", "shop"]);
    guarded.wait_for(&shop, false).await;
    messages.send(quota(Mode::Consume, "acme", "calls", 1)).await.unwrap();
    drop(messages);
    let refused = begun.await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert_eq!(guarded.sidecar.usage("acme", "calls").await.used, 0);
    guarded.sidecar.process.stop();
}
