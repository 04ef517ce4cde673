//! Carries out recorded calls against sidecars, with bounded retries under the same keys.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Status, transport::Channel};

use super::{
    report::Report,
    trace::{Call, What},
};
use crate::{
    cli::client::{address::SidecarAddress, refused::refused},
    proto::v1::{
        CheckQuotaRequest, CheckQuotaResponse, Durability, Mode, RecordUsageRequest, UsageEvent,
        tollgate_service_client::TollgateServiceClient,
    },
};

/// Largest wait between two tries.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(1);
const RETRY_WAIT_MIN: Duration = Duration::from_millis(10);

type Client = TollgateServiceClient<Channel>;

/// How a request failed for the last time, and where.
struct Failed {
    status: Status,
    address: SidecarAddress,
}

/// Whether a request is checked before it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Verb {
    /// `RecordUsage`: it happened, limits are not asked.
    Record,
    /// `CheckQuota` CONSUME: it happens only if the limits allow it.
    Consume,
}

/// How calls are carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The tenant of the completions; requests go to the tenant named as their client.
    pub tenant: String,
    /// Before a client's pseudonym, to make its tenant's id.
    pub tenant_prefix: String,
    /// What keys start with: another prefix makes another replay.
    pub key_prefix: String,
    pub durability: Durability,
    pub verb: Verb,
    /// Factor on the bytes of requests.
    pub bytes_factor: i64,
    /// Tokens beyond the context that a completion reserves.
    pub reserve_generated: i64,
    /// Events carry the recorded time; otherwise the tenant's now counts.
    pub recorded_time: bool,
    pub tries_max: u32,
}

/// One driver: it carries out one call at a time.
pub struct Driver {
    pub plan: Arc<Plan>,
    /// Where calls go; a call starts with the one of its turn and goes on with the next.
    pub clients: Vec<(Client, SidecarAddress)>,
    pub report: Report,
}

impl Driver {
    /// Carries out one call, to the end or until its tries are used up.
    pub async fn carry_out(&mut self, call: &Call) -> anyhow::Result<()> {
        let done = match &call.what {
            What::Completion { context, generated } => {
                self.completion(call, *context, *generated).await
            }
            What::Request { client, bytes } => self.request(call, client, *bytes).await,
        };
        self.report.calls += 1;
        match done {
            Err(Failed { status, address }) => {
                let why = refused(&status, &address);
                if !is_retryable(&status) {
                    return Err(why);
                }
                self.report.given_up += 1;
                self.report.given_up_because.get_or_insert_with(|| why.to_string());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn completion(
        &mut self,
        call: &Call,
        context: i64,
        generated: i64,
    ) -> Result<(), Failed> {
        let plan = self.plan.clone();
        let reserve = CheckQuotaRequest {
            tenant: plan.tenant.clone(),
            meter: "tokens".into(),
            amount: Some(context + plan.reserve_generated),
            mode: Mode::Reserve.into(),
            durability: plan.durability.into(),
            ..Default::default()
        };
        let held = self.check(call.line, &reserve).await?;
        if !held.allowed {
            self.report.deny("tokens", context + plan.reserve_generated);
            return Ok(());
        }
        let event = UsageEvent {
            reservation_id: held.reservation.map(|hold| hold.id).unwrap_or_default(),
            ..self.event(call, plan.tenant.clone(), "tokens", context + generated)
        };
        self.record(call.line, vec![event]).await
    }

    async fn request(&mut self, call: &Call, client: &str, bytes: i64) -> Result<(), Failed> {
        let tenant = format!("{}{client}", self.plan.tenant_prefix);
        let used = [("requests", 1), ("bandwidth", bytes * self.plan.bytes_factor)];
        match self.plan.verb {
            Verb::Record => {
                let event = |(meter, amount)| self.event(call, tenant.clone(), meter, amount);
                let events = used.map(event).to_vec();
                self.record(call.line, events).await
            }
            Verb::Consume => {
                for (meter, amount) in used {
                    self.consume(call, &tenant, meter, amount).await?;
                }
                Ok(())
            }
        }
    }

    async fn consume(
        &mut self,
        call: &Call,
        tenant: &str,
        meter: &str,
        amount: i64,
    ) -> Result<(), Failed> {
        let consume = CheckQuotaRequest {
            tenant: tenant.into(),
            meter: meter.into(),
            amount: Some(amount),
            mode: Mode::Consume.into(),
            idempotency_key: self.key(call, meter),
            durability: self.plan.durability.into(),
            ..Default::default()
        };
        if self.check(call.line, &consume).await?.allowed {
            self.report.acknowledge(meter, amount);
        } else {
            self.report.deny(meter, amount);
        }
        Ok(())
    }

    fn event(&self, call: &Call, tenant: String, meter: &str, amount: i64) -> UsageEvent {
        let time = self.plan.recorded_time.then(|| crate::proto::time::Timestamp {
            seconds: call.at.as_second(),
            nanos: call.at.subsec_nanosecond(),
        });
        UsageEvent {
            tenant,
            meter: meter.into(),
            amount: Some(amount),
            idempotency_key: self.key(call, meter),
            time,
            ..Default::default()
        }
    }

    fn key(&self, call: &Call, meter: &str) -> String {
        format!("{}-{}-{meter}", self.plan.key_prefix, call.line)
    }

    async fn check(
        &mut self,
        turn: usize,
        request: &CheckQuotaRequest,
    ) -> Result<CheckQuotaResponse, Failed> {
        self.retrying(turn, |mut client| {
            let request = request.clone();
            async move { Ok(client.check_quota(request).await?.into_inner()) }
        })
        .await
    }

    async fn record(&mut self, turn: usize, events: Vec<UsageEvent>) -> Result<(), Failed> {
        let request = RecordUsageRequest { events, durability: self.plan.durability.into() };
        self.retrying(turn, |mut client| {
            let request = request.clone();
            async move { client.record_usage(request).await }
        })
        .await?;
        for event in request.events {
            self.report.acknowledge(&event.meter, event.amount.unwrap_or_default());
        }
        Ok(())
    }

    async fn retrying<T, F: Future<Output = Result<T, Status>>>(
        &mut self,
        turn: usize,
        attempt: impl Fn(Client) -> F,
    ) -> Result<T, Failed> {
        let mut wait = RETRY_WAIT_MIN;
        let mut tries = 1;
        loop {
            let (client, address) = &self.clients[(turn + tries as usize) % self.clients.len()];
            match attempt(client.clone()).await {
                Err(status) if is_retryable(&status) && tries < self.plan.tries_max => {
                    self.report.retries += 1;
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_WAIT_MAX);
                    tries += 1;
                }
                Ok(answer) => return Ok(answer),
                Err(status) => return Err(Failed { status, address: address.clone() }),
            }
        }
    }
}

/// Whether the fate of a request is unknown or may be better next time.
fn is_retryable(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Internal
    )
}
