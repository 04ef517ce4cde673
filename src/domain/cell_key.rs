//! What one counter counts.

use std::fmt;

use super::{
    ids::{MeterName, Subject, TenantId},
    invalid::Invalid,
    window::WindowLabel,
};

/// One counter: a tenant's meter, for one subject if the limit holds per subject, in one window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    pub tenant: TenantId,
    pub meter: MeterName,
    pub subject: Option<Subject>,
    pub label: WindowLabel,
}

/// As a [`CellKey`], of names that are kept elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyParts<'k> {
    pub tenant: &'k str,
    pub meter: &'k str,
    pub subject: Option<&'k str>,
    pub label: WindowLabel,
}

impl KeyParts<'_> {
    /// A key with names of its own.
    pub fn to_key(self) -> Result<CellKey, Invalid> {
        Ok(CellKey {
            tenant: TenantId::stored(self.tenant)?,
            meter: self.meter.parse()?,
            subject: self.subject.map(str::parse).transpose()?,
            label: self.label,
        })
    }
}

impl CellKey {
    /// Its parts.
    pub fn parts(&self) -> KeyParts<'_> {
        KeyParts {
            tenant: self.tenant.as_str(),
            meter: self.meter.as_str(),
            subject: self.subject.as_ref().map(Subject::as_str),
            label: self.label,
        }
    }

    /// Whether it counts what it covers of other counters' usage: it is of a grant, or of a pool.
    pub fn is_covering(&self) -> bool {
        self.label.is_of_grant() || self.tenant.pool().is_some()
    }
}

impl fmt::Display for CellKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.meter)?;
        if let Some(subject) = &self.subject {
            write!(f, "[{subject}]")?;
        }
        write!(f, "@{}", self.label)
    }
}
