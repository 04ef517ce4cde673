//! `RecordUsage`: events in, a receipt out.

use crate::{
    domain::{
        amount::check_delta,
        ids::{MeterName, TenantId},
        invalid::{Invalid, Problems},
        usage::{Durability, RecordReceipt, UsageReport},
    },
    proto::v1,
};

use super::fields;

/// Most events in one batch.
pub const BATCH_EVENTS_MAX: usize = 100_000;

/// What one `RecordUsage` asks for.
#[derive(Clone, Debug)]
pub struct UsageBatch {
    /// 1 to [`BATCH_EVENTS_MAX`], in the order of the request.
    pub reports: Vec<UsageReport>,
    /// Absent: the sidecar's default.
    pub durability: Option<Durability>,
}

/// Checks a batch: all of it is accepted, or every bad event is told.
pub fn usage_batch(events: Vec<v1::UsageEvent>, durability: i32) -> Result<UsageBatch, Problems> {
    let mut problems = Problems::default();
    let durability = problems.keep(fields::durability(durability));
    if let Err(problem) = check_size(events.len()) {
        problems.push(problem);
        return Err(problems);
    }
    let mut reports = Vec::with_capacity(events.len());
    let mut names = Names::default();
    for (number, event) in events.into_iter().enumerate() {
        match usage_report(event, &mut names) {
            Ok(report) => reports.push(report),
            Err(bad) => {
                let event = format!("events[{number}]");
                bad.listed()
                    .iter()
                    .for_each(|problem| problems.push(problem.clone().within(&event)));
            }
        }
    }
    let Some(durability) = durability else { return Err(problems) };
    problems.into_result()?;
    Ok(UsageBatch { reports, durability })
}

/// Puts a receipt into the wire's form.
pub fn record_response(receipt: RecordReceipt) -> v1::RecordUsageResponse {
    v1::RecordUsageResponse {
        accepted: fields::units(receipt.accepted),
        duplicates: fields::units(receipt.duplicates),
        late: fields::units(receipt.late),
    }
}

fn check_size(events: usize) -> Result<(), Invalid> {
    match events {
        0 => Err(Invalid::new("events", "is empty", "send at least one event")),
        1..=BATCH_EVENTS_MAX => Ok(()),
        _ => Err(Invalid::new(
            "events",
            format!("has {events} entries"),
            format!("send at most {BATCH_EVENTS_MAX} in one batch"),
        )),
    }
}

/// The names of the event before: most batches are of few tenants and meters, one after the other,
/// and sharing a name costs neither a check nor an allocation.
#[derive(Default)]
struct Names {
    tenant: Option<TenantId>,
    meter: Option<MeterName>,
}

impl Names {
    fn tenant(&mut self, text: &str) -> Result<TenantId, Invalid> {
        match &self.tenant {
            Some(tenant) if tenant.as_str() == text => Ok(tenant.clone()),
            _ => Ok(self.tenant.insert(TenantId::new(text)?).clone()),
        }
    }

    fn meter(&mut self, text: &str) -> Result<MeterName, Invalid> {
        match &self.meter {
            Some(meter) if meter.as_str() == text => Ok(meter.clone()),
            _ => Ok(self.meter.insert(MeterName::new(text)?).clone()),
        }
    }
}

fn usage_report(wire: v1::UsageEvent, names: &mut Names) -> Result<UsageReport, Problems> {
    let mut problems = Problems::default();
    let tenant = problems.keep(names.tenant(&wire.tenant));
    let meter = problems.keep(names.meter(&wire.meter));
    let subject = problems.keep(fields::subject(&wire.subject));
    let amount = problems.keep(
        fields::required_amount(wire.amount).and_then(|amount| check_delta("amount", amount)),
    );
    let idempotency_key = problems.keep(fields::idempotency_key(&wire.idempotency_key));
    let time = problems.keep(fields::instant("time", wire.time));
    let properties = problems.keep(fields::properties(wire.properties));
    let reservation = problems.keep(fields::optional_reservation(&wire.reservation_id));
    match (tenant, meter, subject, amount, idempotency_key, time, properties, reservation) {
        (
            Some(tenant),
            Some(meter),
            Some(subject),
            Some(amount),
            Some(idempotency_key),
            Some(time),
            Some(properties),
            Some(reservation),
        ) => Ok(UsageReport {
            tenant,
            meter,
            subject,
            amount,
            idempotency_key,
            time,
            properties,
            reservation,
        }),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::invalid::PROBLEMS_LISTED_MAX;

    fn event(amount: i64) -> v1::UsageEvent {
        v1::UsageEvent {
            tenant: "acme".into(),
            meter: "tokens".into(),
            amount: Some(amount),
            ..Default::default()
        }
    }

    #[test]
    fn an_event_of_amount_0_is_recorded() {
        let batch = usage_batch(vec![event(0)], 0).unwrap();
        assert_eq!(batch.reports[0].amount, 0);
        assert_eq!(batch.durability, None);
    }

    #[test]
    fn one_bad_event_refuses_the_batch_and_is_named_by_its_place() {
        let bad = v1::UsageEvent { meter: String::new(), amount: None, ..event(1) };
        let problems = usage_batch(vec![event(1), bad, event(2)], 0).unwrap_err();
        let fields: Vec<_> = problems.listed().iter().map(|p| p.field.as_str()).collect();
        assert_eq!(fields, ["events[1].meter", "events[1].amount"]);
    }

    #[test]
    fn events_of_several_tenants_and_meters_keep_their_own_names() {
        let named = |tenant: &str, meter: &str| v1::UsageEvent {
            tenant: tenant.into(),
            meter: meter.into(),
            ..event(1)
        };
        let names = [("a", "x"), ("a", "y"), ("b", "y"), ("a", "x"), ("a", "x")];
        let events = names.iter().map(|(tenant, meter)| named(tenant, meter)).collect();
        let batch = usage_batch(events, 0).unwrap();
        let read: Vec<_> =
            batch.reports.iter().map(|it| (it.tenant.as_str(), it.meter.as_str())).collect();
        assert_eq!(read, names);
    }

    #[test]
    fn an_empty_batch_is_refused() {
        let problems = usage_batch(vec![], 0).unwrap_err();
        assert_eq!(problems.listed()[0].field, "events");
    }

    #[test]
    fn a_batch_of_100_000_is_taken_and_one_more_is_not() {
        assert_eq!(usage_batch(vec![event(1); 100_000], 0).unwrap().reports.len(), 100_000);
        let problems = usage_batch(vec![event(1); 100_001], 0).unwrap_err();
        assert!(problems.to_string().contains("100001"), "{problems}");
    }

    #[test]
    fn a_batch_full_of_bad_events_lists_the_first_and_counts_all() {
        let bad = v1::UsageEvent { amount: Some(i64::MAX), ..event(1) };
        let problems = usage_batch(vec![bad; 1_000], 0).unwrap_err();
        assert_eq!(problems.listed().len(), PROBLEMS_LISTED_MAX);
        assert_eq!(problems.total(), 1_000);
        assert_eq!(problems.listed()[99].field, "events[99].amount");
    }
}
