//! What a sidecar refuses, with which words, and that nothing of it is counted.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tollgate::proto::v1::{
    self, CheckQuotaRequest, Durability, GetUsageRequest, Mode, RecordUsageRequest,
    ReleaseReservationRequest, UsageEvent, tollgate_service_client::TollgateServiceClient,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::fixture::{Process, Processes};

const CATALOG: &str = r"
catalog: strict
title: A catalog to be misused
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: seats, title: Seats, kind: level, unit: seat }
  - { name: days, title: Days kept, kind: static, unit: day }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits: { calls: 10000, seats: 10, days: 30 }
tenants:
  - { id: acme, plan: basic }
";

type Client = TollgateServiceClient<Channel>;

/// How long a connection that talks nonsense may stay open.
const CLOSED_MAX: Duration = Duration::from_secs(20);

/// A sidecar that runs alone, with further `flags`.
async fn sidecar(processes: &Processes, dir: &Path, flags: &[&str]) -> (Process, Client) {
    let (catalog, socket) = (dir.join("catalog.yaml"), dir.join("grpc.sock"));
    std::fs::write(&catalog, CATALOG).unwrap();
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut command = Processes::tollgate(&["sidecar"]);
    command
        .args(["--catalog".as_ref(), catalog.as_os_str()])
        .args(["--journal-data-dir".as_ref(), dir.join("data").as_os_str()])
        .args(["--grpc-socket".as_ref(), socket.as_os_str()])
        .args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--access-mode", "open"])
        .args(flags)
        .stderr(Stdio::from(log.try_clone().unwrap()))
        .stdout(Stdio::from(log));
    let process = processes.start(&mut command);
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    for _ in 0..400 {
        if let Ok(channel) = endpoint.connect().await {
            return (process, Client::new(channel));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no sidecar: {}", std::fs::read_to_string(dir.join("log")).unwrap());
}

fn consume() -> CheckQuotaRequest {
    CheckQuotaRequest {
        tenant: "acme".into(),
        meter: "calls".into(),
        amount: Some(1),
        mode: Mode::Consume.into(),
        ..Default::default()
    }
}

fn event() -> UsageEvent {
    UsageEvent {
        tenant: "acme".into(),
        meter: "calls".into(),
        amount: Some(1),
        ..Default::default()
    }
}

/// What a refusal has to say.
struct Expected {
    code: Code,
    /// Reason for programs.
    reason: &'static str,
    /// The field that it names, among others.
    field: &'static str,
}

fn invalid(field: &'static str) -> Expected {
    Expected { code: Code::InvalidArgument, reason: "INVALID_ARGUMENT", field }
}

fn unknown(reason: &'static str, field: &'static str) -> Expected {
    Expected { code: Code::NotFound, reason, field }
}

fn assert_told(what: &str, status: &Status, expected: &Expected) {
    assert_eq!(status.code(), expected.code, "{what}: {status}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (expected.reason, "tollgate"));
    let fields = status.get_details_bad_request().unwrap().field_violations;
    let named = fields.iter().find(|violation| violation.field == expected.field);
    let named = named.unwrap_or_else(|| panic!("{what}: {fields:?} lacks {}", expected.field));
    assert!(named.description.contains("; "), "{what}: no remedy in {}", named.description);
}

/// Whatever is recorded by now, of every meter.
async fn used(client: &mut Client) -> Vec<(String, i64)> {
    let request = GetUsageRequest { tenant: "acme".into(), ..Default::default() };
    let usage = client.get_usage(request).await.unwrap().into_inner();
    usage.meters.into_iter().map(|meter| (meter.meter, meter.used)).collect()
}

#[tokio::test]
async fn a_check_that_cannot_be_accepted_names_the_field_and_counts_nothing() {
    let processes = Processes::default();
    let dir = tempfile::tempdir().unwrap();
    let (process, mut client) = sidecar(&processes, dir.path(), &[]).await;
    let with = |change: fn(&mut CheckQuotaRequest)| {
        let mut request = consume();
        change(&mut request);
        request
    };
    let week = tollgate::proto::time::Duration { seconds: 7 * 86_400, nanos: 0 };
    let table = [
        (with(|it| it.tenant.clear()), invalid("tenant")),
        (with(|it| it.tenant = "ac{me}".into()), invalid("tenant")),
        (with(|it| it.tenant = "a".repeat(129)), invalid("tenant")),
        (with(|it| it.tenant = "nobody".into()), unknown("UNKNOWN_TENANT", "tenant")),
        (with(|it| it.meter = "Calls!".into()), invalid("meter")),
        (with(|it| it.meter = "nothing".into()), unknown("UNKNOWN_METER", "meter")),
        (with(|it| it.subject = "a b".into()), invalid("subject")),
        (with(|it| it.mode = 0), invalid("mode")),
        (with(|it| it.mode = 9), invalid("mode")),
        (with(|it| it.amount = None), invalid("amount")),
        (with(|it| it.amount = Some(-1)), invalid("amount")),
        (with(|it| it.amount = Some(1 << 53)), invalid("amount")),
        (with(|it| it.amount = Some(i64::MIN)), invalid("amount")),
        (with(|it| it.idempotency_key = "k".repeat(257)), invalid("idempotency_key")),
        (with(|it| it.idempotency_key = "schlüssel".into()), invalid("idempotency_key")),
        (with(|it| it.durability = 7), invalid("durability")),
        (with(|it| it.durability = Durability::Memory.into()), invalid("durability")),
        (
            with(|it| drop(it.properties.insert("p".into(), "\n".into()))),
            invalid("properties[\"p\"]"),
        ),
        (
            CheckQuotaRequest {
                mode: Mode::Reserve.into(),
                reservation_ttl: Some(week),
                ..consume()
            },
            invalid("reservation_ttl"),
        ),
        (
            CheckQuotaRequest { reservation_ttl: Some(week), ..consume() },
            invalid("reservation_ttl"),
        ),
    ];
    for (request, expected) in table {
        let what = format!("{request:?}");
        let status = client.check_quota(request).await.expect_err(&what);
        assert_told(&what, &status, &expected);
    }
    assert!(used(&mut client).await.iter().all(|(_, used)| *used == 0));
    // The same request without a fault is fine.
    assert!(client.check_quota(consume()).await.unwrap().get_ref().allowed);
    process.stop();
}

#[tokio::test]
async fn a_batch_with_one_bad_event_is_refused_whole_and_names_it() {
    let processes = Processes::default();
    let dir = tempfile::tempdir().unwrap();
    let (process, mut client) = sidecar(&processes, dir.path(), &[]).await;
    let with = |change: fn(&mut UsageEvent)| {
        let mut event = event();
        change(&mut event);
        event
    };
    let at = |seconds| Some(tollgate::proto::time::Timestamp { seconds, nanos: 0 });
    let table = [
        (with(|it| it.tenant = "nobody".into()), unknown("UNKNOWN_TENANT", "events[1].tenant")),
        (with(|it| it.meter = "nothing".into()), unknown("UNKNOWN_METER", "events[1].meter")),
        (with(|it| it.amount = None), invalid("events[1].amount")),
        (with(|it| it.amount = Some(-1)), invalid("events[1].amount")),
        (with(|it| it.amount = Some(1 << 53)), invalid("events[1].amount")),
        (with(|it| it.idempotency_key = " ".into()), invalid("events[1].idempotency_key")),
        (with(|it| it.reservation_id = "?".into()), invalid("events[1].reservation_id")),
        (UsageEvent { time: at(86_400), ..event() }, invalid("events[1].time")),
        (UsageEvent { time: at(7_258_118_400), ..event() }, invalid("events[1].time")),
        (UsageEvent { time: at(i64::MAX), ..event() }, invalid("events[1].time")),
    ];
    for (bad, expected) in table {
        let what = format!("{bad:?}");
        let request = RecordUsageRequest { events: vec![event(), bad], durability: 0 };
        let status = client.record_usage(request).await.expect_err(&what);
        assert_told(&what, &status, &expected);
    }
    for events in [vec![], vec![event(); 100_001]] {
        let what = format!("{} events", events.len());
        let request = RecordUsageRequest { events, durability: 0 };
        let status = client.record_usage(request).await.expect_err(&what);
        assert_told(&what, &status, &invalid("events"));
    }
    assert!(used(&mut client).await.iter().all(|(_, used)| *used == 0));
    let request = RecordUsageRequest { events: vec![event(); 100_000], durability: 0 };
    assert_eq!(client.record_usage(request).await.unwrap().get_ref().accepted, 100_000);
    process.stop();
}

#[tokio::test]
async fn what_a_meter_cannot_do_and_what_nobody_holds_is_told() {
    let processes = Processes::default();
    let dir = tempfile::tempdir().unwrap();
    let (process, mut client) = sidecar(&processes, dir.path(), &[]).await;
    let release = ReleaseReservationRequest {
        tenant: "acme".into(),
        reservation_id: format!("{}-1", "0".repeat(32)),
    };
    let status = client.release_reservation(release).await.unwrap_err();
    assert_told("release", &status, &unknown("UNKNOWN_RESERVATION", "reservation_id"));

    let only_read = UsageEvent { meter: "days".into(), ..event() };
    let request = RecordUsageRequest { events: vec![only_read], durability: 0 };
    let status = client.record_usage(request).await.unwrap_err();
    assert_told("record", &status, &invalid("events[0].meter"));

    let typo = CheckQuotaRequest { meter: "cals".into(), ..consume() };
    let status = client.check_quota(typo).await.unwrap_err();
    assert!(status.message().contains("did you mean calls?"), "{}", status.message());
    let status = client.get_usage(GetUsageRequest::default()).await.unwrap_err();
    assert_told("get_usage", &status, &invalid("tenant"));
    let status = client.check_feature(v1::CheckFeatureRequest::default()).await.unwrap_err();
    assert_told("check_feature", &status, &invalid("tenant"));
    process.stop();
}

#[tokio::test]
async fn a_full_journal_refuses_and_says_when_to_come_back() {
    let processes = Processes::default();
    let dir = tempfile::tempdir().unwrap();
    let budget = ["--journal-segment-bytes", "65536", "--journal-disk-budget-bytes", "262144"];
    let (process, mut client) = sidecar(&processes, dir.path(), &budget).await;
    let keyed = |number: usize| UsageEvent { idempotency_key: format!("{number:0100}"), ..event() };
    let request = RecordUsageRequest { events: (0..10_000).map(keyed).collect(), durability: 0 };
    let status = client.record_usage(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "JOURNAL_FULL");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    assert!(used(&mut client).await.iter().all(|(_, used)| *used == 0));
    // What fits is still taken.
    assert!(client.check_quota(consume()).await.unwrap().get_ref().allowed);
    process.stop();
}

/// Takes any bytes for a message of CheckQuota.
#[derive(Clone, PartialEq, prost::Message)]
struct NotText {
    #[prost(bytes = "vec", tag = "1")]
    tenant: Vec<u8>,
}

#[tokio::test]
async fn a_malformed_frame_harms_its_sender_only() {
    let processes = Processes::default();
    let dir = tempfile::tempdir().unwrap();
    let (process, mut client) = sidecar(&processes, dir.path(), &[]).await;
    let socket = dir.path().join("grpc.sock");
    // No HTTP/2 at all; and after its preface a frame that is longer than any may be.
    let preface_then_noise = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0xff; 64]].concat();
    for bytes in [&[0; 4096], preface_then_noise.as_slice()] {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        let closed = tokio::time::timeout(CLOSED_MAX, stream.read_to_end(&mut said));
        // Closed in good order or broken off.
        let _ = closed.await.expect("the connection stays open");
        assert!(used(&mut client).await.iter().all(|(_, used)| *used == 0));
    }
    // A message that is none.
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    let mut raw = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    raw.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<NotText, v1::CheckQuotaResponse>::default();
    let path = "/tollgate.v1.TollgateService/CheckQuota".parse().unwrap();
    let message = tonic::Request::new(NotText { tenant: vec![0xff, 0xfe] });
    let status = raw.unary(message, path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("tenant"), "{status}");

    assert!(used(&mut client).await.iter().all(|(_, used)| *used == 0));
    assert!(client.check_quota(consume()).await.unwrap().get_ref().allowed);
    process.stop();
}
