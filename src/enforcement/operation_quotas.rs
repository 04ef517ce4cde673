//! The quotas of one operation, together.

use super::{
    admission::{Admission, Admitted},
    asked::{Asked, Said},
    engine::Engine,
    error::EngineError,
    labelling,
    operation::AskedOperation,
    operation_parts::Part,
    quota::requested_units,
    reserve::Holding,
};
use crate::domain::{
    ids::MeterName,
    invalid::{Invalid, Problems},
    meter::Aggregation,
    operation::{OperationAnswer, OperationRequest},
    quota::QuotaAnswer,
};

impl Engine {
    /// What is asked of each quota that the plan has, in the plan's order whatever the operation
    /// says: two operations that take of the same meters never hold what the other waits for. Those
    /// that cannot be taken back come last.
    pub(super) async fn quotas<'a>(
        &self,
        asked: &'a AskedOperation<'_>,
        parts: &[Part<'_>],
    ) -> Result<Vec<Asked<'a>>, EngineError> {
        let AskedOperation { request, state, terms, catalog, now, .. } = asked;
        let OperationRequest { mode, durability, properties, .. } = request;
        let mut quotas = Vec::with_capacity(parts.len());
        let began = self.leasing.now();
        for Part { meter: name, amount } in parts.iter().copied() {
            let Some(meter) = terms.plan.meter(name.as_str()) else {
                if catalog.has_meter(name.as_str()) {
                    continue;
                }
                labelling::meter(&terms.plan, &terms.tenant, name)
                    .map_err(|refused| refused.at("operation".to_owned()))?;
                continue;
            };
            let subject = labelling::counted_subject(meter, request.subject.as_ref())?;
            let units =
                requested_units(meter, amount, *mode).map_err(|error| at_amount(error, name))?;
            let pool = self.pool_draw(terms, meter, *now).await?;
            let now = *now;
            let said = Said {
                amount,
                mode: *mode,
                idempotency_key: request.idempotency_key.as_ref(),
                durability: *durability,
                properties,
            };
            quotas.push(Asked { said, state, terms, meter, subject, now, began, units, pool });
        }
        quotas.sort_by_key(|asked| {
            let is_distinct = asked.meter.meter.aggregation == Aggregation::DistinctCount;
            (is_distinct, asked.meter.index)
        });
        Ok(quotas)
    }

    /// Looks at every quota. Answers the first that denied, with the units asked of it.
    pub(super) async fn look_at_all(
        &self,
        quotas: &[Asked<'_>],
        answer: &mut OperationAnswer,
    ) -> Result<Option<(MeterName, u64)>, EngineError> {
        let mut denied = None;
        for quota in quotas {
            let looked = self.look(quota).await.map_err(|error| of_part(error, quota))?;
            let meter = quota.meter.meter.name.clone();
            if !looked.allowed && denied.is_none() {
                denied = Some((meter.clone(), quota.units));
            }
            answer.quotas.push((meter, looked));
        }
        Ok(denied)
    }

    /// Takes from the quotas up to `end`, behind those that have admitted it. When one denies, all
    /// is given back, and the answer is the one that did, with the units asked of it.
    pub(super) async fn admit_up_to(
        &self,
        end: usize,
        quotas: &[Asked<'_>],
        admitted: &mut Vec<Admitted>,
        answer: &mut OperationAnswer,
    ) -> Result<Option<(MeterName, u64)>, EngineError> {
        for quota in &quotas[admitted.len()..end] {
            match self.admit(quota).await.map_err(|error| of_part(error, quota))? {
                Admission::Admitted(one) => admitted.push(one),
                Admission::Denied(denial) => {
                    let meter = quota.meter.meter.name.clone();
                    self.untake(quotas, std::mem::take(admitted), answer);
                    answer.quotas.push((meter.clone(), denial));
                    return Ok(Some((meter, quota.units)));
                }
            }
        }
        Ok(None)
    }

    /// Gives back what the first of `quotas` have admitted.
    pub(super) fn untake(
        &self,
        quotas: &[Asked<'_>],
        admitted: Vec<Admitted>,
        answer: &mut OperationAnswer,
    ) {
        for (quota, one) in quotas.iter().zip(admitted) {
            let name = quota.meter.meter.name.clone();
            answer.quotas.push((name, one.untaken(self, quota)));
        }
    }

    /// Keeps all that was admitted as holds.
    pub(super) fn hold_all(
        &self,
        quotas: Vec<Asked<'_>>,
        admitted: Vec<Admitted>,
        holding: &Holding,
        answer: &mut OperationAnswer,
    ) -> Result<(), EngineError> {
        for (quota, one) in quotas.iter().zip(admitted) {
            match self.hold(quota, one, holding) {
                Ok(held) => answer.quotas.push((quota.meter.meter.name.clone(), held)),
                Err(error) => {
                    self.let_go(&answer.quotas);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn let_go(&self, quotas: &[(MeterName, QuotaAnswer)]) {
        for reservation in quotas.iter().filter_map(|(_, quota)| quota.reservation.as_ref()) {
            if let Some(hold) = self.holds.remove(reservation.id.number) {
                hold.taken.unreserve();
            }
        }
    }
}

/// What is wrong with an amount, in the words of this call.
fn at_amount(error: EngineError, meter: &MeterName) -> EngineError {
    match error {
        EngineError::InvalidRequest(problems) => {
            let mut renamed = Problems::default();
            for problem in problems.listed() {
                let is_amount = problem.field == "amount";
                let field =
                    if is_amount { format!("amounts[{meter}]") } else { problem.field.clone() };
                renamed.push(Invalid { field, ..problem.clone() });
            }
            EngineError::InvalidRequest(renamed)
        }
        other => other,
    }
}

fn of_part(error: EngineError, quota: &Asked<'_>) -> EngineError {
    at_amount(error, &quota.meter.meter.name)
}
