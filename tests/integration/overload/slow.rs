//! Clients that begin and go on as slowly as they can.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, future::join_all, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status, body::Body, transport::Endpoint};
use tower::{Service, ServiceExt};

use super::served::{PATIENCE, Served};

/// A byte now and then keeps no deadline from passing.
const DRIP: Duration = Duration::from_millis(100);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// A head without END_HEADERS: its rest never comes.
const HEAD_BEGUN: &[u8] = &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x83];

/// Says `beginning`, then a byte of `drip` again and again, until the server closes; what it heard.
async fn closed_on(served: &Served, at: SocketAddr, beginning: &[u8], drip: &[u8]) -> String {
    let mut socket = TcpStream::connect(at).await.unwrap();
    socket.write_all(beginning).await.unwrap();
    let (mut from, mut to) = socket.into_split();
    let drip = drip.to_vec();
    let dripping = tokio::spawn(async move {
        for byte in drip.iter().cycle() {
            tokio::time::sleep(DRIP).await;
            if to.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
        // Nothing more is said, and the connection stays open.
        std::future::pending::<()>().await;
    });
    served.expect_others_served().await;
    let mut heard = vec![];
    // A reset is an end as well.
    let _ = timeout(PATIENCE, from.read_to_end(&mut heard)).await.expect("it is never closed");
    dripping.abort();
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_and_does_not_go_on_is_ended_by_a_deadline_and_the_others_are_served() {
    let served = Served::start(&[
        "--http-head-wait-s",
        "5",
        "--http-body-wait-s",
        "2",
        "--grpc-preface-s",
        "5",
        "--grpc-keepalive-interval-s",
        "1",
        "--grpc-keepalive-timeout-s",
        "5",
    ])
    .await;
    let (grpc, http) = (served.grpc, served.http);
    let unended = [PREFACE, SETTINGS, HEAD_BEGUN].concat();
    let ended: [(SocketAddr, &[u8], &[u8]); 7] = [
        // Heads of HTTP/1: not begun, half said, said byte by byte.
        (http, b"", b""),
        (http, b"GET /livez HTTP/1.1\r\nhost: h", b""),
        (http, b"GET /livez HTTP/1.1\r\nx: ", b"x"),
        // gRPC: nothing, half a preface byte by byte, a preface alone, a head that never ends. Who
        // does not answer pings is gone.
        (grpc, b"", b""),
        (grpc, &PREFACE[..3], b" "),
        (grpc, PREFACE, b""),
        (grpc, &unended, b""),
    ];
    let ended = ended.map(|(at, beginning, drip)| closed_on(&served, at, beginning, drip));
    join_all(ended).await;
    // A body that comes byte by byte is told so, and ended.
    let head = b"POST /v1/check-quota HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: 100000\r\n\r\n{";
    let told = closed_on(&served, http, head, b" ").await;
    assert!(told.starts_with("HTTP/1.1 408") && told.contains("BODY_TOO_SLOW"), "{told}");
    served.expect_others_served().await;
    served.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_trickles_in_is_answered_when_its_time_is_up() {
    let served = Served::start(&["--grpc-message-wait-s", "2"]).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", served.grpc)).unwrap();
    let mut channel = endpoint.connect().await.unwrap();
    // A message of 100 bytes, of which one comes now and then.
    let first = stream::iter([Bytes::from_static(&[0, 0, 0, 0, 100])]);
    let drip = stream::unfold((), async |()| {
        tokio::time::sleep(DRIP).await;
        Some((Bytes::from_static(&[10]), ()))
    });
    let frames = first.chain(drip).map(|data| Ok::<_, Status>(Frame::data(data)));
    let request = http::Request::post("/tollgate.v1.TollgateService/CheckQuota")
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(frames.boxed())))
        .unwrap();
    let channel = ServiceExt::<http::Request<Body>>::ready(&mut channel).await.unwrap();
    let answer = tokio::spawn(channel.call(request));
    served.expect_others_served().await;
    let answer = timeout(PATIENCE, answer).await.expect("it is never answered");
    let status = Status::from_header_map(answer.unwrap().unwrap().headers()).expect("a status");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    served.stop();
}
