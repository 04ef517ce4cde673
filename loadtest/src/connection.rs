//! One connection and the requests on it, all in one task: a call for each.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures::{Stream, future::BoxFuture, stream::FuturesUnordered};
use h2::client::SendRequest;
use http::Request;

use crate::{
    calls::Requests,
    http2::{self, Connection, check_end, check_head},
    plan::{End, Plan, Tally, Window},
    slots::Slots,
};

/// How long requests in flight may take after the end of the window.
pub const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Loads one connection until the window has passed.
pub async fn load(
    plan: Arc<Plan>,
    requests: Arc<Requests>,
    window: Window,
) -> anyhow::Result<Tally> {
    let (sender, connection) = http2::connect(&plan).await?;
    let load = Load {
        connection,
        slots: Slots::new(&plan, window.start - plan.warmup),
        sender,
        request: http2::head(&plan, requests.path())?,
        requests,
        window,
        in_flight: FuturesUnordered::new(),
        tally: Tally::new(),
    };
    tokio::time::timeout_at((window.end + LAST_ANSWERS).into(), load)
        .await
        .context("requests were not answered within 10 s")?
}

struct Load {
    connection: Connection,
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
    check_head(&head.headers)?;
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(told)?;
        body.flow_control().release_capacity(data.len()).map_err(told)?;
        message.extend_from_slice(&data);
    }
    check_end(&body.trailers().await.map_err(told)?.unwrap_or_default())?;
    match requests.is_allowed(&message) {
        Ok(true) => Ok(End::Allowed),
        Ok(false) => Ok(End::Denied),
        Err(error) => Err(error.to_string()),
    }
}
