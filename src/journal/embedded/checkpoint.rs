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
    used_keys::{Content, Use, UsedKeys},
};
use crate::{
    domain::{
        cell_key::{CellKey, KeyParts},
        distinct::DistinctCount,
        ids::{IdempotencyKey, MeterName, RunId, Subject, TenantId},
    },
    journal::{
        convert::{
            BodyError, aggregation_from_wire, aggregation_to_wire, key_from_wire, time_from_wire,
        },
        encode::write_cell_key,
    },
    proto::{fields::Fields, journal as wire},
};

const MAGIC: &[u8; 8] = b"TGCHKPT\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
/// What a counter takes, about: as much is made room for at once.
const ENTRY_BYTES: usize = 96;

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

/// The content of the file. Its fields are written as they lie: a copy of all that is known, in
/// messages, would take several times as long as the file, and as much memory again.
pub fn encode(state: &State) -> Vec<u8> {
    let entries_bytes = state.totals.len() * ENTRY_BYTES + state.used_keys.written_bytes();
    let mut content = Vec::with_capacity(2 * HEADER_BYTES + entries_bytes);
    content.resize(HEADER_BYTES, 0);
    content[..8].copy_from_slice(MAGIC);
    content[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let mut fields = Fields(&mut content);
    for (run, position) in &state.marks {
        fields.message(1, |fields| {
            fields.bytes(1, run.0.as_bytes());
            fields.uint(2, u64::from(*position));
        });
    }
    for (key, total) in state.totals.iter() {
        fields.message(2, |fields| write_total(key, &total, fields));
    }
    state.used_keys.write(fields.0);
    fields.uint(4, state.conflicts);
    fields.uint(5, state.used_keys.forgotten);
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
    for used in &checkpoint.used_keys {
        remember(used, &mut state.used_keys)?;
    }
    state.used_keys.forgotten += checkpoint.keys_forgotten;
    Ok(state)
}

fn write_total(key: KeyParts<'_>, total: &Total, fields: &mut Fields<'_>) {
    fields.message(1, |fields| write_cell_key(key, fields));
    fields.uint(2, aggregation_to_wire(total.aggregation) as u64);
    fields.uint(3, total.events);
    fields.sint(4, total.amount_sum);
    fields.sint(5, total.amount_max);
    fields.sint(6, total.last_amount);
    fields.sint(7, total.last_second);
    fields.sint(8, total.last_nanosecond.into());
    if let Some(distinct) = &total.distinct {
        fields.bytes(9, &distinct.to_bytes());
    }
    fields.sint(10, total.changed_at_second);
}

fn total_from_wire(total: wire::Total) -> Result<(CellKey, Total), BodyError> {
    let aggregation = aggregation_from_wire(total.aggregation())?;
    let distinct = (!total.distinct.is_empty()).then(|| DistinctCount::from_bytes(&total.distinct));
    let last = time_from_wire(total.last_seconds, total.last_nanos)?;
    let read = Total {
        aggregation,
        events: total.events,
        amount_sum: total.amount_sum,
        amount_max: total.amount_max,
        last_second: last.as_second(),
        last_nanosecond: last.subsec_nanosecond(),
        last_amount: total.last_amount,
        distinct: distinct.transpose()?.map(Box::new),
        changed_at_second: second_from_wire(total.changed_at_seconds)?.as_second(),
    };
    Ok((key_from_wire(total.key)?, read))
}

/// Keeps a used key as it was written, if it is one.
fn remember(used: &wire::UsedKey, used_keys: &mut UsedKeys) -> Result<(), BodyError> {
    let content = match &used.operation {
        Some(operation) => Content::Operation(operation),
        None => {
            used.meter.parse::<MeterName>()?;
            used.subject.as_ref().map(|subject| subject.parse::<Subject>()).transpose()?;
            let (meter, subject) = (used.meter.as_str(), used.subject.as_deref());
            Content::Event { meter, subject, amount: used.amount }
        }
    };
    used.tenant.parse::<TenantId>()?;
    used.idempotency_key.parse::<IdempotencyKey>()?;
    let (tenant, key) = (used.tenant.as_str(), used.idempotency_key.as_str());
    let at = second_from_wire(used.used_at_seconds)?;
    used_keys.remember(&Use { at, tenant, key, content });
    Ok(())
}

fn second_from_wire(seconds: i64) -> Result<Timestamp, BodyError> {
    time_from_wire(seconds, 0)
}
