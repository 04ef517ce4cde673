//! gRPC: every call with every body, whole, cut off, with lengths and flags that lie.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, timeout};
use tollgate::{
    api::status::is_malformed,
    grpc::{self, Answering, GrpcService},
};
use tollgate_fuzz::{Answer, Target};
use tonic::{Code, Status, body::Body};

use super::{
    envoy,
    frames::calls,
    sidecar::{READ_MAX, Sidecar},
};

/// How long a call may take, its stream aside: none of the sidecar's own deadlines is as long.
const CALL_MAX: Duration = Duration::from_secs(15);

/// A call as the corpus has it: its path, an empty byte, its body.
fn request(input: &[u8]) -> Option<Request<Bytes>> {
    let end = input.iter().position(|byte| *byte == 0)?;
    let request = Request::post(&input[..end]).header("content-type", "application/grpc");
    request.body(Bytes::copy_from_slice(&input[end + 1..])).ok()
}

/// Whether a connection would take the body for a message that has come whole.
fn is_whole(body: &[u8]) -> bool {
    let Some((prefix, message)) = body.split_first_chunk::<5>() else { return false };
    let bytes = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    prefix[0] == 0 && bytes as usize == message.len()
}

/// The status of an answer, and whether anything came before it. `None` for a stream that goes on.
async fn status(mut answer: Response<Body>) -> (Option<Status>, bool) {
    let in_head = Status::from_header_map(answer.headers());
    let (mut any, until) = (false, Instant::now() + READ_MAX);
    let mut status = in_head;
    while let Ok(Some(frame)) = tokio::time::timeout_at(until, answer.body_mut().frame()).await {
        match frame {
            Ok(frame) if frame.is_data() => any = true,
            Ok(frame) => {
                status = frame.trailers_ref().and_then(Status::from_header_map).or(status);
            }
            Err(broken) => return (Some(broken), any),
        }
    }
    (status, any)
}

async fn answer(service: &impl GrpcService, request: Request<Bytes>) -> Answer {
    let short = match is_whole(request.body()) {
        true => service.answer_whole(&mut request.clone()),
        false => None,
    };
    let short = match short {
        Some(Answering::Done(short)) => Some(told(&request, async { short }).await),
        Some(Answering::Decided(short) | Answering::Waiting(short)) => {
            Some(told(&request, short).await)
        }
        None => None,
    };
    // A stream that breaks off breaks off for ever: a body that never ends is for `http2`.
    let long = service.answer(request.clone().map(|body| Body::new(Full::new(body))));
    let long = async { long.await.map(grpc::Answer::Response).unwrap_or_else(|it| match it {}) };
    let (code, long) = told(&request, long).await;
    if let Some((short, told)) = short {
        // What else may come of a call depends on those before it.
        let is_bad = |code| code == Some(Code::InvalidArgument);
        assert_eq!(is_bad(short), is_bad(code), "{told}, or {long}");
    }
    long
}

/// What an answer says, and its code unless it goes on.
async fn told(
    request: &Request<Bytes>,
    answer: impl Future<Output = grpc::Answer>,
) -> (Option<Code>, Answer) {
    let path: String = request.uri().path().chars().take(60).collect();
    let answer = timeout(CALL_MAX, answer).await.expect("an answer in time");
    let (status, any) = match answer {
        grpc::Answer::Message { .. } => (Some(Status::ok("")), true),
        grpc::Answer::Response(answer) => {
            assert!(!answer.status().is_server_error(), "{}", answer.status());
            status(answer).await
        }
    };
    let Some(status) = status else { return (None, format!("{path} goes on")) };
    // tonic tells what it cannot decode as INTERNAL; whoever serves it says INVALID_ARGUMENT
    // (`grpc::call`).
    assert!(
        is_malformed(&status)
            || ![Code::Internal, Code::Unknown, Code::DataLoss].contains(&status.code()),
        "{path}: {status:?}"
    );
    let words: Vec<_> = status.message().split([' ', ':', '[']).take(2).collect();
    (Some(status.code()), format!("{path} {:?} {any} {}", status.code(), words.join(" ")))
}

fn run(target: Target, seeds: Vec<Vec<u8>>) {
    let sidecar = Sidecar::start();
    let service = sidecar.grpc();
    target.run(seeds, |input| match request(input) {
        None => "no call".into(),
        Some(request) => sidecar.runtime.block_on(answer(&service, request)),
    });
}

fn input(path: &str, body: &[u8]) -> Vec<u8> {
    [path.as_bytes(), &[0], body].concat()
}

/// The sidecar's own work goes on meanwhile: its tables, its journal's buffers.
const MEMORY_MAX: (usize, usize) = (64 << 20, 1 << 10);

#[test]
fn calls_of_every_kind() {
    let seeds = calls().into_iter().map(|(path, body)| input(&path, &body)).collect();
    let target =
        Target { name: "grpc", inputs: 8_000, bytes_max: 64 << 10, memory_max: MEMORY_MAX };
    run(target, seeds);
}

#[test]
fn descriptors_of_envoy() {
    let seeds = envoy::requests().iter().map(|body| input(envoy::PATH, body)).collect();
    let target =
        Target { name: "envoy", inputs: 6_000, bytes_max: 64 << 10, memory_max: MEMORY_MAX };
    run(target, seeds);
}
