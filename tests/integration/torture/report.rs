//! What a round came to, and all rounds together.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::truth::Tally;

/// How failed calls are named that no caller should ever see.
const INTERNAL: &str = "Internal INTERNAL";

/// One round, or several added up.
#[derive(Debug, Default)]
pub struct Report {
    pub rounds: u64,
    pub faults: BTreeMap<String, u64>,
    pub tally: Tally,
    pub failures: BTreeMap<String, u64>,
    /// Operations whose fate was unknown when all was mended.
    pub made_known: usize,
    /// Windows that the worker charged while things broke.
    pub charged: usize,
    /// The longest until all was at rest.
    pub rest_max: Duration,
    pub took: Duration,
    pub differences: Vec<String>,
    pub panics: Vec<String>,
}

impl Report {
    /// Whether all is as promised.
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.panics.is_empty()
    }

    pub fn add(&mut self, other: Self) {
        self.rounds += other.rounds;
        for (kind, times) in other.faults {
            *self.faults.entry(kind).or_default() += times;
        }
        for (failure, times) in other.failures {
            *self.failures.entry(failure).or_default() += times;
        }
        self.tally += other.tally;
        self.made_known += other.made_known;
        self.charged += other.charged;
        self.rest_max = self.rest_max.max(other.rest_max);
        self.took += other.took;
        self.differences.extend(other.differences);
        self.panics.extend(other.panics);
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.sent += other.sent;
        self.admitted += other.admitted;
        self.denied += other.denied;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.retried += other.retried;
        self.repeated += other.repeated;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, count: u64| {
            writeln!(f, "  {name:<44}{count:>10}")
        };
        writeln!(
            f,
            "rounds {}, {:.0?} in all, at rest after {:.1?} at most",
            self.rounds, self.took, self.rest_max
        )?;
        writeln!(f, "faults")?;
        for (kind, times) in &self.faults {
            row(f, kind, *times)?;
        }
        row(f, "in all", self.faults.values().sum())?;
        writeln!(f, "clients")?;
        let tally = &self.tally;
        for (name, count) in [
            ("operations", tally.operations),
            ("requests sent", tally.sent),
            ("admitted or recorded", tally.admitted),
            ("denied", tally.denied),
            ("given up, nothing of it counted", tally.refused),
            ("requests of unknown fate", tally.unknown),
            ("requests sent again", tally.retried),
            ("requests repeated though known", tally.repeated),
            ("operations unknown until all was mended", self.made_known as u64),
            ("windows charged by the worker meanwhile", self.charged as u64),
        ] {
            row(f, name, count)?;
        }
        writeln!(f, "failed calls")?;
        for (failure, times) in &self.failures {
            row(f, failure, *times)?;
        }
        writeln!(f, "found")?;
        let is_internal = |(failure, _): &(&String, &u64)| failure.as_str() == INTERNAL;
        row(f, "internal errors", self.failures.iter().filter(is_internal).map(|it| it.1).sum())?;
        row(f, "differences", self.differences.len() as u64)?;
        row(f, "panics", self.panics.len() as u64)?;
        for found in self.differences.iter().chain(&self.panics) {
            writeln!(f, "  ! {found}")?;
        }
        Ok(())
    }
}
