//! A connection of HTTP/2 as gRPC has it: its beginning, the head of a request, the status of an answer.

use std::pin::Pin;

use anyhow::Context as _;
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Version};

use crate::{
    plan::Plan,
    target::{Stream as Socket, Target},
};

/// Bytes that may arrive on the connection before they are asked for.
const WINDOW_BYTES: u32 = 4 << 20;

/// What moves a connection's frames, once it is polled.
pub type Connection = Pin<Box<h2::client::Connection<Box<dyn Socket>, Bytes>>>;

/// Connects to the plan's target.
pub async fn connect(plan: &Plan) -> anyhow::Result<(SendRequest<Bytes>, Connection)> {
    let socket = plan
        .target
        .connect()
        .await
        .with_context(|| format!("cannot connect to {}", plan.target))?;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake::<_, Bytes>(socket)
        .await?;
    Ok((sender, Box::pin(connection)))
}

/// The head of the plan's requests, which go to `path`.
pub fn head(plan: &Plan, path: &str) -> anyhow::Result<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let authority = match &plan.target {
        Target::Tcp(address) => address.to_string(),
        Target::Unix(_) => "localhost".to_owned(),
    };
    let uri = format!("http://{authority}{path}");
    // Made of an address and a constant path.
    *request.uri_mut() = uri.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    if let Some(token) = &plan.token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .context("the token has characters that no token has")?;
        value.set_sensitive(true);
        headers.insert("authorization", value);
    }
    Ok(request)
}

/// Whether an answer's head is that of a refusal.
pub fn check_head(headers: &HeaderMap) -> Result<(), String> {
    match headers.get("grpc-status") {
        None => Ok(()),
        Some(code) if code == "0" => Ok(()),
        Some(code) => {
            let message = headers.get("grpc-message").map(HeaderValue::as_bytes);
            let message = String::from_utf8_lossy(message.unwrap_or_default());
            Err(format!("grpc-status {}: {message}", String::from_utf8_lossy(code.as_bytes())))
        }
    }
}

/// Whether an answer's end says that all went well.
pub fn check_end(trailers: &HeaderMap) -> Result<(), String> {
    if !trailers.contains_key("grpc-status") {
        return Err("the answer has no grpc-status".to_owned());
    }
    check_head(trailers)
}
