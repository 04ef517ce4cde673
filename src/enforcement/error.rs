//! Why the engine gives no answer. A denial is an answer and is not here.

use crate::domain::{
    catalog::names::{OperationName, RateName},
    ids::{FeatureName, MeterName, TenantId},
    invalid::{Invalid, Problems},
    reservation::ReservationId,
};

/// Something that a request names and nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Path of the field that names it (`events[3].meter`).
    pub field: String,
    pub name: UnknownName,
}

/// What kind of thing is unknown, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownName {
    Tenant(TenantId),
    /// Not in the tenant's catalog.
    Meter {
        tenant: TenantId,
        meter: MeterName,
        /// The one of the catalog's that is most likely meant.
        near: Option<MeterName>,
    },
    /// Not in the tenant's catalog.
    Rate {
        tenant: TenantId,
        rate: RateName,
        /// The one of the catalog's that is most likely meant.
        near: Option<RateName>,
    },
    /// Not in the tenant's catalog, nor in its version of its plan.
    Feature {
        tenant: TenantId,
        feature: FeatureName,
        /// The one of the catalog's that is most likely meant.
        near: Option<FeatureName>,
    },
    /// Not in the tenant's version of its plan, nor in its catalog.
    Operation {
        tenant: TenantId,
        operation: OperationName,
        /// The one of the catalog's that is most likely meant.
        near: Option<OperationName>,
    },
    Reservation(ReservationId),
}

impl From<Unknown> for Invalid {
    fn from(unknown: Unknown) -> Self {
        let (problem, remedy) = match &unknown.name {
            UnknownName::Tenant(tenant) => (
                format!("there is no tenant {tenant}"),
                "create it (`tollgate tenant create`) or give the id of an existing one".to_owned(),
            ),
            UnknownName::Meter { tenant, meter, near } => (
                format!("there is no meter {meter} in the catalog of tenant {tenant}"),
                match near {
                    Some(near) => format!("did you mean {near}?"),
                    None => {
                        "give a meter of that catalog (`tollgate catalog show NAME`)".to_owned()
                    }
                },
            ),
            UnknownName::Rate { tenant, rate, near } => (
                format!("there is no rate {rate} in the catalog of tenant {tenant}"),
                match near {
                    Some(near) => format!("did you mean {near}?"),
                    None => "give a rate of that catalog (`tollgate catalog show NAME`)".to_owned(),
                },
            ),
            UnknownName::Feature { tenant, feature, near } => (
                format!("there is no feature {feature} in the catalog of tenant {tenant}"),
                match near {
                    Some(near) => format!("did you mean {near}?"),
                    None => {
                        "give a feature of that catalog (`tollgate catalog show NAME`)".to_owned()
                    }
                },
            ),
            UnknownName::Operation { tenant, operation, near } => (
                format!("there is no operation {operation} in the catalog of tenant {tenant}"),
                match near {
                    Some(near) => format!("did you mean {near}?"),
                    None => "give an operation of that catalog (`tollgate catalog show NAME`)"
                        .to_owned(),
                },
            ),
            UnknownName::Reservation(id) => (
                format!("there is no reservation {id} of this tenant"),
                "give the id that the RESERVE answer carried; ended ones are forgotten after a \
                 while"
                    .to_owned(),
            ),
        };
        Self::new(unknown.field, problem, remedy)
    }
}

/// Why a request got no answer. Unless a variant says otherwise, nothing of it was counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The caller sent what cannot be accepted; all of it is refused.
    #[error("invalid request: {0}")]
    InvalidRequest(Problems),
    /// What a request names and nobody knows: at least one, and at most
    /// [`crate::domain::invalid::PROBLEMS_LISTED_MAX`] of a batch.
    #[error("unknown: {}", problems_of(.0))]
    Unknown(Vec<Unknown>),
    /// Keys that were used before with other content.
    #[error("idempotency conflict: {0}")]
    IdempotencyConflict(Problems),
    /// The meter, the plan or this sidecar's set-up cannot do what is asked.
    #[error("not possible here: {0}")]
    NotPossible(Invalid),
    /// The journal's disk budget is used up until the ledger has taken what it holds.
    #[error("the journal's disk budget of {budget_bytes} bytes is used up")]
    JournalFull { budget_bytes: u64 },
    /// The journal stopped for good (an fsync failed, the disk is gone). Whether the request was
    /// written is unknown.
    #[error("the journal has stopped: {0}")]
    JournalStopped(String),
    /// A bounded queue is full.
    #[error("overloaded: more than {bound} {what}")]
    Overloaded { what: &'static str, bound: usize },
    /// Something that is needed cannot be reached.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The sidecar takes nothing new.
    #[error("shutting down")]
    ShuttingDown,
}

impl EngineError {
    /// The refusal of a batch: what is unknown is told as such when it is all that is wrong, and
    /// among the other problems otherwise. `None` when nothing is wrong.
    pub fn refusal(mut problems: Problems, unknown: Vec<Unknown>) -> Option<Self> {
        match (problems.is_empty(), unknown.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Self::Unknown(unknown)),
            (false, _) => {
                unknown.into_iter().for_each(|unknown| problems.push(unknown.into()));
                Some(Self::InvalidRequest(problems))
            }
        }
    }
}

impl From<Invalid> for EngineError {
    fn from(invalid: Invalid) -> Self {
        Self::InvalidRequest(invalid.into())
    }
}

impl From<Unknown> for EngineError {
    fn from(unknown: Unknown) -> Self {
        Self::Unknown(vec![unknown])
    }
}

/// What is unknown, as problems of the request.
pub fn problems_of(unknown: &[Unknown]) -> Problems {
    let mut problems = Problems::default();
    unknown.iter().for_each(|unknown| problems.push(unknown.clone().into()));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown_tenant() -> Unknown {
        Unknown {
            field: "events[3].tenant".into(),
            name: UnknownName::Tenant(TenantId::new("acme").unwrap()),
        }
    }

    #[test]
    fn what_is_unknown_is_told_as_such_only_when_nothing_else_is_wrong() {
        assert_eq!(EngineError::refusal(Problems::default(), vec![]), None);
        let alone = EngineError::refusal(Problems::default(), vec![unknown_tenant()]);
        assert_eq!(alone, Some(EngineError::Unknown(vec![unknown_tenant()])));
        let invalid = Problems::from(Invalid::new("events[0].amount", "is negative", "mend it"));
        let Some(EngineError::InvalidRequest(both)) =
            EngineError::refusal(invalid, vec![unknown_tenant()])
        else {
            panic!("not an invalid request");
        };
        assert_eq!(both.total(), 2);
        assert_eq!(both.listed()[1].field, "events[3].tenant");
    }
}
