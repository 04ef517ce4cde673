//! Clients that speak HTTP/2 by themselves: with little room for answers, and calls that they give up.

use bytes::{BufMut, Bytes, BytesMut};
use h2::{
    Reason, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use prost::Message;

use super::*;

impl Served {
    /// A connection that takes no more than `window_bytes` of an answer before it has read them.
    async fn speak(&self, window_bytes: u32) -> SendRequest<Bytes> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let builder = Builder::new().initial_window_size(window_bytes).clone();
        let (calls, connection) = builder.handshake(socket).await.unwrap();
        tokio::spawn(connection);
        calls
    }
}

/// Makes a CheckQuota, all of it unless `bytes` says how many.
async fn begin(
    calls: &mut SendRequest<Bytes>,
    tenant: &str,
    bytes: Option<usize>,
) -> (ResponseFuture, SendStream<Bytes>) {
    let message = check(tenant).encode_to_vec();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    let request = http::Request::post("http://here/tollgate.v1.TollgateService/CheckQuota")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    futures::future::poll_fn(|cx| calls.poll_ready(cx)).await.unwrap();
    let (response, mut stream) = calls.send_request(request, false).unwrap();
    framed.truncate(bytes.unwrap_or(framed.len()));
    stream.send_data(framed.freeze(), bytes.is_none()).unwrap();
    (response, stream)
}

/// Reads an answer as the window lets it come: its message, if it went well.
async fn read(response: ResponseFuture) -> v1::CheckQuotaResponse {
    let mut body = response.await.unwrap().into_body();
    let mut read = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    v1::CheckQuotaResponse::decode(&read[5..]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_an_answer_byte_by_byte_gets_all_of_it() {
    let served = served(GrpcConfig::default()).await;
    let mut calls = served.speak(1).await;
    let mut answers = vec![];
    for _ in 0..100 {
        answers.push(begin(&mut calls, "fast", None).await.0);
    }
    let mut plain = served.client().await;
    let expected = in_time(plain.check_quota(check("fast"))).await.unwrap().into_inner();
    for answer in answers {
        assert_eq!(in_time(read(answer)).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_ends_and_the_others_of_its_connection_go_on() {
    let served = served(GrpcConfig::default()).await;
    let mut calls = served.speak(1 << 16).await;
    let (_answer, mut slow) = begin(&mut calls, "slow", None).await;
    in_time(served.stub.slow_calls(1)).await;
    let (_answer, mut half) = begin(&mut calls, "fast", Some(7)).await;
    slow.send_reset(Reason::CANCEL);
    in_time(served.stub.slow_calls(0)).await;
    half.send_reset(Reason::CANCEL);
    let (answer, _) = begin(&mut calls, "fast", None).await;
    in_time(read(answer)).await;
}
