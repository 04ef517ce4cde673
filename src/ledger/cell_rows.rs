//! Counters as columns: how a [`CellKey`] goes into arrays for UNNEST and comes out of rows.

use std::fmt::Display;

use super::error::LedgerError;
use crate::domain::{
    cell_key::CellKey,
    ids::{MeterName, Subject, TenantId},
};

/// Stands for "the whole tenant" in the columns named subject; an id is never empty.
pub(super) const NO_SUBJECT: &str = "";

pub(super) fn subject_column(subject: Option<&Subject>) -> &str {
    subject.map_or(NO_SUBJECT, Subject::as_str)
}

/// One array per column of a counter's key.
#[derive(Debug, Default)]
pub(super) struct CellColumns {
    pub(super) tenants: Vec<String>,
    pub(super) meters: Vec<String>,
    pub(super) labels: Vec<String>,
    pub(super) subjects: Vec<String>,
}

impl CellColumns {
    pub(super) fn push(&mut self, key: &CellKey) {
        self.tenants.push(key.tenant.as_str().to_owned());
        self.meters.push(key.meter.as_str().to_owned());
        self.labels.push(key.label.to_string());
        self.subjects.push(subject_column(key.subject.as_ref()).to_owned());
    }
}

impl<'a> FromIterator<&'a CellKey> for CellColumns {
    fn from_iter<I: IntoIterator<Item = &'a CellKey>>(keys: I) -> Self {
        let mut columns = Self::default();
        for key in keys {
            columns.push(key);
        }
        columns
    }
}

/// A counter's key as a row has it.
#[derive(Debug)]
pub(super) struct CellRow {
    pub(super) table: &'static str,
    pub(super) tenant: String,
    pub(super) meter: String,
    pub(super) label: String,
    pub(super) subject: String,
}

impl CellRow {
    pub(super) fn into_key(self) -> Result<CellKey, LedgerError> {
        let Self { table, tenant, meter, label, subject } = self;
        let row = format!("{tenant}/{meter}[{subject}]@{label}");
        Ok(CellKey {
            tenant: read_column(table, "tenant", &row, &tenant, TenantId::stored(&tenant))?,
            meter: read_column(table, "meter", &row, &meter, MeterName::new(&meter))?,
            subject: match subject.as_str() {
                NO_SUBJECT => None,
                text => Some(read_column(table, "subject", &row, text, Subject::new(text))?),
            },
            label: read_column(table, "label", &row, &label, label.parse())?,
        })
    }
}

/// Turns a column's text that cannot be read into an error that names its place.
pub(super) fn read_column<T, E: Display>(
    table: &'static str,
    column: &'static str,
    key: impl Display,
    value: impl Display,
    read: Result<T, E>,
) -> Result<T, LedgerError> {
    read.map_err(|problem| LedgerError::Corrupt {
        table,
        column,
        key: key.to_string(),
        value: value.to_string(),
        problem: problem.to_string(),
    })
}

/// Reads a bigint that a CHECK of the schema keeps at 0 or more.
pub(super) fn read_unsigned(
    table: &'static str,
    column: &'static str,
    key: impl Display,
    value: i64,
) -> Result<u64, LedgerError> {
    read_column(table, column, key, value, u64::try_from(value))
}
