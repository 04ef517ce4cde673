//! The disk as it was right before a change: where the process, or the host, may have died.

use std::sync::Arc;

use rand::{Rng, rngs::StdRng};

use super::node::{Keeps, Node};

/// Which death the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// `kill -9`.
    Process,
    /// A power failure: an arbitrary part of what was not synced is kept.
    Host,
    /// A power failure that leaves nothing but what was synced.
    HostLosingAll,
}

/// A moment before a change.
#[derive(Clone)]
pub struct Moment {
    pub(super) nodes: Vec<Arc<Node>>,
    /// The write that was about to happen, of which a part may have.
    pub(super) torn: Option<Torn>,
    pub(super) boot: u32,
}

/// A write: the file's number, where, what.
#[derive(Clone)]
pub(super) struct Torn {
    pub node: usize,
    pub offset: usize,
    pub bytes: Vec<u8>,
}

impl Moment {
    /// What that death leaves, and the number of the boot that finds it.
    pub(super) fn left_by(&self, death: Death, rng: &mut StdRng) -> (Vec<Arc<Node>>, u32) {
        let mut nodes = self.nodes.clone();
        if let Some(Torn { node, offset, bytes }) = &self.torn
            && let Node::File(file) = Arc::make_mut(&mut nodes[*node])
        {
            file.write(*offset, &bytes[..rng.random_range(0..=bytes.len())]);
        }
        let keeps = match death {
            Death::Process => None,
            Death::Host => Some(Keeps::Some),
            Death::HostLosingAll => Some(Keeps::Nothing),
        };
        if let Some(keeps) = keeps {
            nodes.iter_mut().for_each(|node| Node::crash(node, keeps, rng));
        }
        (nodes, self.boot + u32::from(keeps.is_some()))
    }
}
