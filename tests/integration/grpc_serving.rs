//! The gRPC serving shape over real sockets: what one call, connection or client does to others.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tollgate::{
    grpc::{
        config::GrpcConfig,
        faces::faces,
        health::Health,
        listen::{ListenError, Listeners},
        serve::{Drained, Services, serve},
    },
    proto::v1::{self, tollgate_service_client::TollgateServiceClient},
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

mod bounds;
mod http2;
mod stub;
use stub::Stub;

/// Long enough for a busy machine; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A served [`Stub`].
struct Served {
    address: SocketAddr,
    stub: Stub,
    readiness: watch::Sender<bool>,
    shutdown: CancellationToken,
    end: JoinHandle<Drained>,
}

async fn served(config: GrpcConfig) -> Served {
    let config = GrpcConfig { listen: Some(([127, 0, 0, 1], 0).into()), ..config };
    let shutdown = CancellationToken::new();
    let stub = Stub::new(shutdown.clone());
    let listeners = Listeners::open(&config).await.unwrap();
    let address = listeners.tcp_address().unwrap();
    let health = Health::new().await;
    let service = faces(stub.clone(), health.server(), &config).unwrap();
    let services = Services { over_tcp: service.clone(), over_unix: service, tls: None };
    let (readiness, ready) = watch::channel(true);
    tokio::spawn(health.follow(ready, shutdown.clone()));
    let end = tokio::spawn(serve(listeners, services, config, shutdown.clone()));
    Served { address, stub, readiness, shutdown, end }
}

impl Served {
    async fn client(&self) -> TollgateServiceClient<Channel> {
        let channel = Endpoint::new(format!("http://{}", self.address)).unwrap();
        TollgateServiceClient::new(channel.connect().await.unwrap())
    }
}

fn check(tenant: &str) -> v1::CheckQuotaRequest {
    v1::CheckQuotaRequest { tenant: tenant.into(), amount: Some(1), ..Default::default() }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("did not happen in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_holds_no_other_back() {
    let served = served(GrpcConfig::default()).await;
    let mut client = served.client().await;
    let slow = tokio::spawn(in_time_call(client.clone(), "slow"));
    in_time(served.stub.slow_calls(1)).await;
    for _ in 0..100 {
        assert!(in_time(client.check_quota(check("fast"))).await.unwrap().get_ref().allowed);
    }
    assert!(!slow.is_finished());
    served.stub.release(1);
    assert!(slow.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_of_one_connection_are_all_answered() {
    let served = served(GrpcConfig::default()).await;
    let client = served.client().await;
    let slow: Vec<_> =
        (0..200).map(|_| tokio::spawn(in_time_call(client.clone(), "slow"))).collect();
    in_time(served.stub.slow_calls(200)).await;
    let fast = (0..2_000).map(|_| in_time_call(client.clone(), "fast"));
    let fast = futures::future::join_all(fast).await;
    assert!(fast.iter().all(Result::is_ok));
    served.stub.release(200);
    let slow = futures::future::join_all(slow).await;
    assert!(slow.iter().all(|call| matches!(call, Ok(Ok(_)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_fails_its_own_call_only() {
    let served = served(GrpcConfig::default()).await;
    let mut client = served.client().await;
    let slow = tokio::spawn(in_time_call(client.clone(), "slow"));
    in_time(served.stub.slow_calls(1)).await;
    for tenant in ["panics at once", "panics later"] {
        let status = in_time(client.check_quota(check(tenant))).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{tenant}: {status}");
    }
    served.stub.release(1);
    assert!(slow.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_ends_its_handler() {
    let served = served(GrpcConfig::default()).await;
    let client = served.client().await;
    let slow = tokio::spawn(in_time_call(client.clone(), "slow"));
    in_time(served.stub.slow_calls(1)).await;
    slow.abort();
    in_time(served.stub.slow_calls(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_disconnects_ends_its_handlers() {
    let served = served(GrpcConfig::default()).await;
    let client = served.client().await;
    let slow: Vec<_> =
        (0..10).map(|_| tokio::spawn(in_time_call(client.clone(), "slow"))).collect();
    in_time(served.stub.slow_calls(10)).await;
    drop(client);
    slow.iter().for_each(JoinHandle::abort);
    in_time(served.stub.slow_calls(0)).await;
    served.shutdown.cancel();
    assert_eq!(in_time(served.end).await.unwrap(), Drained::Clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_works_beside_its_connection() {
    let served = served(GrpcConfig::default()).await;
    let mut client = served.client().await;
    let finish = served.stub.block_next_batch();
    let batch = tokio::spawn({
        let mut client = client.clone();
        async move { client.record_usage(batch(2_000)).await }
    });
    // The batch keeps its thread busy until all of these are answered.
    for _ in 0..100 {
        in_time(client.check_quota(check("fast"))).await.unwrap();
    }
    drop(finish);
    assert_eq!(in_time(batch).await.unwrap().unwrap().get_ref().accepted, 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_batches_wait_for_room_and_are_all_answered() {
    // Room for one at a time.
    let config = GrpcConfig { large_messages_bytes_max: 100 << 10, ..GrpcConfig::default() };
    let served = served(config).await;
    let client = served.client().await;
    let batches = (0..8).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.record_usage(batch(2_000)).await })
    });
    for batch in batches.collect::<Vec<_>>() {
        assert_eq!(in_time(batch).await.unwrap().unwrap().get_ref().accepted, 2_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_usage_stream_acknowledges_large_batches_in_order_and_ends_at_shutdown() {
    let served = served(GrpcConfig::default()).await;
    let mut client = served.client().await;
    let (send, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let answers = in_time(client.record_usage_stream(requests)).await.unwrap();
    let mut answers = answers.into_inner();
    let sender = tokio::spawn(async move {
        for sequence in 1..=20 {
            let events = batch(2_000).events;
            let request = v1::RecordUsageStreamRequest { sequence, events, durability: 0 };
            send.send(request).await.unwrap();
        }
        send
    });
    for sequence in 1..=20 {
        let answer = in_time(answers.message()).await.unwrap().unwrap();
        assert_eq!(answer.sequence, sequence);
        let receipt = v1::RecordUsageResponse { accepted: 2_000, ..Default::default() };
        let receipt = v1::record_usage_stream_response::Result::Receipt(receipt);
        assert_eq!(answer.result, Some(receipt));
    }
    let _still_open = sender.await.unwrap();
    served.shutdown.cancel();
    let status = in_time(answers.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(in_time(served.end).await.unwrap(), Drained::Clean);
}

#[tokio::test]
async fn an_oversized_message_is_refused_by_its_length() {
    let config = GrpcConfig { message_bytes_max: 100 << 10, ..GrpcConfig::default() };
    let served = served(config).await;
    let mut client = served.client().await;
    let status = in_time(client.record_usage(batch(10_000))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(status.message().contains("102400"), "{status}");
    assert!(in_time(client.check_quota(check("fast"))).await.is_ok());
}

#[tokio::test]
async fn a_message_that_is_not_one_is_the_senders_fault_and_names_the_field() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct NotUtf8 {
        #[prost(bytes = "vec", tag = "1")]
        tenant: Vec<u8>,
    }
    let served = served(GrpcConfig::default()).await;
    let channel = Endpoint::new(format!("http://{}", served.address)).unwrap();
    let mut client = tonic::client::Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<NotUtf8, v1::CheckQuotaResponse>::default();
    let path = "/tollgate.v1.TollgateService/CheckQuota".parse().unwrap();
    let message = NotUtf8 { tenant: vec![0xff, 0xfe] };
    let status = in_time(client.unary(Request::new(message), path, codec)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("tenant"), "{status}");
}

#[tokio::test]
async fn bytes_that_are_not_http2_end_their_connection_only() {
    let served = served(GrpcConfig::default()).await;
    let mut client = served.client().await;
    let preface_then_noise = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0xff; 64]].concat();
    let garbage: [&[u8]; 3] =
        [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", &[0; 4096], &preface_then_noise];
    for bytes in garbage {
        let mut socket = TcpStream::connect(served.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        in_time(until_closed(&mut socket)).await;
        assert!(in_time(client.check_quota(check("fast"))).await.is_ok());
    }
}

#[tokio::test]
async fn a_client_that_never_speaks_is_let_go() {
    let served = served(GrpcConfig { preface_s: 1, ..GrpcConfig::default() }).await;
    for said in ["", "PRI * HTTP/2.0"] {
        let mut socket = TcpStream::connect(served.address).await.unwrap();
        socket.write_all(said.as_bytes()).await.unwrap();
        in_time(until_closed(&mut socket)).await;
    }
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_go_on() {
    let served = served(GrpcConfig { connections_max: 1, ..GrpcConfig::default() }).await;
    let mut client = served.client().await;
    assert!(in_time(client.check_quota(check("fast"))).await.is_ok());
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    in_time(until_closed(&mut socket)).await;
    assert!(in_time(client.check_quota(check("fast"))).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_answers_what_is_in_flight_and_takes_nothing_new() {
    let served = served(GrpcConfig::default()).await;
    let slow = tokio::spawn(in_time_call(served.client().await, "slow"));
    in_time(served.stub.slow_calls(1)).await;
    served.shutdown.cancel();
    in_time(async {
        while TcpStream::connect(served.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!served.end.is_finished());
    served.stub.release(1);
    assert!(slow.await.unwrap().is_ok());
    assert_eq!(in_time(served.end).await.unwrap(), Drained::Clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_cuts_off_what_does_not_end_in_time() {
    let served = served(GrpcConfig { drain_s: 0, ..GrpcConfig::default() }).await;
    let slow = tokio::spawn(in_time_call(served.client().await, "slow"));
    in_time(served.stub.slow_calls(1)).await;
    served.shutdown.cancel();
    assert_eq!(in_time(served.end).await.unwrap(), Drained::Cut { connections: 1 });
    assert!(slow.await.unwrap().is_err());
    in_time(served.stub.slow_calls(0)).await;
}

#[tokio::test]
async fn health_follows_readiness_and_its_watchers_do_not_hold_up_a_shutdown() {
    let served = served(GrpcConfig::default()).await;
    let channel = Endpoint::new(format!("http://{}", served.address)).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let watched = HealthCheckRequest { service: "tollgate.v1.TollgateService".into() };
    let mut changes = in_time(client.watch(watched)).await.unwrap().into_inner();
    let mut next = async || in_time(changes.message()).await.unwrap().map(|health| health.status);
    const SERVING: Option<i32> = Some(1);
    const NOT_SERVING: Option<i32> = Some(2);
    while next().await != SERVING {}
    served.readiness.send(false).unwrap();
    assert_eq!(next().await, NOT_SERVING);
    served.readiness.send(true).unwrap();
    assert_eq!(next().await, SERVING);
    served.shutdown.cancel();
    assert_eq!(next().await, NOT_SERVING);
    assert_eq!(next().await, None);
    assert_eq!(in_time(served.end).await.unwrap(), Drained::Clean);
}

#[tokio::test]
async fn both_versions_of_reflection_name_the_service() {
    use tonic_reflection::pb::{v1 as new, v1alpha as old};
    let served = served(GrpcConfig::default()).await;
    let channel = Endpoint::new(format!("http://{}", served.address)).unwrap();
    let channel = channel.connect().await.unwrap();

    let list = new::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = new::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = new::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
    let answer = in_time(answers.into_inner().message()).await.unwrap().unwrap();
    let told = format!("{answer:?}");
    assert!(told.contains("tollgate.v1.TollgateService"), "{told}");
    assert!(told.contains("grpc.health.v1.Health"), "{told}");
    assert!(told.contains("envoy.service.ratelimit.v3.RateLimitService"), "{told}");

    let file = "tollgate.v1.CheckQuotaRequest".to_owned();
    for symbol in ["google.rpc.ErrorInfo", "google.rpc.BadRequest"] {
        let find =
            new::server_reflection_request::MessageRequest::FileContainingSymbol(symbol.into());
        let request =
            new::ServerReflectionRequest { host: String::new(), message_request: Some(find) };
        let mut client =
            new::server_reflection_client::ServerReflectionClient::new(channel.clone());
        let mut answers = client
            .server_reflection_info(futures::stream::iter([request]))
            .await
            .unwrap()
            .into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        let found = matches!(
            answer,
            Some(new::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
        );
        assert!(found, "{symbol}: {answer:?}");
    }
    let find = old::server_reflection_request::MessageRequest::FileContainingSymbol(file);
    let request = old::ServerReflectionRequest { host: String::new(), message_request: Some(find) };
    let mut client = old::server_reflection_client::ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
    let answer = in_time(answers.into_inner().message()).await.unwrap().unwrap();
    let found = matches!(
        answer.message_response,
        Some(old::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
    );
    assert!(found, "{answer:?}");
}

#[tokio::test]
async fn an_unknown_service_or_call_is_unimplemented() {
    let served = served(GrpcConfig::default()).await;
    let channel = Endpoint::new(format!("http://{}", served.address)).unwrap();
    let mut client = tonic::client::Grpc::new(channel.connect().await.unwrap());
    for path in ["/tollgate.v1.TollgateService/Nothing", "/tollgate.v2.Other/CheckQuota"] {
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let status = client.unary(Request::new(()), path.parse().unwrap(), codec).await;
        assert_eq!(status.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
    let mut client = served.client().await;
    let status = client.check_feature(v1::CheckFeatureRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn the_unix_socket_serves_and_its_file_goes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tollgate.sock");
    // What a killed process leaves behind: a socket that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let served = served(GrpcConfig { socket: Some(path.clone()), ..GrpcConfig::default() }).await;
    let channel = Endpoint::new(format!("unix://{}", path.display())).unwrap();
    let mut client = TollgateServiceClient::new(channel.connect().await.unwrap());
    assert!(in_time(client.check_quota(check("fast"))).await.is_ok());
    assert!(matches!(open_socket(&path).await, Err(ListenError::UnixTaken { .. })));
    served.shutdown.cancel();
    assert_eq!(in_time(served.end).await.unwrap(), Drained::Clean);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_in_the_sockets_place_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious.txt");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(open_socket(&path).await, Err(ListenError::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

async fn open_socket(path: &Path) -> Result<Listeners, ListenError> {
    let config =
        GrpcConfig { listen: None, socket: Some(path.to_owned()), ..GrpcConfig::default() };
    Listeners::open(&config).await
}

async fn in_time_call(
    mut client: TollgateServiceClient<Channel>,
    tenant: &'static str,
) -> Result<Response<v1::CheckQuotaResponse>, Status> {
    in_time(client.check_quota(check(tenant))).await
}

/// A batch of about 48 bytes an event.
fn batch(events: usize) -> v1::RecordUsageRequest {
    let event = |number: usize| v1::UsageEvent {
        tenant: "acme".into(),
        meter: "tokens".into(),
        amount: Some(1),
        idempotency_key: format!("event-{number:020}"),
        ..Default::default()
    };
    v1::RecordUsageRequest { events: (0..events).map(event).collect(), durability: 0 }
}

/// Reads what the server says until it closes.
async fn until_closed(socket: &mut TcpStream) {
    let mut said = [0; 1024];
    while matches!(socket.read(&mut said).await, Ok(bytes) if bytes > 0) {}
}
