//! What a run did, for its history.

use std::collections::BTreeMap;

use anyhow::anyhow;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::json;

use super::charge::KIND;
use crate::{
    domain::{cell_key::CellKey, money::Money},
    jobs::{error::JobError, job::JobResult},
};

/// Most problems that are told one by one.
const PROBLEMS_LISTED_MAX: usize = 20;

/// Counts of one run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Charges of more than 0, written by this run.
    charged: u64,
    /// Windows closed with nothing owed, by this run.
    nothing_owed: u64,
    /// Charges that another run had written in the meantime.
    already_charged: u64,
    /// Windows that have ended, but may still get usage of a run that has not reported.
    not_closed: u64,
    problems: u64,
    problems_listed: Vec<String>,
    /// Written by this run, in minor units, by currency.
    owed: BTreeMap<String, i128>,
    exponents: BTreeMap<String, u32>,
}

impl Tally {
    pub(super) fn count(&mut self, offered: usize, written: &[Money]) {
        self.already_charged += offered.saturating_sub(written.len()) as u64;
        for amount in written {
            if amount.minor == 0 {
                self.nothing_owed += 1;
                continue;
            }
            self.charged += 1;
            let code = amount.currency.to_string();
            self.exponents.insert(code.clone(), amount.currency.exponent());
            *self.owed.entry(code).or_default() += i128::from(amount.minor);
        }
    }

    pub(super) fn not_closed(&mut self) {
        self.not_closed += 1;
    }

    /// Takes down a window that cannot be charged; the others are charged all the same.
    pub(super) fn problem(&mut self, key: &CellKey, problem: impl std::fmt::Display) {
        tracing::error!(%key, %problem, "a window cannot be charged");
        self.problems += 1;
        if self.problems_listed.len() < PROBLEMS_LISTED_MAX {
            self.problems_listed.push(format!("{key}: {problem}"));
        }
    }

    /// A summary, or the error of a run that had to leave something out.
    pub(super) fn into_result(self, now: Timestamp) -> JobResult {
        metrics::counter!("tollgate_charges_total", "kind" => KIND).increment(self.charged);
        let owed: BTreeMap<_, _> = self
            .owed
            .iter()
            .map(|(code, minor)| {
                let scale = self.exponents.get(code).copied().unwrap_or(0);
                let major = Decimal::try_from_i128_with_scale(*minor, scale);
                (code, major.map_or_else(|_| minor.to_string(), |major| major.to_string()))
            })
            .collect();
        let summary = json!({
            "now": now,
            "charged": self.charged,
            "owed": owed,
            "nothing_owed": self.nothing_owed,
            "already_charged": self.already_charged,
            "not_closed": self.not_closed,
        });
        if self.problems == 0 {
            return Ok(summary);
        }
        Err(JobError::Fail(anyhow!(
            "{} windows could not be charged (the others were: {summary}): {}",
            self.problems,
            self.problems_listed.join("; ")
        )))
    }
}
