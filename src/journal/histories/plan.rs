//! What a history is made of.

use std::io::ErrorKind;

use proptest::prelude::*;

use crate::{
    domain::usage::Durability,
    journal::faulty::{Death, Operation},
};

/// A few lives of a sidecar on one disk.
#[derive(Clone, Debug)]
pub struct History {
    /// Decides what crashes keep.
    pub seed: u64,
    pub lives: Vec<Life>,
}

/// One life: a run of its own, that takes up what the earlier ones left.
#[derive(Clone, Debug)]
pub struct Life {
    pub steps: Vec<Step>,
    pub is_closed: bool,
    /// At which of its moments it dies, for the next life; counted round and round.
    pub dies_at: usize,
    pub death: Death,
}

impl Life {
    /// One that is judged at its end.
    pub fn of(steps: Vec<Step>, is_closed: bool) -> Self {
        Self { steps, is_closed, dies_at: 0, death: Death::Process }
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Records of these levels and sizes, sent at once and then waited for.
    Send(Vec<(Durability, usize)>),
    /// So many records go to the ledger; what lies before them may be deleted.
    Flush(usize),
    /// So many records of each run that was left behind go to the ledger.
    FlushLeft(usize),
    /// Runs left behind go to the ledger as a whole and are deleted.
    DeleteLeft,
    /// An operation fails from now on.
    Break(Operation, ErrorKind),
    /// Everything works again.
    Mend,
}

fn any_sent() -> impl Strategy<Value = Vec<(Durability, usize)>> {
    let level = prop_oneof![
        1 => Just(Durability::Memory),
        1 => Just(Durability::Written),
        3 => Just(Durability::Sync),
    ];
    let size = prop_oneof![3 => 0usize..40, 3 => 0usize..3000, 1 => Just(6000usize)];
    prop::collection::vec((level, size), 1..5)
}

fn any_fault() -> impl Strategy<Value = Step> {
    let operation = prop_oneof![
        4 => Just(Operation::Create),
        1 => Just(Operation::Open),
        1 => Just(Operation::Read),
        1 => Just(Operation::Write),
        1 => Just(Operation::Sync),
        1 => Just(Operation::SyncDir),
        2 => Just(Operation::Rename),
        2 => Just(Operation::Remove),
    ];
    (operation, prop_oneof![Just(ErrorKind::Other), Just(ErrorKind::StorageFull)])
        .prop_map(|(operation, kind)| Step::Break(operation, kind))
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any_sent().prop_map(Step::Send),
        4 => (1usize..12).prop_map(Step::Flush),
        2 => (1usize..6).prop_map(Step::FlushLeft),
        1 => Just(Step::DeleteLeft),
        1 => any_fault(),
        2 => Just(Step::Mend),
    ]
}

fn any_death() -> impl Strategy<Value = Death> {
    prop_oneof![2 => Just(Death::Process), 1 => Just(Death::Host), 1 => Just(Death::HostLosingAll)]
}

fn any_life() -> impl Strategy<Value = Life> {
    (
        prop::collection::vec(any_step(), 1..10),
        prop::bool::weighted(0.3),
        any::<usize>(),
        any_death(),
    )
        .prop_map(|(steps, is_closed, dies_at, death)| Life {
            steps,
            is_closed,
            dies_at,
            death,
        })
}

pub fn any_history() -> impl Strategy<Value = History> {
    (any::<u64>(), prop::collection::vec(any_life(), 1..4))
        .prop_map(|(seed, lives)| History { seed, lives })
}
