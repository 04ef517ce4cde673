//! Numbers for names that come again and again.

use ahash::RandomState;
use hashbrown::HashTable;

/// Names that get a number. Those of meters are in catalogs, which rarely have so many.
const NAMES_MAX: usize = 1 << 12;

/// There are no more than [`NAMES_MAX`].
const NUMBERED: &str = "a name's number has 16 bits";

/// Names, each with its place as its number. One that has a number keeps it.
#[derive(Debug)]
pub(super) struct Names {
    names: Vec<Box<str>>,
    numbers: HashTable<u16>,
    hasher: RandomState,
    names_max: usize,
}

/// How a name is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Number(u16),
    /// As it is: it came when there were as many as get a number.
    Text,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            names: vec![],
            numbers: HashTable::new(),
            hasher: RandomState::new(),
            names_max: NAMES_MAX,
        }
    }
}

impl Names {
    /// How `name` is written, if anything can have been written by it.
    pub fn known(&self, name: &str) -> Option<Name> {
        let is_it = |number: &u16| *self.names[usize::from(*number)] == *name;
        match self.numbers.find(self.hasher.hash_one(name), is_it) {
            Some(number) => Some(Name::Number(*number)),
            None => (self.names.len() >= self.names_max).then_some(Name::Text),
        }
    }

    /// How `name` is written from now on.
    pub fn number(&mut self, name: &str) -> Name {
        if let Some(known) = self.known(name) {
            return known;
        }
        let Self { names, numbers, hasher, .. } = self;
        let number = u16::try_from(names.len()).expect(NUMBERED);
        names.push(name.into());
        let hash_of = |number: &u16| hasher.hash_one(&*names[usize::from(*number)]);
        numbers.insert_unique(hasher.hash_one(name), number, hash_of);
        Name::Number(number)
    }

    /// The name that has a number.
    pub fn name(&self, number: u16) -> &str {
        &self.names[usize::from(number)]
    }

    #[cfg(test)]
    pub fn of_at_most(names_max: usize) -> Self {
        Self { names_max, ..Self::default() }
    }
}
