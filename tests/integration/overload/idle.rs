//! Connections that are open and say nothing.

use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::served::{Served, open_files_max};

const CONNECTIONS: usize = 10_000;
/// Files that this process needs beside them, for the tests that run at the same time.
const SPARE: usize = 4_000;
/// What an idle connection may take of the sidecar's memory, bytes: several times what it does.
const BYTES_MAX: usize = 128 << 10;
/// HTTP/2's preface, and settings that say nothing.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_are_held_beside_those_at_work() {
    let connections = CONNECTIONS.min(open_files_max().saturating_sub(SPARE));
    assert!(connections >= 100, "too few files may be opened to prove anything");
    let served = Served::start(&[
        "--grpc-connections-max",
        "12000",
        // Nobody answers pings here.
        "--grpc-keepalive-interval-s",
        "600",
    ])
    .await;
    served.expect_others_served().await;
    let before = served.memory();
    let mut idle = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut socket = TcpStream::connect(served.grpc).await.unwrap();
        socket.write_all(BEGINNING).await.unwrap();
        idle.push(socket);
    }
    let expected = connections as f64;
    served.wait_until("tollgate_grpc_connections", |open| open >= expected).await;
    served.expect_others_served().await;
    let each = served.memory().saturating_sub(before) / connections;
    eprintln!("{connections} idle connections: {each} bytes each");
    assert!(each < BYTES_MAX, "{each} bytes for an idle connection");
    drop(idle);
    served.wait_until("tollgate_grpc_connections", |open| open < expected / 2.0).await;
    served.expect_others_served().await;
    served.stop();
}
