//! RESERVE, `ReleaseReservation`, and the lapse of holds.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    admission::{Admission, Admitted},
    answer::{Decision, Figures, reason_allowed},
    asked::Asked,
    engine::Engine,
    error::{EngineError, Unknown, UnknownName},
    repeats::Remembered,
};
use crate::{
    domain::{
        ids::TenantId,
        invalid::Invalid,
        quota::{DecidedBy, QuotaAnswer, QuotaReason},
        reservation::{Reservation, ReservationId},
    },
    leases::holds::{HeldSince, Hold},
};

/// Lapsed holds that one sweep gives back.
const EXPIRED_MAX: usize = 10_000;

/// What is about to be held.
pub(super) struct Holding {
    ttl: SignedDuration,
    since: Arc<HeldSince>,
}

impl Engine {
    /// Holds what is asked until it is settled, released or `ttl` has passed.
    ///
    /// On a meter without a ceiling nothing has to be held; the reservation is only a name.
    pub(super) async fn reserve(
        &self,
        asked: &Asked<'_>,
        ttl: Option<Duration>,
    ) -> Result<QuotaAnswer, EngineError> {
        let holding = self.holding(ttl)?;
        let durability = self.durability(asked)?;
        let mut settling = match self.begin(asked, durability).await? {
            Ok(settling) => settling,
            Err(first_answer) => return Ok(first_answer),
        };
        let admitted = match self.admit(asked).await? {
            Admission::Admitted(admitted) => admitted,
            Admission::Denied(denial) => return Ok(denial),
        };
        let answer = self.hold(asked, admitted, &holding)?;
        settling.answered(|| Some(Remembered::Quota(answer.clone())), None);
        Ok(answer)
    }

    /// Keeps what was admitted as a hold.
    pub(super) fn hold(
        &self,
        asked: &Asked<'_>,
        admitted: Admitted,
        holding: &Holding,
    ) -> Result<QuotaAnswer, EngineError> {
        let Some(counter) = admitted.counter() else {
            // `requested_units` has refused meters that are not sums.
            return Err(EngineError::Unavailable("nothing to hold".into()));
        };
        let decided_by = admitted.decided_by();
        let is_granted = admitted.is_granted();
        let unbacked = admitted.unbacked(asked);
        let Some(taken) = admitted.into_held(&self.leasing) else {
            return Err(EngineError::Unavailable("nothing to hold".into()));
        };
        let expires_at = self.clock.now().saturating_add(holding.ttl).unwrap_or(Timestamp::MAX);
        taken.reserve();
        let held = taken.own.amount();
        let hold = Hold::new(taken, expires_at, holding.since.clone());
        let number = self.holds.place(hold, asked.terms.tenant.id.as_str()).map_err(|refused| {
            refused.taken.unreserve();
            EngineError::Overloaded { what: "reservations", bound: self.config.reservations_max }
        })?;
        self.metrics.units_unbacked.increment(unbacked);
        let figures = Figures::of(&counter);
        let reason = match decided_by {
            DecidedBy::Fallback => QuotaReason::AllowedByOutagePolicy,
            _ if is_granted => QuotaReason::WithinGrant,
            _ if asked.pool.is_some() => QuotaReason::WithinLimit,
            _ => reason_allowed(asked.meter, figures.used + held),
        };
        let decision = Decision { reason, decided_by };
        let id = ReservationId { run: self.run, number };
        Ok(QuotaAnswer {
            reservation: Some(Reservation { id, amount: asked.units, expires_at }),
            ..asked.answer(&counter.window, figures, decision)
        })
    }

    /// Begins to hold, for as long as is asked.
    pub(super) fn holding(&self, ttl: Option<Duration>) -> Result<Holding, Invalid> {
        Ok(Holding { ttl: self.ttl(ttl)?, since: self.holds.begin(self.clock.now()) })
    }

    fn ttl(&self, asked: Option<Duration>) -> Result<SignedDuration, Invalid> {
        let max = Duration::from_secs(self.config.reservation_ttl_s_max);
        let ttl = asked.unwrap_or(Duration::from_secs(self.config.reservation_ttl_s));
        if ttl > max || ttl < Duration::from_secs(1) {
            return Err(Invalid::new(
                "reservation_ttl",
                format!("is out of range ({} s)", ttl.as_secs_f64()),
                format!("give 1 to {} s", max.as_secs()),
            ));
        }
        Ok(SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX))
    }

    /// Gives a hold back. Answers the units that became free: 0 when it had ended already.
    pub async fn release_reservation(
        &self,
        tenant: &TenantId,
        id: ReservationId,
    ) -> Result<u64, EngineError> {
        self.check_open()?;
        self.tenant(tenant, "tenant").await?;
        if id.run != self.run {
            // Another run keeps it, or kept it: it lapses there by itself.
            return Err(unknown(id));
        }
        let of_tenant = self.holds.peek(id.number, |hold| hold.taken.key.tenant == *tenant);
        match of_tenant {
            Some(false) => Err(unknown(id)),
            None if self.holds.was_of(id.number, tenant.as_str()) => Ok(0),
            None => Err(unknown(id)),
            Some(true) => Ok(self.holds.remove(id.number).map_or(0, |hold| {
                hold.taken.unreserve();
                hold.taken.amount()
            })),
        }
    }

    /// Gives everything back that is held: the run ends, and its holds with it.
    pub fn release_all_reservations(&self) {
        while !self.holds.is_empty() {
            let ended = self.holds.remove_expired(Timestamp::MAX, EXPIRED_MAX);
            ended.iter().for_each(|hold| hold.taken.unreserve());
        }
    }

    /// Gives back what has lapsed by `now`.
    pub fn expire_reservations(&self, now: Timestamp) {
        let expired = self.holds.remove_expired(now, EXPIRED_MAX);
        self.metrics.reservations_expired.increment(expired.len() as u64);
        expired.iter().for_each(|hold| hold.taken.unreserve());
    }
}

fn unknown(id: ReservationId) -> EngineError {
    Unknown { field: "reservation_id".into(), name: UnknownName::Reservation(id) }.into()
}
