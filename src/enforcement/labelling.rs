//! From what a caller reports to an event that is final: checked against the plan, stamped with its
//! counter's key.

use jiff::{SignedDuration, Timestamp};

use super::{
    config::EnforcementConfig,
    error::{EngineError, Unknown, UnknownName},
};
use crate::domain::{
    amount::{check_amount, check_delta},
    catalog::{
        compiled_plan::{CompiledPlan, PlanMeter},
        error::nearest,
    },
    cell_key::CellKey,
    ids::{IdempotencyKey, MeterName, Subject},
    invalid::{Invalid, PROBLEMS_LISTED_MAX, Problems},
    meter::{Aggregation, Meter, MeterKind},
    properties::Properties,
    tenant::Tenant,
    usage::{UsageEvent, UsageReport},
    window::Window,
};

/// Property that keeps the subject of an event whose limit does not hold per subject.
const SUBJECT_PROPERTY: &str = "subject";

/// What is wrong with one report.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    Invalid(Invalid),
    Unknown(Unknown),
}

impl Refused {
    /// The same, of the field that the caller's message has at `field`.
    pub fn at(self, field: String) -> Self {
        match self {
            Self::Invalid(invalid) => Self::Invalid(Invalid { field, ..invalid }),
            Self::Unknown(unknown) => Self::Unknown(Unknown { field, ..unknown }),
        }
    }
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<Refused> for EngineError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(invalid) => invalid.into(),
            Refused::Unknown(unknown) => unknown.into(),
        }
    }
}

/// What is wrong with a batch, and what is unknown in it.
#[derive(Default)]
pub struct Findings {
    problems: Problems,
    unknown: Vec<Unknown>,
}

impl Findings {
    /// Adds what is wrong with the event of this number.
    pub fn add(&mut self, number: usize, refused: Refused) {
        let prefix = format!("events[{number}]");
        match refused {
            Refused::Invalid(invalid) => self.problems.push(invalid.within(&prefix)),
            Refused::Unknown(unknown) => {
                if self.unknown.len() < PROBLEMS_LISTED_MAX {
                    let field = format!("{prefix}.{}", unknown.field);
                    self.unknown.push(Unknown { field, ..unknown });
                }
            }
        }
    }

    /// How the batch is refused, if anything is wrong.
    pub fn refusal(self) -> Option<EngineError> {
        EngineError::refusal(self.problems, self.unknown)
    }
}

/// Finds a meter that the caller named.
pub fn meter<'plan>(
    plan: &'plan CompiledPlan,
    tenant: &Tenant,
    name: &MeterName,
) -> Result<&'plan PlanMeter, Refused> {
    plan.meter(name.as_str()).ok_or_else(|| {
        let known = plan.meters.iter().map(|known| known.meter.name.as_str());
        let near = nearest(name.as_str(), known).and_then(|near| MeterName::new(near).ok());
        let (tenant, meter) = (tenant.id.clone(), name.clone());
        let name = UnknownName::Meter { tenant, meter, near };
        Refused::Unknown(Unknown { field: "meter".into(), name })
    })
}

/// The subject that counts: the caller's where the limit holds per subject, none elsewhere.
pub fn counted_subject(
    meter: &PlanMeter,
    subject: Option<&Subject>,
) -> Result<Option<Subject>, Invalid> {
    match (meter.limit.per_subject, subject) {
        (true, None) => Err(Invalid::new(
            "subject",
            "is missing",
            format!("give the subject: the limit of {} holds for each", meter.meter.name),
        )),
        (true, Some(subject)) => Ok(Some(subject.clone())),
        (false, _) => Ok(None),
    }
}

/// Checks that an amount suits the meter.
pub fn check_meter_amount(meter: &Meter, amount: i64) -> Result<(), Invalid> {
    match meter.kind {
        MeterKind::Static => Err(Invalid::new(
            "meter",
            format!("{} is only read", meter.name),
            "look at it with MODE_CHECK; nothing is recorded on a static meter",
        )),
        MeterKind::Level if meter.aggregation == Aggregation::Sum => {
            check_delta("amount", amount).map(drop)
        }
        MeterKind::Level | MeterKind::Counter => check_amount("amount", amount).map(drop),
    }
}

/// The value that a distinct-count meter counts; `None` for the others.
pub fn distinct_value<'p>(
    meter: &Meter,
    properties: &'p Properties,
) -> Result<Option<&'p str>, Invalid> {
    let Some(name) = &meter.distinct_property else { return Ok(None) };
    match properties.get(name) {
        Some(value) if !value.is_empty() => Ok(Some(value)),
        _ => Err(Invalid::new(
            format!("properties[{name:?}]"),
            "is missing",
            format!("give it: {} counts its distinct values", meter.name),
        )),
    }
}

/// Checks a reported time against the tenant's now.
fn check_time(
    config: &EnforcementConfig,
    time: Timestamp,
    now: Timestamp,
) -> Result<Timestamp, Invalid> {
    let age_max = SignedDuration::from_hours(24 * i64::from(config.event_age_days_max));
    let ahead_max = SignedDuration::from_secs(i64::from(config.event_ahead_s_max));
    let age = now.duration_since(time);
    if age > age_max {
        return Err(Invalid::new(
            "time",
            format!("lies too far in the past ({time}, the tenant's now is {now})"),
            format!("report within {} days", config.event_age_days_max),
        ));
    }
    if -age > ahead_max {
        return Err(Invalid::new(
            "time",
            format!("lies too far in the future ({time}, the tenant's now is {now})"),
            format!("set the caller's clock; at most {} s ahead", config.event_ahead_s_max),
        ));
    }
    Ok(time)
}

/// What makes an event besides its counter.
#[derive(Debug)]
pub struct Particulars {
    pub amount: i64,
    pub time: Timestamp,
    pub idempotency_key: Option<IdempotencyKey>,
    pub properties: Properties,
}

/// Stamps an event with its counter.
#[inline]
pub fn event(meter: &Meter, key: CellKey, particulars: Particulars) -> Result<UsageEvent, Invalid> {
    let Particulars { amount, time, idempotency_key, properties } = particulars;
    let distinct_value = distinct_value(meter, &properties)?.map(str::to_owned);
    Ok(UsageEvent {
        key,
        aggregation: meter.aggregation,
        amount,
        distinct_value,
        time,
        idempotency_key,
        properties,
        group_by: meter.group_by.clone(),
        event_retention_days: meter.event_retention_days,
        from_lease: 0,
        reservation: None,
        parts: vec![],
        operation: None,
    })
}

/// Checks a report whole and stamps it with the window of its time. Nothing is taken yet, and the
/// hold that it may name is not looked up. `near` is a window of the meter, mostly the one.
#[inline]
pub fn label(
    config: &EnforcementConfig,
    tenant: &Tenant,
    meter: &PlanMeter,
    now: Timestamp,
    near: Window,
    report: UsageReport,
) -> Result<(UsageEvent, Window), Invalid> {
    check_meter_amount(&meter.meter, report.amount)?;
    let subject = counted_subject(meter, report.subject.as_ref())?;
    let time = report.time.map_or(Ok(now), |time| check_time(config, time, now))?;
    // Windows do not overlap, so it is the same that the calendar would tell.
    let window = match near.contains(time) {
        true => near,
        false => tenant.subscription.schedule.window(meter.limit.period, time),
    };
    let properties = match (&subject, report.subject) {
        (None, Some(given)) => report.properties.with(SUBJECT_PROPERTY, given.as_str())?,
        _ => report.properties,
    };
    // The names as they were reported: those of tenant and plan are everybody's, and who counts
    // their holders, by cloning them, has all cores write to one place.
    let key = CellKey { tenant: report.tenant, meter: report.meter, subject, label: window.label };
    let particulars = Particulars {
        amount: report.amount,
        time,
        idempotency_key: report.idempotency_key,
        properties,
    };
    let mut event = event(&meter.meter, key, particulars)?;
    event.reservation = report.reservation;
    Ok((event, window))
}
