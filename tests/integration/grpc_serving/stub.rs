//! A service whose calls wait, work or panic as the test says.

use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tollgate::{
    api::at_once::AnswersAtOnce,
    api::record_stream::record_stream,
    api::usage::UsageBatch,
    domain::usage::RecordReceipt,
    proto::v1::{self, tollgate_service_server::TollgateService},
};
use tonic::{Request, Response, Status, Streaming, codegen::BoxStream};

#[derive(Clone)]
pub struct Stub(Arc<Inner>);

struct Inner {
    /// Ends streams.
    shutdown: CancellationToken,
    /// Calls of the tenant `slow` that are in the handler.
    slow_calls: watch::Sender<usize>,
    /// Lets slow calls finish, one for each permit.
    release: Semaphore,
    /// What the next batch blocks its thread on.
    batch_gate: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Stub {
    /// Serves until `shutdown`.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            shutdown,
            slow_calls: watch::Sender::new(0),
            release: Semaphore::new(0),
            batch_gate: Mutex::default(),
        }))
    }

    /// Waits until as many slow calls are in the handler.
    pub async fn slow_calls(&self, expected: usize) {
        let mut calls = self.0.slow_calls.subscribe();
        calls.wait_for(|calls| *calls == expected).await.unwrap();
    }

    /// Lets as many slow calls finish.
    pub fn release(&self, calls: usize) {
        self.0.release.add_permits(calls);
    }

    /// Makes the next batch keep its thread busy until the sender is used or dropped.
    pub fn block_next_batch(&self) -> mpsc::Sender<()> {
        let (sender, receiver) = mpsc::channel();
        *self.0.batch_gate.lock().unwrap() = Some(receiver);
        sender
    }
}

/// Counts a slow call as long as its handler lives.
struct SlowCall<'a>(&'a watch::Sender<usize>);

impl<'a> SlowCall<'a> {
    fn count(calls: &'a watch::Sender<usize>) -> Self {
        calls.send_modify(|calls| *calls += 1);
        Self(calls)
    }
}

impl Drop for SlowCall<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls -= 1);
    }
}

impl AnswersAtOnce for Stub {}

#[tonic::async_trait]
impl TollgateService for Stub {
    async fn check_quota(
        &self,
        request: Request<v1::CheckQuotaRequest>,
    ) -> Result<Response<v1::CheckQuotaResponse>, Status> {
        let request = request.into_inner();
        match request.tenant.as_str() {
            "slow" => {
                let _counted = SlowCall::count(&self.0.slow_calls);
                self.0.release.acquire().await.unwrap().forget();
            }
            "panics at once" => panic!("as the test asked"),
            "panics later" => {
                tokio::task::yield_now().await;
                panic!("as the test asked");
            }
            _ => {}
        }
        let used = request.amount.unwrap_or_default();
        Ok(Response::new(v1::CheckQuotaResponse { allowed: true, used, ..Default::default() }))
    }

    async fn record_usage(
        &self,
        request: Request<v1::RecordUsageRequest>,
    ) -> Result<Response<v1::RecordUsageResponse>, Status> {
        let gate = self.0.batch_gate.lock().unwrap().take();
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
        let accepted = request.into_inner().events.len() as i64;
        Ok(Response::new(v1::RecordUsageResponse { accepted, ..Default::default() }))
    }

    async fn record_usage_stream(
        &self,
        request: Request<Streaming<v1::RecordUsageStreamRequest>>,
    ) -> Result<Response<BoxStream<v1::RecordUsageStreamResponse>>, Status> {
        let record = |batch: UsageBatch| async move {
            Ok(RecordReceipt { accepted: batch.reports.len() as u64, ..RecordReceipt::default() })
        };
        let answers = record_stream(request.into_inner(), record, self.0.shutdown.clone());
        Ok(Response::new(Box::pin(answers)))
    }
}
