//! What a client can take of the gRPC face: calls beyond the bound, beginnings that never go on.

use tokio::net::UnixStream;
use tollgate::grpc::room::OPEN_STREAMS_MAX;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
};
use tonic_types::StatusExt;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_too_many_is_refused_while_the_others_wait_and_health_goes_on() {
    let served = served(GrpcConfig { calls_max: 2, ..GrpcConfig::default() }).await;
    let slow: Vec<_> = [served.client().await, served.client().await]
        .into_iter()
        .map(|client| tokio::spawn(in_time_call(client, "slow")))
        .collect();
    in_time(served.stub.slow_calls(2)).await;

    let mut client = served.client().await;
    let refused = in_time(client.check_quota(check("fast"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let reason = refused.get_details_error_info().map(|info| info.reason);
    assert_eq!(reason.as_deref(), Some("OVERLOADED"));
    assert!(refused.get_details_retry_info().is_some());
    assert!(slow.iter().all(|call| !call.is_finished()), "those before it were not waited for");
    let channel = Endpoint::new(format!("http://{}", served.address)).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    let asked = HealthCheckRequest::default();
    assert!(in_time(health.check(asked)).await.is_ok(), "health is not refused");

    served.stub.release(2);
    for call in slow {
        assert!(call.await.unwrap().is_ok());
    }
    assert!(in_time(client.check_quota(check("fast"))).await.is_ok(), "there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_the_health_takes_no_room_of_calls() {
    let served = served(GrpcConfig { calls_max: 1, ..GrpcConfig::default() }).await;
    let channel = Endpoint::new(format!("http://{}", served.address)).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    let mut watching = vec![];
    for _ in 0..4 {
        watching.push(in_time(health.watch(HealthCheckRequest::default())).await.unwrap());
    }
    let mut client = served.client().await;
    assert!(in_time(client.check_quota(check("fast"))).await.is_ok());
    drop(watching);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_have_so_many_streams_and_leave_room_for_checks() {
    let served = served(GrpcConfig::default()).await;
    let channel = || Endpoint::new(format!("http://{}", served.address)).unwrap();
    let mut watcher = HealthClient::new(channel().connect().await.unwrap());
    let mut watching = vec![];
    for _ in 0..OPEN_STREAMS_MAX {
        // Each is answered, so that its call has begun to answer and is counted all the same.
        watching.push(in_time(watcher.watch(HealthCheckRequest::default())).await.unwrap());
    }
    let mut other = HealthClient::new(channel().connect().await.unwrap());
    let refused = in_time(other.watch(HealthCheckRequest::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let reason = refused.get_details_error_info().map(|info| info.reason);
    assert_eq!(reason.as_deref(), Some("OVERLOADED"));
    let mut reflection = ServerReflectionClient::new(channel().connect().await.unwrap());
    let silent = futures::stream::pending::<ServerReflectionRequest>();
    let refused = in_time(reflection.server_reflection_info(silent)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");

    assert!(in_time(other.check(HealthCheckRequest::default())).await.is_ok(), "it has its place");
    let mut client = served.client().await;
    assert!(in_time(client.check_quota(check("fast"))).await.is_ok(), "nor are calls concerned");

    watching.pop();
    in_time(async {
        while other.watch(HealthCheckRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_makes_room() {
    let served = served(GrpcConfig { calls_max: 1, ..GrpcConfig::default() }).await;
    let slow = tokio::spawn(in_time_call(served.client().await, "slow"));
    in_time(served.stub.slow_calls(1)).await;
    slow.abort();
    in_time(served.stub.slow_calls(0)).await;
    let mut client = served.client().await;
    in_time(async {
        while client.check_quota(check("fast")).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_within_the_preface_keeps_no_thread_busy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let config = GrpcConfig { socket: Some(path.clone()), ..GrpcConfig::default() };
    let served = served(config).await;
    let mut half_said = TcpStream::connect(served.address).await.unwrap();
    half_said.write_all(b"PRI * HT").await.unwrap();
    half_said.shutdown().await.unwrap();
    in_time(until_closed(&mut half_said)).await;
    let mut half_said = UnixStream::connect(&path).await.unwrap();
    half_said.write_all(b"PRI * HT").await.unwrap();
    half_said.shutdown().await.unwrap();
    assert_eq!(in_time(half_said.read(&mut [0; 8])).await.unwrap(), 0, "closed");
    let mut client = served.client().await;
    assert!(in_time(client.check_quota(check("fast"))).await.is_ok());
}

#[tokio::test]
async fn a_message_whose_frame_lies_is_the_senders_fault() {
    let served = served(GrpcConfig::default()).await;
    let channel = Endpoint::new(format!("http://{}", served.address)).unwrap();
    let mut channel = channel.connect().await.unwrap();
    // A flag that there is not, and a message that breaks off.
    let bodies: [&'static [u8]; 2] = [&[7, 0, 0, 0, 0], &[0, 0, 0, 0, 9, 1]];
    for body in bodies {
        let body = http_body_util::Full::new(bytes::Bytes::from_static(body));
        let request = http::Request::post("/tollgate.v1.TollgateService/CheckQuota")
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::new(body))
            .unwrap();
        in_time(futures::future::poll_fn(|cx| {
            tower::Service::<http::Request<tonic::body::Body>>::poll_ready(&mut channel, cx)
        }))
        .await
        .unwrap();
        let answer = in_time(tower::Service::call(&mut channel, request)).await.unwrap();
        let in_head = Status::from_header_map(answer.headers());
        let end = in_time(http_body_util::BodyExt::collect(answer.into_body())).await.unwrap();
        let at_end = end.trailers().and_then(Status::from_header_map);
        let status = in_head.or(at_end).expect("a status");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
}
