//! One HTTP/2 connection and the requests on it, all in one task.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures::{Stream, future::BoxFuture, stream::FuturesUnordered};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use tokio::time::Sleep;

use crate::{
    calls::Requests,
    plan::{End, Pace, Plan, Tally, Window},
    target::Stream as Socket,
};

/// Bytes that may arrive on the connection before they are asked for.
const WINDOW_BYTES: u32 = 4 << 20;
/// How late requests of an open loop may be sent because of the timer.
const TICK: Duration = Duration::from_millis(1);
/// How long requests in flight may take after the end of the window.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Loads one connection until the window has passed.
pub async fn load(
    plan: Arc<Plan>,
    requests: Arc<Requests>,
    window: Window,
) -> anyhow::Result<Tally> {
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
    let load = Load {
        connection: Box::pin(connection),
        slots: Slots::new(&plan, window.start - plan.warmup),
        sender,
        request: template(&plan, &requests)?,
        requests,
        window,
        in_flight: FuturesUnordered::new(),
        tally: Tally::new(),
    };
    tokio::time::timeout_at((window.end + LAST_ANSWERS).into(), load)
        .await
        .context("requests were not answered within 10 s")?
}

fn template(plan: &Plan, requests: &Requests) -> anyhow::Result<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let authority = match &plan.target {
        crate::target::Target::Tcp(address) => address.to_string(),
        crate::target::Target::Unix(_) => "localhost".to_owned(),
    };
    let uri = format!("http://{authority}{}", requests.path());
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

type Connection = h2::client::Connection<Box<dyn Socket>, Bytes>;

struct Load {
    connection: Pin<Box<Connection>>,
    slots: Slots,
    sender: SendRequest<Bytes>,
    request: Request<()>,
    requests: Arc<Requests>,
    window: Window,
    in_flight: FuturesUnordered<BoxFuture<'static, (Instant, End)>>,
    tally: Tally,
}

impl Future for Load {
    type Output = anyhow::Result<Tally>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let mut news = false;
            if let Poll::Ready(end) = this.connection.as_mut().poll(cx) {
                end?;
                return Poll::Ready(Err(anyhow::anyhow!("the server closed the connection")));
            }
            while let Poll::Ready(Some((due, end))) = Pin::new(&mut this.in_flight).poll_next(cx) {
                news = true;
                this.tally.count(&this.window, due, Instant::now(), end);
            }
            let now = Instant::now();
            if now < this.window.end {
                while this.sender.poll_ready(cx)?.is_ready() {
                    let Some(due) = this.slots.take(now, this.in_flight.len()) else { break };
                    news = true;
                    this.send(due)?;
                }
                this.slots.wait(now, cx);
            } else if this.in_flight.is_empty() {
                return Poll::Ready(Ok(std::mem::replace(&mut this.tally, Tally::new())));
            }
            if !news {
                return Poll::Pending;
            }
        }
    }
}

impl Load {
    fn send(&mut self, due: Instant) -> anyhow::Result<()> {
        let (answer, mut body) = self.sender.send_request(self.request.clone(), false)?;
        body.send_data(self.requests.next(), true)?;
        let requests = self.requests.clone();
        self.in_flight.push(Box::pin(async move {
            let end = read(answer, &requests).await.unwrap_or_else(End::Failed);
            (due, end)
        }));
        Ok(())
    }
}

/// Reads an answer to its end.
async fn read(answer: h2::client::ResponseFuture, requests: &Requests) -> Result<End, String> {
    let told = |error: h2::Error| error.to_string();
    let (head, mut body) = answer.await.map_err(told)?.into_parts();
    check_status(&head.headers)?;
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(told)?;
        body.flow_control().release_capacity(data.len()).map_err(told)?;
        message.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.map_err(told)?.unwrap_or_default();
    if !trailers.contains_key("grpc-status") {
        return Err("the answer has no grpc-status".to_owned());
    }
    check_status(&trailers)?;
    match requests.is_allowed(&message) {
        Ok(true) => Ok(End::Allowed),
        Ok(false) => Ok(End::Denied),
        Err(error) => Err(error.to_string()),
    }
}

fn check_status(headers: &HeaderMap) -> Result<(), String> {
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

/// When requests are due on this connection.
enum Slots {
    Closed { in_flight: usize },
    Open { next: Instant, gap: Duration, in_flight_max: usize, tick: Pin<Box<Sleep>> },
}

impl Slots {
    fn new(plan: &Plan, start: Instant) -> Self {
        match plan.pace {
            Pace::Closed { in_flight } => Self::Closed { in_flight },
            Pace::Open { per_second, in_flight_max } => Self::Open {
                next: start,
                gap: Duration::from_secs_f64(plan.connections as f64 / per_second),
                in_flight_max,
                tick: Box::pin(tokio::time::sleep(TICK)),
            },
        }
    }

    /// The instant at which the next request was due, if one is.
    fn take(&mut self, now: Instant, in_flight: usize) -> Option<Instant> {
        match self {
            Self::Closed { in_flight: most } => (in_flight < *most).then_some(now),
            Self::Open { next, gap, in_flight_max, .. } => {
                if in_flight >= *in_flight_max || *next > now {
                    return None;
                }
                let due = *next;
                *next += *gap;
                Some(due)
            }
        }
    }

    /// Has the task woken when the next request is due.
    fn wait(&mut self, now: Instant, cx: &mut Context<'_>) {
        if let Self::Open { tick, .. } = self {
            while pin!(tick.as_mut()).poll(cx).is_ready() {
                tick.as_mut().reset((now + TICK).into());
            }
        }
    }
}
