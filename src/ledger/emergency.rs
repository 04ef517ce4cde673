//! Emergency usage: granted by a plan's rule, as often as it says, in one transaction.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use super::{
    changes::{Author, lock_changes},
    error::LedgerError,
    grants::{NewGrant, StoredGrant, create_grant, grant_of_key},
    pool::Ledger,
};

/// What a rule allows in the period of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmergencyBound {
    /// The period, by the tenant's clock.
    pub since: Timestamp,
    pub until: Option<Timestamp>,
    /// Grants in it.
    pub times: u16,
    /// Base units of one grant.
    pub amount: u64,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct EmergencyOutcome {
    pub claim: EmergencyClaim,
    /// Base units that the rule has left afterwards.
    pub remaining: u64,
}

/// Whether it was granted.
#[derive(Clone, Debug, PartialEq)]
pub enum EmergencyClaim {
    /// Now, or by an earlier request with its key.
    Granted(Box<StoredGrant>),
    /// As often as the rule allows.
    AlreadyUsed,
    /// It asks for more than the rule has left.
    TooMuch,
}

impl Ledger {
    /// The grant that was given under a key, if one was.
    pub async fn grant_of_key(
        &self,
        tenant: &crate::domain::ids::TenantId,
        source_key: &str,
    ) -> Result<Option<StoredGrant>, LedgerError> {
        self.run_tx_of("grant_of_key", tenant, |tx| {
            Box::pin(async move { grant_of_key(tx.connection(), tenant, source_key).await })
        })
        .await
    }

    /// Gives `new` unless the rule that it names as its source has been used up. Whoever changes
    /// anything waits for it meanwhile, so that two requests at once are one after the other.
    pub async fn claim_emergency(
        &self,
        new: &NewGrant,
        bound: EmergencyBound,
        author: Author<'_>,
    ) -> Result<EmergencyOutcome, LedgerError> {
        self.run_tx_of("claim_emergency", &new.tenant, |tx| {
            Box::pin(async move {
                let tx = tx.connection();
                lock_changes(tx).await?;
                let given = sqlx::query!(
                    r#"SELECT count(*) AS "times!", coalesce(sum(amount), 0)::bigint AS "units!"
                       FROM grants
                       WHERE tenant = $1 AND source = $2 AND starts_at >= $3
                           AND ($4::timestamptz IS NULL OR starts_at < $4)"#,
                    new.tenant.as_str(),
                    new.source,
                    bound.since.to_sqlx() as _,
                    bound.until.map(ToSqlx::to_sqlx) as _
                )
                .fetch_one(&mut *tx)
                .await?;
                let pool = bound.amount.saturating_mul(bound.times.into());
                let units = u64::try_from(given.units).unwrap_or(0);
                let remaining = pool.saturating_sub(units);
                let outcome = |claim, remaining| Ok(EmergencyOutcome { claim, remaining });
                if let Some(before) = grant_of_key(tx, &new.tenant, &new.source_key).await? {
                    new.check_repeat(&before)?;
                    return outcome(EmergencyClaim::Granted(Box::new(before)), remaining);
                }
                if given.times >= i64::from(bound.times) {
                    return outcome(EmergencyClaim::AlreadyUsed, remaining);
                }
                if new.amount > bound.amount.min(remaining) {
                    return outcome(EmergencyClaim::TooMuch, remaining);
                }
                let stored = create_grant(tx, new, author).await?;
                let claim = EmergencyClaim::Granted(Box::new(stored));
                outcome(claim, remaining.saturating_sub(new.amount))
            })
        })
        .await
    }
}
