//! Whole connections: bytes of HTTP/2 through a real socket, and bytes of HTTP/1.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tollgate::{
    grpc::{
        config::GrpcConfig,
        listen::Listeners,
        serve::{Services, serve},
    },
    http,
};
use tollgate_fuzz::{Answer, Target};

use super::{
    frames::calls,
    sidecar::{READ_MAX, Sidecar},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// How long a connection may go unanswered while it is read from at all.
const WRITE_MAX: Duration = Duration::from_secs(10);

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

/// A header field as HPACK has it without tables: never indexed, name and value as they are.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        // Lengths from 127 on go over several bytes.
        let mut coded = match text.len() {
            short @ 0..127 => vec![short as u8],
            long => vec![127, ((long - 127) & 127) as u8 | 128, ((long - 127) >> 7) as u8],
        };
        coded.extend(text.as_bytes());
        coded
    };
    [vec![0x10], text(name), text(value)].concat()
}

/// What a client sends for some calls on one connection.
fn connection(calls: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut sent = PREFACE.to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]));
    sent.extend(frame(SETTINGS, 1, 0, &[]));
    sent.extend(frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]));
    for (stream, (path, body)) in (1..).step_by(2).zip(calls) {
        let head = [
            field(":method", "POST"),
            field(":scheme", "http"),
            field(":path", path),
            field(":authority", "localhost"),
            field("content-type", "application/grpc"),
            field("te", "trailers"),
            field("grpc-timeout", "100m"),
        ];
        sent.extend(frame(HEADERS, END_HEADERS, stream, &head.concat()));
        sent.extend(frame(DATA, END_STREAM, stream, body));
    }
    sent.extend(frame(PING, 0, 0, b"12345678"));
    sent
}

/// What a server says to `input`, as far as it says it soon.
async fn say(mut socket: impl AsyncReadExt + AsyncWriteExt + Unpin, input: &[u8]) -> Vec<u8> {
    let mut heard = vec![];
    // It may hang up before all is said.
    let said = timeout(WRITE_MAX, socket.write_all(input)).await.expect("nobody reads");
    if said.is_ok() {
        let _ = timeout(READ_MAX, socket.read_to_end(&mut heard)).await;
    }
    heard
}

/// The kinds of the frames that a server sent, each once.
fn kinds(mut heard: &[u8]) -> Answer {
    let mut kinds = [0; 16];
    while let [high, middle, low, kind, _, _, _, _, _, rest @ ..] = heard {
        kinds[usize::from(*kind & 15)] = 1;
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        heard = rest.get(length..).unwrap_or_default();
    }
    format!("{kinds:?}")
}

#[test]
fn connections_of_http2() {
    let sidecar = Sidecar::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let config =
        GrpcConfig { listen: None, socket: Some(path.clone()), ..sidecar.settings.grpc.clone() };
    let stop = CancellationToken::new();
    let service = sidecar.grpc();
    let services = Services { over_tcp: service.clone(), over_unix: service, tls: None };
    let listeners = sidecar.runtime.block_on(Listeners::open(&config)).unwrap();
    let server = sidecar.runtime.spawn(serve(listeners, services, config, stop.clone()));
    let all = calls();
    let mut seeds: Vec<_> = all.chunks(4).map(connection).collect();
    seeds.push(connection(&all[..1]));
    let target =
        Target { name: "http2", inputs: 400, bytes_max: 32 << 10, memory_max: (96 << 20, 1 << 10) };
    target.run(seeds, |input| {
        sidecar.runtime.block_on(async {
            let socket = UnixStream::connect(&path).await.expect("it still listens");
            kinds(&say(socket, input).await)
        })
    });
    stop.cancel();
    sidecar.runtime.block_on(server).expect("it ended by itself");
}

#[test]
fn connections_of_http1() {
    let sidecar = Sidecar::start();
    let stop = CancellationToken::new();
    let (server, address) = sidecar.runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, config) = (sidecar.http(), sidecar.settings.http.clone());
        let stop = stop.clone();
        let serving =
            async move { http::serve::serve(listener, router, &config, None, stop).await };
        (tokio::spawn(serving), address)
    });
    let body = r#"{"tenant":"acme","meter":"calls","amount":1}"#;
    let head = "POST /v1/check-quota HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n";
    let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let chunked = format!(
        "{head}transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let pipelined = whole.repeat(3);
    let last = whole.replace("host: here", "host: here\r\nconnection: close");
    let seeds = [whole, chunked, pipelined, last].map(String::into_bytes).to_vec();
    let target =
        Target { name: "http1", inputs: 400, bytes_max: 32 << 10, memory_max: (96 << 20, 1 << 10) };
    target.run(seeds, |input| {
        sidecar.runtime.block_on(async {
            let socket = TcpStream::connect(address).await.expect("it still listens");
            let heard = say(socket, input).await;
            let first = heard.split(|byte| *byte == b'\r').next().unwrap_or_default();
            assert!(!first.starts_with(b"HTTP/1.1 5"), "{}", heard.escape_ascii());
            String::from_utf8_lossy(first).into_owned()
        })
    });
    stop.cancel();
    let ended = sidecar.runtime.block_on(server).expect("it ended by itself");
    ended.expect("it served to the end");
}
