//! What belongs to another tenant, or stands beside it in one request.

use futures::stream;
use tollgate::proto::v1::{
    Mode, RecordUsageRequest, RecordUsageStreamRequest, ReleaseReservationRequest, UsageEvent,
};
use tonic::Code;

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
