//! The idempotency keys that were used, and for what.
//!
//! There are a million of them, of which each event brings one and pushes one out, so each lies
//! where it came, behind the one before, in the form in which a checkpoint has it: written once,
//! compared byte by byte, and copied as it lies. A table of numbers finds them by their hashes.

use std::collections::VecDeque;

use ahash::RandomState;
use hashbrown::HashTable;
use jiff::{SignedDuration, Timestamp};
use prost::Message;

use crate::{
    domain::usage::{UsageEvent, operation_content},
    proto::{fields::Fields, journal as wire},
};

/// Keys that are kept, and forgotten, in one piece of memory.
const BLOCK_KEYS: usize = 1_024;
/// The field of a checkpoint that has used keys.
const CHECKPOINT_TAG: u32 = 3;

/// What a key was used for: a repeat has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    Event {
        meter: &'a str,
        subject: Option<&'a str>,
        amount: i64,
    },
    /// As [`operation_content`] says it.
    Operation(&'a str),
}

/// What the key of an event, or of an operation, says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has no key, or the key was not used before: it counts.
    First,
    /// The key was used for the same content.
    Duplicate,
    /// The key was used for another content: this.
    Conflict(String),
}

/// A use of a key.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    pub at: Timestamp,
    pub tenant: &'a str,
    pub key: &'a str,
    pub content: Content<'a>,
}

/// The used keys of all tenants, bounded in number and time. About 150 bytes each.
#[derive(Debug)]
pub struct UsedKeys {
    /// The lowest bits of the numbers of the keys, by the hashes of tenant and key.
    numbers: HashTable<u32>,
    hasher: RandomState,
    /// The keys in the order of their times. Each block but the last has [`BLOCK_KEYS`].
    blocks: VecDeque<Block>,
    /// The last one of which nothing was kept any more: the next one.
    spare: Option<Block>,
    /// The number of the first key of the first block. A key's number is how many came before it.
    first: u64,
    /// The number of the oldest key that is known; it is in the first block.
    oldest: u64,
    /// The number that the next key gets.
    next: u64,
    keys_max: u64,
    retention: SignedDuration,
    /// Keys that were forgotten before their time, for lack of room.
    pub forgotten: u64,
}

/// Keys one behind the other.
#[derive(Debug, Default)]
struct Block {
    entries: Vec<Entry>,
    /// The fields of a checkpoint that are the keys.
    bytes: Vec<u8>,
}

/// Where a key lies in its block. What is compared lies together in the message's body: tenant and
/// key, then the content.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    at: Timestamp,
    /// Where the field ends, and its body with it.
    end: usize,
    body_bytes: u32,
    key_bytes: u32,
    content_bytes: u32,
}

impl Block {
    /// Writes a use behind the others, which may be taken back.
    fn write(&mut self, used: &Use<'_>, hasher: &RandomState) -> Entry {
        let (mut key_bytes, mut content_bytes, mut body_bytes) = (0, 0, 0);
        Fields(&mut self.bytes).message(CHECKPOINT_TAG, |fields| {
            let start = fields.0.len();
            fields.text(1, used.tenant);
            fields.text(2, used.key);
            key_bytes = fields.0.len() - start;
            match used.content {
                Content::Event { meter, subject, amount } => {
                    fields.text(3, meter);
                    if let Some(subject) = subject {
                        fields.text(4, subject);
                    }
                    fields.sint(5, amount);
                }
                Content::Operation(operation) => fields.text(7, operation),
            }
            content_bytes = fields.0.len() - start - key_bytes;
            fields.sint(6, used.at.as_second());
            body_bytes = fields.0.len() - start;
        });
        let end = self.bytes.len();
        let key = &self.bytes[end - body_bytes..][..key_bytes];
        Entry {
            hash: hasher.hash_one(key),
            at: used.at,
            end,
            // A record of the journal, of which it is a part, is far smaller than 4 GiB.
            body_bytes: body_bytes as u32,
            key_bytes: key_bytes as u32,
            content_bytes: content_bytes as u32,
        }
    }

    /// Where the field of the entry with this index begins.
    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.entries[before].end)
    }

    fn body(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.end - entry.body_bytes as usize..entry.end]
    }

    /// Tenant and key.
    fn key(&self, entry: &Entry) -> &[u8] {
        &self.body(entry)[..entry.key_bytes as usize]
    }

    fn content(&self, entry: &Entry) -> &[u8] {
        &self.body(entry)[entry.key_bytes as usize..][..entry.content_bytes as usize]
    }

    /// What a key was used for, for people.
    fn told(&self, entry: &Entry) -> String {
        // It is what was written here, and can be read.
        let used = wire::UsedKey::decode(self.body(entry)).unwrap_or_default();
        match (used.operation, used.subject) {
            (Some(operation), _) => operation,
            (None, None) => format!("{} of {}", used.amount, used.meter),
            (None, Some(subject)) => format!("{} of {} for {subject:?}", used.amount, used.meter),
        }
    }
}

impl UsedKeys {
    /// No keys yet, of `keys_max` that are kept for `retention`.
    pub fn new(keys_max: usize, retention: SignedDuration) -> Self {
        Self {
            numbers: HashTable::new(),
            hasher: RandomState::new(),
            blocks: VecDeque::new(),
            spare: None,
            first: 0,
            oldest: 0,
            next: 0,
            // Numbers are told apart by their lowest 32 bits.
            keys_max: keys_max.min(u32::MAX as usize) as u64,
            retention,
            forgotten: 0,
        }
    }

    /// Tells the fate of an event, or of an operation's parts together, and remembers the key of a
    /// first one.
    pub fn claim(&mut self, used: &[UsageEvent], now: Timestamp) -> Fate {
        let [first, ..] = used else { return Fate::First };
        let Some(key) = &first.idempotency_key else { return Fate::First };
        let operation = operation_content(used);
        let content = match &operation {
            Some(operation) => Content::Operation(operation),
            None => Content::Event {
                meter: first.key.meter.as_str(),
                subject: first.key.subject.as_ref().map(|subject| subject.as_str()),
                amount: first.amount,
            },
        };
        let (tenant, key) = (first.key.tenant.as_str(), key.as_str());
        self.remember(&Use { at: now, tenant, key, content })
    }

    /// Adds a use if its key is not known yet, and forgets the oldest if there are too many.
    pub fn remember(&mut self, used: &Use<'_>) -> Fate {
        if self.blocks.back().is_none_or(|last| last.entries.len() == BLOCK_KEYS) {
            let block = self.spare.take().unwrap_or_else(|| self.new_block());
            self.blocks.push_back(block);
        }
        let Some(last) = self.blocks.back_mut() else { return Fate::First };
        let start = last.bytes.len();
        let new = last.write(used, &self.hasher);
        let (blocks, first) = (&self.blocks, self.first as u32);
        // A block of which nothing is kept any more is gone, so no number comes before `first`.
        let at = |number: u32| {
            let place = number.wrapping_sub(first) as usize;
            let block = &blocks[place / BLOCK_KEYS];
            (block, &block.entries[place % BLOCK_KEYS])
        };
        let last = &blocks[blocks.len() - 1];
        let is_same = |number: &u32| {
            let (block, entry) = at(*number);
            entry.hash == new.hash && block.key(entry) == last.key(&new)
        };
        let fate = match self.numbers.find(new.hash, is_same).map(|number| at(*number)) {
            None => Fate::First,
            Some((block, known)) if block.content(known) == last.content(&new) => Fate::Duplicate,
            Some((block, known)) => Fate::Conflict(block.told(known)),
        };
        if fate == Fate::First {
            let rehash = |number: &u32| at(*number).1.hash;
            self.numbers.insert_unique(new.hash, self.next as u32, rehash);
        }
        let Some(last) = self.blocks.back_mut() else { return fate };
        match fate {
            Fate::First => last.entries.push(new),
            Fate::Duplicate | Fate::Conflict(_) => {
                last.bytes.truncate(start);
                return fate;
            }
        }
        self.next += 1;
        while self.next - self.oldest > self.keys_max {
            self.forget_oldest();
            self.forgotten += 1;
        }
        fate
    }

    /// A block as large as the last one has become.
    fn new_block(&self) -> Block {
        let bytes = self.blocks.back().map_or(0, |last| last.bytes.len());
        Block {
            entries: Vec::with_capacity(BLOCK_KEYS.min(self.keys_max as usize)),
            bytes: Vec::with_capacity(bytes + bytes / 16),
        }
    }

    /// Forgets what was used longer ago than the retention.
    pub fn purge(&mut self, now: Timestamp) {
        while self.oldest().is_some_and(|oldest| now.duration_since(oldest.at) > self.retention) {
            self.forget_oldest();
        }
        if self.numbers.len() <= self.numbers.capacity() / 8 {
            let (blocks, first) = (&self.blocks, self.first as u32);
            self.numbers.shrink_to(2 * self.numbers.len(), |number| {
                let place = number.wrapping_sub(first) as usize;
                blocks[place / BLOCK_KEYS].entries[place % BLOCK_KEYS].hash
            });
        }
    }

    fn oldest(&self) -> Option<&Entry> {
        self.blocks.front()?.entries.get((self.oldest - self.first) as usize)
    }

    fn forget_oldest(&mut self) {
        let Some(hash) = self.oldest().map(|oldest| oldest.hash) else { return };
        let number = self.oldest as u32;
        if let Ok(known) = self.numbers.find_entry(hash, |known| *known == number) {
            known.remove();
        }
        self.oldest += 1;
        if self.oldest - self.first == BLOCK_KEYS as u64 {
            self.first = self.oldest;
            self.spare = self.blocks.pop_front().map(|mut block| {
                block.entries.clear();
                block.bytes.clear();
                block
            });
        }
    }

    /// Number of keys that are known.
    pub fn len(&self) -> usize {
        (self.next - self.oldest) as usize
    }

    /// What [`UsedKeys::write`] writes.
    pub fn written_bytes(&self) -> usize {
        self.written().map(<[u8]>::len).sum()
    }

    /// Appends all uses as fields of a checkpoint, oldest first.
    pub fn write(&self, checkpoint: &mut Vec<u8>) {
        self.written().for_each(|bytes| checkpoint.extend_from_slice(bytes));
    }

    fn written(&self) -> impl Iterator<Item = &[u8]> {
        let forgotten = (self.oldest - self.first) as usize;
        self.blocks.iter().enumerate().map(move |(index, block)| match index {
            0 => &block.bytes[block.start(forgotten)..],
            _ => &block.bytes[..],
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// The same, the way one would think of it.
    #[derive(Default)]
    struct Model {
        uses: VecDeque<(i64, (String, String), String)>,
        forgotten: u64,
    }

    impl Model {
        fn remember(&mut self, used: (i64, (String, String), String), keys_max: usize) -> Fate {
            let known: HashMap<_, _> = self.uses.iter().map(|(_, key, it)| (key, it)).collect();
            match known.get(&used.1) {
                Some(content) if **content == used.2 => return Fate::Duplicate,
                Some(content) => return Fate::Conflict(content.to_string()),
                None => self.uses.push_back(used),
            }
            while self.uses.len() > keys_max {
                self.uses.pop_front();
                self.forgotten += 1;
            }
            Fate::First
        }
    }

    /// What is written, read as a checkpoint.
    fn read(keys: &UsedKeys) -> Vec<(i64, (String, String), String)> {
        let mut bytes = vec![];
        keys.write(&mut bytes);
        assert_eq!(bytes.len(), keys.written_bytes());
        let uses = wire::Checkpoint::decode(bytes.as_slice()).unwrap().used_keys.into_iter();
        uses.map(|it| {
            let content = it.operation.unwrap_or_else(|| match it.subject {
                None => format!("{} of {}", it.amount, it.meter),
                Some(subject) => format!("{} of {} for {subject:?}", it.amount, it.meter),
            });
            (it.used_at_seconds, (it.tenant, it.idempotency_key), content)
        })
        .collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Use { tenant: usize, key: u32, content: usize },
        Pass { seconds: i64 },
        Purge,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            40 => (0..2_usize, 0..40_u32, 0..8_usize)
                .prop_map(|(tenant, key, content)| Step::Use { tenant, key, content }),
            2 => (0..30_i64).prop_map(|seconds| Step::Pass { seconds }),
            1 => Just(Step::Purge),
        ]
    }

    proptest! {
        #[test]
        fn it_knows_what_a_list_of_uses_knows(
            steps in prop::collection::vec(step(), 0..200), keys_max in 1..30_usize,
        ) {
            let long = "x".repeat(200);
            let mut keys = UsedKeys::new(keys_max, SignedDuration::from_secs(60));
            // The lowest bits of the numbers begin anew on the way.
            let begin = u64::from(u32::MAX) - 50;
            (keys.first, keys.oldest, keys.next) = (begin, begin, begin);
            let mut model = Model::default();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Use { tenant, key, content } => {
                        let (tenant, key) = (["acme", &long][tenant], format!("key-{key}"));
                        let amounts = [0, 1, 1, 1, -1];
                        let (written, content) = match amounts.get(content) {
                            Some(amount) => {
                                let subject = [None, Some("ann")][content % 2];
                                let of = format!("{amount} of calls");
                                let written = subject.map_or(of.clone(), |subject| {
                                    format!("{of} for {subject:?}")
                                });
                                let meter = "calls";
                                (written, Content::Event { meter, subject, amount: *amount })
                            }
                            None => ("ask, 1 of calls".to_owned(), Content::Operation("ask, 1 of calls")),
                        };
                        let at = Timestamp::from_second(now).unwrap();
                        let used = (now, (tenant.to_owned(), key.clone()), written);
                        let fate = keys.remember(&Use { at, tenant, key: &key, content });
                        prop_assert_eq!(fate, model.remember(used, keys_max));
                    }
                    Step::Pass { seconds } => now += seconds,
                    Step::Purge => {
                        keys.purge(Timestamp::from_second(now).unwrap());
                        model.uses.retain(|(at, ..)| now - at <= 60);
                    }
                }
                prop_assert_eq!((keys.len(), keys.forgotten), (model.uses.len(), model.forgotten));
            }
            prop_assert_eq!(read(&keys), Vec::from(model.uses));
        }
    }

    #[test]
    fn blocks_whose_keys_are_all_forgotten_are_let_go() {
        let keys_max = 2 * BLOCK_KEYS + 5;
        let mut keys = UsedKeys::new(keys_max, SignedDuration::from_secs(60));
        let at = Timestamp::UNIX_EPOCH;
        let content = Content::Event { meter: "calls", subject: None, amount: 1 };
        for number in 0..10 * BLOCK_KEYS {
            let key = format!("key-{number}");
            let used = Use { at, tenant: "acme", key: &key, content };
            assert_eq!(keys.remember(&used), Fate::First);
            assert_eq!(keys.remember(&used), Fate::Duplicate);
        }
        assert_eq!((keys.len(), keys.numbers.len()), (keys_max, keys_max));
        assert!(keys.blocks.len() <= keys_max.div_ceil(BLOCK_KEYS) + 1);
        keys.purge(Timestamp::from_second(61).unwrap());
        assert_eq!((keys.len(), keys.numbers.len(), read(&keys).len()), (0, 0, 0));
        assert!(keys.numbers.capacity() < 100 && keys.blocks.len() <= 1);
    }
}
