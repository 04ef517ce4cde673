//! The checkpoint: all that the embedded store knows, in one file that is replaced as a whole.
//!
//! ```text
//! 0   magic     8 bytes "TGCHKPT\n"
//! 8   version   u32     1
//! 12  checksum  u32     CRC32C of the body
//! 16  body              a tollgate.journal.v1.Checkpoint message
//! ```
//!
//! Numbers are little endian. Written beside, synced and renamed, so that a crash leaves the old
//! one or the new one.

use jiff::Timestamp;
use prost::Message;
use uuid::Uuid;

use super::{
    config::EmbeddedConfig,
    state::State,
    total::Total,
    used_keys::{Content, Use},
};
use crate::{
    domain::{cell_key::CellKey, distinct::DistinctCount, ids::RunId},
    journal::{
        convert::{
            BodyError, aggregation_from_wire, aggregation_to_wire, key_from_wire, key_to_wire,
            time_from_wire,
        },
        position::Position,
    },
    proto::journal as wire,
};

const MAGIC: &[u8; 8] = b"TGCHKPT\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("it is no checkpoint, or not a whole one")]
    Damaged,
    #[error("it has format {0}, this version reads format {VERSION}")]
    Version(u32),
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// The content of the file.
pub fn encode(state: &State) -> Vec<u8> {
    let mark = |(run, position): (&RunId, &Position)| wire::RunMark {
        run: run.0.as_bytes().to_vec(),
        position: u64::from(*position),
    };
    let checkpoint = wire::Checkpoint {
        marks: state.marks.iter().map(mark).collect(),
        totals: state.totals.iter().map(total_to_wire).collect(),
        used_keys: state.used_keys.iter().map(used_key_to_wire).collect(),
        conflicts: state.conflicts,
        keys_forgotten: state.used_keys.forgotten,
    };
    let mut content = Vec::with_capacity(HEADER_BYTES + checkpoint.encoded_len());
    content.extend_from_slice(MAGIC);
    content.extend_from_slice(&VERSION.to_le_bytes());
    content.extend_from_slice(&[0; 4]);
    content.extend_from_slice(&checkpoint.encode_to_vec());
    let checksum = crc32c::crc32c(&content[HEADER_BYTES..]);
    content[12..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    content
}

/// Reads the content of the file.
pub fn decode(content: &[u8], config: &EmbeddedConfig) -> Result<State, CheckpointError> {
    let (header, body) = content.split_at_checked(HEADER_BYTES).ok_or(CheckpointError::Damaged)?;
    let u32_at = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if &header[..8] != MAGIC || u32_at(12) != crc32c::crc32c(body) {
        return Err(CheckpointError::Damaged);
    }
    if u32_at(8) != VERSION {
        return Err(CheckpointError::Version(u32_at(8)));
    }
    let checkpoint = wire::Checkpoint::decode(body).map_err(BodyError::from)?;
    let mut state = State::new(config);
    state.conflicts = checkpoint.conflicts;
    for mark in checkpoint.marks {
        let run = Uuid::from_slice(&mark.run).map_err(|_| BodyError::Missing("run"))?;
        state.marks.insert(RunId(run), mark.position.into());
    }
    for total in checkpoint.totals {
        let (key, total) = total_from_wire(total)?;
        state.totals.insert(key, total);
    }
    for used in checkpoint.used_keys {
        let (used, content) = used_key_from_wire(used)?;
        state.used_keys.remember(used, content);
    }
    state.used_keys.forgotten += checkpoint.keys_forgotten;
    Ok(state)
}

fn total_to_wire((key, total): (&CellKey, &Total)) -> wire::Total {
    wire::Total {
        key: Some(key_to_wire(key)),
        aggregation: aggregation_to_wire(total.aggregation).into(),
        events: total.events,
        amount_sum: total.amount_sum,
        amount_max: total.amount_max,
        last_amount: total.last.1,
        last_seconds: total.last.0.as_second(),
        last_nanos: total.last.0.subsec_nanosecond(),
        distinct: total.distinct.as_ref().map_or(vec![], DistinctCount::to_bytes),
        changed_at_seconds: total.changed_at.as_second(),
    }
}

fn total_from_wire(total: wire::Total) -> Result<(CellKey, Total), BodyError> {
    let aggregation = aggregation_from_wire(total.aggregation())?;
    let distinct = (!total.distinct.is_empty()).then(|| DistinctCount::from_bytes(&total.distinct));
    let read = Total {
        aggregation,
        events: total.events,
        amount_sum: total.amount_sum,
        amount_max: total.amount_max,
        last: (time_from_wire(total.last_seconds, total.last_nanos)?, total.last_amount),
        distinct: distinct.transpose()?,
        changed_at: second_from_wire(total.changed_at_seconds)?,
    };
    Ok((key_from_wire(total.key)?, read))
}

fn used_key_to_wire((used, content): (&Use, &Content)) -> wire::UsedKey {
    let key = wire::UsedKey {
        tenant: used.tenant.as_str().to_owned(),
        idempotency_key: used.key.as_str().to_owned(),
        used_at_seconds: used.at.as_second(),
        ..wire::UsedKey::default()
    };
    match content {
        Content::Event { meter, subject, amount } => wire::UsedKey {
            meter: meter.as_str().to_owned(),
            subject: subject.as_ref().map(|subject| subject.as_str().to_owned()),
            amount: *amount,
            ..key
        },
        Content::Operation(operation) => {
            wire::UsedKey { operation: Some(operation.clone()), ..key }
        }
    }
}

fn used_key_from_wire(used: wire::UsedKey) -> Result<(Use, Content), BodyError> {
    let content = match used.operation {
        Some(operation) => Content::Operation(operation),
        None => Content::Event {
            meter: used.meter.parse()?,
            subject: used.subject.map(|subject| subject.parse()).transpose()?,
            amount: used.amount,
        },
    };
    let used = Use {
        at: second_from_wire(used.used_at_seconds)?,
        tenant: used.tenant.parse()?,
        key: used.idempotency_key.parse()?,
    };
    Ok((used, content))
}

fn second_from_wire(seconds: i64) -> Result<Timestamp, BodyError> {
    time_from_wire(seconds, 0)
}
