//! Recorded usage, read from the CSV files that `tests/data/README.md` describes.

use std::path::Path;

use anyhow::{Context, bail};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::Deserialize;

/// Which recording a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TraceKind {
    /// Calls to a language model: RESERVE an estimate, then record the actual tokens.
    Llm,
    /// A web site's access log: each client a tenant, with requests and bytes sent.
    Web,
}

/// One recorded call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Line number in the file, counted from 1 behind the header: what keys are made of.
    pub line: usize,
    pub at: Timestamp,
    pub what: What,
}

/// What the call was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A completion, in tokens.
    Completion { context: i64, generated: i64 },
    /// A request, with the client's pseudonym and the bytes sent.
    Request { client: String, bytes: i64 },
}

#[derive(Deserialize)]
struct LlmRow {
    #[serde(rename = "TIMESTAMP")]
    at: DateTime,
    #[serde(rename = "ContextTokens")]
    context: i64,
    #[serde(rename = "GeneratedTokens")]
    generated: i64,
}

#[derive(Deserialize)]
struct WebRow {
    time: Timestamp,
    client: String,
    bytes: i64,
}

/// Reads a whole recording, at most `calls_max` calls of it.
pub fn read(kind: TraceKind, path: &Path, calls_max: usize) -> anyhow::Result<Vec<Call>> {
    let mut reader = csv::Reader::from_path(path)
        .with_context(|| format!("cannot read the recording {}", path.display()))?;
    let calls: anyhow::Result<Vec<Call>> = match kind {
        TraceKind::Llm => reader.deserialize().zip(1..).map(llm_call).take(calls_max).collect(),
        TraceKind::Web => reader.deserialize().zip(1..).map(web_call).take(calls_max).collect(),
    };
    let calls = calls.with_context(|| format!("{} is not such a recording", path.display()))?;
    if calls.is_empty() {
        bail!("{} holds no calls", path.display());
    }
    Ok(calls)
}

type Row<T> = (Result<T, csv::Error>, usize);

fn llm_call((row, line): Row<LlmRow>) -> anyhow::Result<Call> {
    let LlmRow { at, context, generated } = row?;
    let at = at.to_zoned(TimeZone::UTC)?.timestamp();
    Ok(Call { line, at, what: What::Completion { context, generated } })
}

fn web_call((row, line): Row<WebRow>) -> anyhow::Result<Call> {
    let WebRow { time, client, bytes } = row?;
    Ok(Call { line, at: time, what: What::Request { client, bytes } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
    }

    #[test]
    fn the_recorded_tokens_come_to_their_documented_total() {
        let calls = read(TraceKind::Llm, &data("llm-code-trace.csv"), usize::MAX).unwrap();
        let tokens: i64 = calls
            .iter()
            .map(|call| match call.what {
                What::Completion { context, generated } => context + generated,
                What::Request { .. } => panic!("a request in the model's trace"),
            })
            .sum();
        assert_eq!((calls.len(), tokens), (8_819, 18_059_974 + 245_896));
    }

    #[test]
    fn the_recorded_requests_come_to_their_documented_total() {
        let calls = read(TraceKind::Web, &data("web-access.csv"), usize::MAX).unwrap();
        let total: i64 = calls
            .iter()
            .map(|call| match call.what {
                What::Request { bytes, .. } => bytes,
                What::Completion { .. } => panic!("a completion in the access log"),
            })
            .sum();
        assert_eq!((calls.len(), total), (10_000, 2_747_282_740));
    }
}
