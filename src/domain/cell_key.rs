//! What one counter counts.

use std::fmt;

use super::{
    ids::{MeterName, Subject, TenantId},
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

impl CellKey {
    /// Whether it counts what it covers of other counters' usage: it is of a grant, or of a pool.
    pub fn is_covering(&self) -> bool {
        self.label.is_of_grant() || self.tenant.pool().is_some()
    }

    /// The same key with a name of the meter that it shares with its clones alone. The plan's name
    /// is everybody's: who counts its holders, by cloning it, has all cores write to one place.
    pub fn apart(&self) -> Self {
        Self { meter: self.meter.apart(), ..self.clone() }
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
