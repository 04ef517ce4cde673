//! The runs that wait for units of one key.

use serde::{Deserialize, Serialize};

use crate::domain::ids::RunId;

/// Most wants that queue for one key. A run beyond it waits unqueued and asks again.
pub const WANTS_MAX: usize = 256;

/// What one run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Want {
    pub run: RunId,
    pub id: u64,
    pub ticket: u64,
}

/// The wants of a key, and the tickets that it has given. For most keys nobody has ever waited, and of
/// these nothing is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queue(Option<Box<Waiting>>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    /// Grows with each want and each lowering of the ceiling.
    tickets: u64,
    /// Oldest first.
    wants: Vec<Want>,
}

impl Queue {
    /// The latest ticket that was given; 0 = none was.
    pub fn tickets(&self) -> u64 {
        self.0.as_ref().map_or(0, |waiting| waiting.tickets)
    }

    /// Gives the next ticket.
    pub fn draw(&mut self) -> u64 {
        let tickets = &mut self.0.get_or_insert_default().tickets;
        *tickets += 1;
        *tickets
    }

    /// All that wait, oldest first.
    pub fn wants(&self) -> &[Want] {
        self.0.as_ref().map_or(&[], |waiting| &waiting.wants)
    }

    /// The want that has waited longest.
    pub fn first(&self) -> Option<&Want> {
        self.wants().first()
    }

    /// Where the want of `run` stands.
    pub fn place(&self, run: RunId) -> Option<usize> {
        self.wants().iter().position(|want| want.run == run)
    }

    /// Puts a want at the end, with a ticket of its own.
    pub fn push(&mut self, run: RunId, id: u64) {
        let ticket = self.draw();
        self.0.get_or_insert_default().wants.push(Want { run, id, ticket });
    }

    /// Takes out all wants but those that `keep` says.
    pub fn retain(&mut self, keep: impl FnMut(&Want) -> bool) {
        if let Some(waiting) = &mut self.0 {
            waiting.wants.retain(keep);
        }
    }

    /// Takes out the want that has waited longest, if it is one that `is_it` says.
    pub fn remove_first_if(&mut self, is_it: impl FnOnce(&Want) -> bool) {
        if let Some(waiting) = &mut self.0
            && waiting.wants.first().is_some_and(is_it)
        {
            waiting.wants.remove(0);
        }
    }

    /// Takes out what `run` waits for.
    pub fn remove(&mut self, run: RunId) {
        self.retain(|want| want.run != run);
    }
}
