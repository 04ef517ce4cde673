//! Messages of the journal to values, and back.

use jiff::Timestamp;
use prost::DecodeError;

use crate::{
    domain::{
        cell_key::CellKey, ids::TenantId, invalid::Invalid, meter::Aggregation, window::WindowLabel,
    },
    proto::journal as wire,
};

/// Why a body cannot be read although its checksum holds.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the message is malformed: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the message is malformed")]
    Unreadable,
    #[error("a value is out of its rules: {0}")]
    Invalid(#[from] Invalid),
    #[error("{0} is missing or unknown")]
    Missing(&'static str),
}

pub fn key_from_wire(key: Option<wire::CellKey>) -> Result<CellKey, BodyError> {
    let key = key.ok_or(BodyError::Missing("key"))?;
    let label = key.label.ok_or(BodyError::Missing("label"))?;
    Ok(CellKey {
        tenant: TenantId::stored(&key.tenant)?,
        meter: key.meter.parse()?,
        subject: key.subject.map(|subject| subject.parse()).transpose()?,
        label: WindowLabel {
            period: label.period.parse()?,
            start: label.start,
            anchor_version: label.anchor_version,
        },
    })
}

pub fn time_from_wire(seconds: i64, nanos: i32) -> Result<Timestamp, BodyError> {
    Timestamp::new(seconds, nanos).map_err(|_| BodyError::Missing("time"))
}

pub fn aggregation_to_wire(aggregation: Aggregation) -> wire::Aggregation {
    match aggregation {
        Aggregation::Sum => wire::Aggregation::Sum,
        Aggregation::Count => wire::Aggregation::Count,
        Aggregation::Max => wire::Aggregation::Max,
        Aggregation::Last => wire::Aggregation::Last,
        Aggregation::DistinctCount => wire::Aggregation::DistinctCount,
    }
}

pub fn aggregation_from_wire(aggregation: wire::Aggregation) -> Result<Aggregation, BodyError> {
    Ok(match aggregation {
        wire::Aggregation::Sum => Aggregation::Sum,
        wire::Aggregation::Count => Aggregation::Count,
        wire::Aggregation::Max => Aggregation::Max,
        wire::Aggregation::Last => Aggregation::Last,
        wire::Aggregation::DistinctCount => Aggregation::DistinctCount,
        wire::Aggregation::Unspecified => return Err(BodyError::Missing("aggregation")),
    })
}
