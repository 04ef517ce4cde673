//! Who is about to close a dead run tells the keys what it used, before the ledger has it.

use super::{
    closing::{Closing, Remains, Unspent},
    event::Identity,
    planted::Planted,
    world::World,
};
use crate::{
    domain::ids::RunId,
    leases::{
        heir,
        message::{Answer, Call, Epoch, Totals},
    },
};

/// Records that are flushed between two looks.
const FLUSHED_AT_ONCE_MAX: u64 = 8;

impl World {
    /// Whether the closing has an heir at work, which does its part now.
    pub(super) fn inherit(&mut self, closing: &Closing, to: Identity, epoch: u64) -> bool {
        let (run, until) = (closing.run, closing.from + closing.inherits_us);
        let has_all = (closing.remains, closing.unspent) == (Remains::Whole, Unspent::Returned);
        if self.now >= until || !has_all || self.ledger.closing(run).is_some() {
            return false;
        }
        // What is unflushed is known first: it may be gone a moment later.
        if self.ledger.is_recovered(epoch) {
            let epoch = Epoch { number: epoch, recovered: true };
            for key in closing.keys.keys().filter(|key| !closing.inherited.contains(key)) {
                let call = heir::tell(run, epoch, self.used_by(run, *key));
                self.send(to, &call, *key);
            }
        }
        let most = self.up_to(FLUSHED_AT_ONCE_MAX) as usize;
        self.flush(run, most);
        true
    }

    /// All that a dead run used under a key.
    fn used_by(&self, run: RunId, key: usize) -> Totals {
        let undone = self.ledger.totals(run, key).undone;
        let mut used = Totals { undone, ..Totals::default() };
        let Some(left) = self.dead.get(&run) else { return used };
        let known = match self.is_planted(Planted::HeirKnowsFlushed) {
            true => &left.journal[..left.flushed],
            false => &left.journal[..],
        };
        for record in known.iter().filter(|record| record.key == key && record.amount > 0) {
            let sum = if record.escrow { &mut used.consumed } else { &mut used.recorded };
            *sum += record.amount.unsigned_abs();
        }
        used
    }

    /// A key has answered what was sent for a run that is gone.
    pub(super) fn heir_answered(&mut self, call: &Call, key: usize, answer: &Answer) {
        let (to, mut is_done) = (self.redis.identity, true);
        let forgets = self.is_planted(Planted::HeirForgetsRefused);
        if let Answer::Counted(counted) = answer
            && heir::is_telling(call)
            && let Some(mut back) = heir::give_back(call, counted)
        {
            if forgets {
                back.totals.consumed = call.totals.consumed;
                back.totals.returned = back.totals.granted.saturating_sub(call.totals.consumed);
            }
            is_done = false;
            self.send(to, &back, key);
        }
        let is_told =
            heir::is_by_heir(call.sequence) && is_done && matches!(answer, Answer::Counted(_));
        for closing in self.closings.iter_mut().filter(|one| is_told && one.run == call.run) {
            closing.inherited.insert(key);
            self.seen.inherited += 1;
        }
    }
}
