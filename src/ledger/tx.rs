//! Transactions with a name, retries and metrics.

use std::{
    marker::PhantomData,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use sqlx::{PgConnection, Postgres, Transaction};

use super::{error::LedgerError, pool::Ledger, tenant_scope::TenantRole};
use crate::domain::ids::TenantId;

/// How often a transaction is tried that loses against others.
const ATTEMPTS_MAX: u32 = 8;
/// First wait before trying again; doubles each time, with jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(5);

/// An open transaction that what lives for `'a` may be used in.
///
/// The lifetime lets bodies borrow from around them: a `&'t mut Tx<'a>` implies that `'a` outlives
/// `'t`, which `for<'t>` alone has no way to say.
pub(super) struct Tx<'a> {
    transaction: Transaction<'static, Postgres>,
    scope: PhantomData<fn() -> &'a ()>,
}

impl Tx<'_> {
    /// The connection that the transaction is open on.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

impl Ledger {
    /// Runs `body` in a transaction called `name` (in metrics and errors) and commits it if it
    /// succeeds. One that loses a race (serialization, deadlock, lock timeout) is run again from
    /// the start, so `body` may only change what Postgres rolls back, and its own results.
    ///
    /// An error of the commit itself leaves open whether it happened: what callers do must be
    /// harmless when done twice.
    pub(super) async fn run_tx<'a, T>(
        &self,
        name: &'static str,
        // Boxed, since the futures of an async closure are not known to be Send.
        body: impl for<'t> FnMut(&'t mut Tx<'a>) -> BoxFuture<'t, Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        self.run_scoped(name, None, body).await
    }

    /// As [`Self::run_tx`], for what concerns one tenant: Postgres keeps `body` from every other's
    /// rows, whatever its statements say.
    pub(super) async fn run_tx_of<'a, T>(
        &self,
        name: &'static str,
        tenant: &TenantId,
        body: impl for<'t> FnMut(&'t mut Tx<'a>) -> BoxFuture<'t, Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        self.run_scoped(name, Some(tenant), body).await
    }

    async fn run_scoped<'a, T>(
        &self,
        name: &'static str,
        tenant: Option<&TenantId>,
        mut body: impl for<'t> FnMut(&'t mut Tx<'a>) -> BoxFuture<'t, Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let started = Instant::now();
        let mut attempt = 1;
        let result = loop {
            match self.attempt_tx(tenant, &mut body).await {
                Err(error) if error.is_lost_race() => {
                    metrics::counter!("tollgate_ledger_retries_total", "transaction" => name)
                        .increment(1);
                    if attempt == ATTEMPTS_MAX {
                        break Err(contended(name, error));
                    }
                    let backoff = BACKOFF_MIN * 2u32.pow(attempt - 1);
                    tokio::time::sleep(backoff.mul_f64(0.5 + rand::random::<f64>())).await;
                    attempt += 1;
                }
                result => break result,
            }
        };
        let outcome = match &result {
            Ok(_) => "committed",
            Err(LedgerError::Refused(_)) => "refused",
            Err(_) => "failed",
        };
        metrics::histogram!(
            "tollgate_ledger_transaction_seconds", "transaction" => name, "outcome" => outcome
        )
        .record(started.elapsed().as_secs_f64());
        result
    }

    async fn attempt_tx<'a, T>(
        &self,
        tenant: Option<&TenantId>,
        body: &mut impl for<'t> FnMut(&'t mut Tx<'a>) -> BoxFuture<'t, Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let transaction = match tenant {
            None => self.pool.begin().await?,
            Some(tenant) => TenantRole::Writer.begin(&self.pool, tenant).await?,
        };
        let mut tx = Tx { transaction, scope: PhantomData };
        match body(&mut tx).await {
            Ok(value) => {
                tx.transaction.commit().await?;
                Ok(value)
            }
            Err(error) => {
                // Dropping it would roll it back, too, but not before a tool that ends now is gone.
                let _ = tx.transaction.rollback().await;
                Err(error)
            }
        }
    }
}

fn contended(name: &'static str, error: LedgerError) -> LedgerError {
    match error {
        LedgerError::Failed(source) | LedgerError::Unavailable(source) => {
            LedgerError::Contended { name, attempts: ATTEMPTS_MAX, source }
        }
        other => other,
    }
}
