//! What a key stands for, and what was answered to it.

use std::{fmt, sync::Arc};

use crate::domain::{
    catalog::names::OperationName,
    ids::{IdempotencyKey, MeterName, Subject, TenantId},
    operation::OperationAnswer,
    quota::QuotaAnswer,
};

/// What one key stands for. A repeat with another content is a conflict, never a repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Units {
        meter: MeterName,
        subject: Option<Subject>,
        amount: i64,
    },
    /// An operation as a whole, with what it takes of each meter.
    Operation {
        operation: OperationName,
        subject: Option<Subject>,
        amounts: Vec<(MeterName, i64)>,
    },
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match self {
            Self::Units { meter, subject, amount } => {
                write!(f, "{amount} of {meter}")?;
                subject
            }
            Self::Operation { operation, subject, amounts } => {
                write!(f, "the operation {operation}")?;
                for (meter, amount) in amounts {
                    write!(f, ", {amount} of {meter}")?;
                }
                subject
            }
        };
        subject.as_ref().map_or(Ok(()), |subject| write!(f, ", subject {subject}"))
    }
}

/// An answer that can be given again.
#[derive(Clone, Debug)]
pub enum Remembered {
    /// To a CONSUME or RESERVE.
    Quota(QuotaAnswer),
    /// To a CONSUME or RESERVE of an operation.
    Operation(Arc<OperationAnswer>),
}

/// What was answered first.
#[derive(Clone, Debug)]
pub struct FirstAnswer<P> {
    /// `None` when the usage was recorded.
    pub answer: Option<Remembered>,
    /// Where the journal holds it: a repeat is acknowledged no earlier than the first was. `None`
    /// when nothing was journalled.
    pub place: Option<P>,
}

/// What a key was sent with. Usage that settles a reservation is often sent with the key that the
/// reservation was asked for with: holding units and using them are two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// CONSUME, and recorded usage: one of them is the repeat of the other.
    Use,
    Reserve,
}

/// A content that somebody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentRef<'a> {
    Units {
        meter: &'a MeterName,
        subject: Option<&'a Subject>,
        amount: i64,
    },
    Operation {
        operation: &'a OperationName,
        subject: Option<&'a Subject>,
        amounts: &'a [(MeterName, i64)],
    },
}

impl Content {
    /// The same, lent.
    pub fn lent(&self) -> ContentRef<'_> {
        match self {
            Self::Units { meter, subject, amount } => {
                ContentRef::Units { meter, subject: subject.as_ref(), amount: *amount }
            }
            Self::Operation { operation, subject, amounts } => {
                ContentRef::Operation { operation, subject: subject.as_ref(), amounts }
            }
        }
    }
}

impl ContentRef<'_> {
    /// The same, to keep.
    pub fn kept(&self) -> Content {
        match *self {
            Self::Units { meter, subject, amount } => {
                Content::Units { meter: meter.clone(), subject: subject.cloned(), amount }
            }
            Self::Operation { operation, subject, amounts } => Content::Operation {
                operation: operation.clone(),
                subject: subject.cloned(),
                amounts: amounts.to_vec(),
            },
        }
    }
}

/// What tells a key from others.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    pub tenant: &'a TenantId,
    pub verb: Verb,
    pub key: &'a IdempotencyKey,
}

/// A key, and what it comes with.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub name: Name<'a>,
    pub content: ContentRef<'a>,
}
