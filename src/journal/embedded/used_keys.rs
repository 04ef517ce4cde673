//! The idempotency keys that were used, and for what.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::domain::{
    ids::{IdempotencyKey, MeterName, Subject, TenantId},
    usage::{UsageEvent, operation_content},
};

/// What a key was used for: a repeat has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Event {
        meter: MeterName,
        subject: Option<Subject>,
        amount: i64,
    },
    /// As [`operation_content`] says it.
    Operation(String),
}

impl Content {
    /// Of an event alone, or with the other parts of its operation.
    fn of(event: &UsageEvent, parts: &[UsageEvent]) -> Self {
        if let Some(operation) = operation_content(parts) {
            return Self::Operation(operation);
        }
        let (meter, subject) = (event.key.meter.clone(), event.key.subject.clone());
        Self::Event { meter, subject, amount: event.amount }
    }
}

/// What the key of an event, or of an operation, says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has no key, or the key was not used before: it counts.
    First,
    /// The key was used for the same content.
    Duplicate,
    /// The key was used for another content.
    Conflict(Content),
}

/// A use of a key, in the order of their times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub at: Timestamp,
    pub tenant: TenantId,
    pub key: IdempotencyKey,
}

/// The used keys of all tenants, bounded in number and time. About 250 bytes each.
#[derive(Debug)]
pub struct UsedKeys {
    contents: HashMap<TenantId, HashMap<IdempotencyKey, Content, ahash::RandomState>>,
    uses: VecDeque<Use>,
    keys_max: usize,
    retention: SignedDuration,
    /// Keys that were forgotten before their time, for lack of room.
    pub forgotten: u64,
}

impl UsedKeys {
    /// No keys yet, of `keys_max` that are kept for `retention`.
    pub fn new(keys_max: usize, retention: SignedDuration) -> Self {
        Self { contents: HashMap::new(), uses: VecDeque::new(), keys_max, retention, forgotten: 0 }
    }

    /// Tells the fate of an event, or of an operation's parts together, and remembers the key of a
    /// first one.
    pub fn claim(&mut self, used: &[UsageEvent], now: Timestamp) -> Fate {
        let [first, ..] = used else { return Fate::First };
        let Some(key) = &first.idempotency_key else { return Fate::First };
        let (tenant, content) = (&first.key.tenant, Content::of(first, used));
        match self.contents.get(tenant).and_then(|keys| keys.get(key)) {
            Some(used) if *used == content => Fate::Duplicate,
            Some(used) => Fate::Conflict(used.clone()),
            None => {
                let used = Use { at: now, tenant: tenant.clone(), key: key.clone() };
                self.remember(used, content);
                Fate::First
            }
        }
    }

    /// Adds a use that is not known yet, and forgets the oldest if there are too many.
    pub fn remember(&mut self, used: Use, content: Content) {
        let keys = self.contents.entry(used.tenant.clone()).or_default();
        keys.insert(used.key.clone(), content);
        self.uses.push_back(used);
        while self.uses.len() > self.keys_max {
            self.forget_oldest();
            self.forgotten += 1;
        }
    }

    /// Forgets what was used longer ago than the retention.
    pub fn purge(&mut self, now: Timestamp) {
        while self.uses.front().is_some_and(|oldest| now.duration_since(oldest.at) > self.retention)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.uses.pop_front() else { return };
        if let Some(keys) = self.contents.get_mut(&oldest.tenant) {
            keys.remove(&oldest.key);
            if keys.is_empty() {
                self.contents.remove(&oldest.tenant);
            }
        }
    }

    /// Number of keys that are known.
    pub fn len(&self) -> usize {
        self.uses.len()
    }

    /// All uses with their contents, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Use, &Content)> {
        self.uses.iter().filter_map(|used| {
            let content = self.contents.get(&used.tenant)?.get(&used.key)?;
            Some((used, content))
        })
    }
}
