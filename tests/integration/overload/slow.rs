//! Clients that begin and go on as slowly as they can. What becomes of a message or a body that does
//! not arrive is in `src/grpc/heavy.rs` and `src/http/body.rs`.

use std::{net::SocketAddr, time::Duration};

use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::served::{PATIENCE, Served};

/// A byte now and then keeps no deadline from passing.
const DRIP: Duration = Duration::from_millis(100);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// A head without END_HEADERS: its rest never comes.
const HEAD_BEGUN: &[u8] = &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x83];

/// Says `beginning`, then a byte of `drip` again and again, until the server closes.
async fn closed_on(served: &Served, at: SocketAddr, beginning: &[u8], drip: &[u8]) {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_and_does_not_go_on_is_ended_by_a_deadline_and_the_others_are_served() {
    let served = Served::start(&[
        "--http-head-wait-s",
        "5",
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
    served.expect_others_served().await;
    served.stop();
}
