//! What clients do, and how it is sent.

use tollgate::proto::{
    time::Duration,
    v1::{
        CheckQuotaRequest, CheckRequest, Durability, Mode, RecordUsageRequest,
        ReleaseReservationRequest, Reservation, UsageEvent,
    },
};
use tonic::Status;
use tonic_types::StatusExt;

use super::{
    tenants::{MEMBERS, POOL},
    truth::Fate,
};
use crate::sidecars::cluster::{Client, event, quota};

/// Units of one meter of one tenant.
#[derive(Clone, Debug)]
pub struct Operation {
    pub tenant: String,
    pub meter: &'static str,
    pub amount: i64,
    /// Empty: none.
    pub key: String,
}

impl Operation {
    /// Whose limits it is held against.
    pub fn limited_by(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let is_pooled = MEMBERS.contains(&self.tenant.as_str()) && self.meter == POOL.1;
        [(self.tenant.as_str(), self.meter)].into_iter().chain(is_pooled.then_some(POOL))
    }
}

/// How it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One operation, admitted or denied.
    Consume,
    /// Operations after the fact.
    Record,
    /// All of them as the catalog's operation `work`, admitted or denied; what it fixes goes first.
    Compose,
    /// One operation that settles a hold.
    Commit { reservation: String },
}

/// What is sent and answered as one.
#[derive(Clone, Debug)]
pub struct Batch {
    pub operations: Vec<Operation>,
    pub verb: Verb,
    pub durability: Durability,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub fate: Fate,
    /// It counts, and settles no hold: the hold had ended.
    pub is_late: bool,
}

impl Answer {
    pub fn of(fate: Fate) -> Self {
        Self { fate, is_late: false }
    }
}

impl Batch {
    /// Whether it can be sent again: either all of its operations have keys or none.
    pub fn is_keyed(&self) -> bool {
        self.operations.iter().all(|operation| !operation.key.is_empty())
    }

    /// Sends it once.
    pub async fn send(&self, client: Client) -> Result<Answer, Status> {
        match &self.verb {
            Verb::Consume => self.consume(client).await,
            Verb::Compose => self.compose(client).await,
            Verb::Record => self.record(client, "").await,
            Verb::Commit { reservation } => self.record(client, reservation).await,
        }
    }

    async fn consume(&self, mut client: Client) -> Result<Answer, Status> {
        let Operation { tenant, meter, amount, key } = &self.operations[0];
        let request = CheckQuotaRequest {
            idempotency_key: key.clone(),
            durability: self.durability.into(),
            ..quota(Mode::Consume, tenant, meter, *amount)
        };
        let is_allowed = client.check_quota(request).await?.into_inner().allowed;
        Ok(Answer::of(if is_allowed { Fate::Counted } else { Fate::Denied }))
    }

    async fn compose(&self, mut client: Client) -> Result<Answer, Status> {
        let Operation { tenant, key, .. } = &self.operations[0];
        let amounts = self.operations[1..].iter();
        let request = CheckRequest {
            tenant: tenant.clone(),
            operation: "work".to_owned(),
            amounts: amounts.map(|it| (it.meter.to_owned(), it.amount)).collect(),
            mode: Mode::Consume.into(),
            idempotency_key: key.clone(),
            durability: self.durability.into(),
            ..Default::default()
        };
        let is_allowed = client.check(request).await?.into_inner().allowed;
        Ok(Answer::of(if is_allowed { Fate::Counted } else { Fate::Denied }))
    }

    async fn record(&self, mut client: Client, reservation: &str) -> Result<Answer, Status> {
        let events = self.operations.iter().map(|operation| {
            let Operation { tenant, meter, amount, key } = operation;
            let reservation_id = reservation.to_owned();
            UsageEvent { reservation_id, ..event(tenant, meter, *amount, key) }
        });
        let request =
            RecordUsageRequest { events: events.collect(), durability: self.durability.into() };
        let receipt = client.record_usage(request).await?.into_inner();
        Ok(Answer { fate: Fate::Counted, is_late: receipt.late > 0 })
    }
}

/// Asks for a hold; `None`: denied.
pub async fn reserve(
    mut client: Client,
    operation: &Operation,
    ttl_s: i64,
) -> Result<Option<Reservation>, Status> {
    let request = CheckQuotaRequest {
        idempotency_key: operation.key.clone(),
        reservation_ttl: Some(Duration { seconds: ttl_s, nanos: 0 }),
        ..quota(Mode::Reserve, &operation.tenant, operation.meter, operation.amount)
    };
    Ok(client.check_quota(request).await?.into_inner().reservation)
}

/// Gives a hold back.
pub async fn release(mut client: Client, tenant: &str, id: &str) -> Result<(), Status> {
    let request =
        ReleaseReservationRequest { tenant: tenant.to_owned(), reservation_id: id.to_owned() };
    client.release_reservation(request).await.map(drop)
}

/// What a failed call says about what it would have counted.
pub fn fate_of_failure(status: &Status) -> Fate {
    match reason(status).as_deref() {
        // Not an answer of a sidecar.
        None => Fate::Unknown,
        Some("JOURNAL_STOPPED" | "INTERNAL") => Fate::Unknown,
        // Of all others `docs/reasons.md` says that nothing was counted.
        Some(_) => Fate::NotCounted,
    }
}

/// Our reason, if it was a sidecar that failed the call.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}
