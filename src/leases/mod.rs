//! The lease protocol: how many sidecars share one limit without ever passing it, while each admits
//! from its own memory.
//!
//! # The parts
//!
//! - [`cell::Cell`], lock-free: escrow in hand and what was counted. Requests touch only this.
//! - [`holder::Holder`], the slow side of one cell: builds calls, takes in answers, decides.
//! - [`key::KeyState`], the shared side of one key: what the scripts do in Redis.
//! - [`message`]: what they say to each other.
//!
//! All of it is pure: no IO, no clock, no async. `store` carries the messages, `enforcement`
//! drives.
//!
//! # The protocol
//!
//! A run (one start of one sidecar) keeps five totals per key that only grow
//! ([`message::Totals`]). Every call carries all of them and the key merges by maximum. A call also
//! says up to which total it would like `granted` to grow; the key grants out of
//! `free = ceiling − (base + Σ taken + forfeited)` and answers with the new total. A `sequence`
//! keeps a call that was overtaken from asking again.
//!
//! **Near the limit** a need that cannot be met becomes a *want* in the key's queue, oldest first.
//! While a want of another run stands, nothing is granted in advance; the run that stands first
//! keeps what it has, every other run closes its cell, returns all that is unspent and says so
//! (`closed`). A need is refused at once when it exceeds `free` plus everything that others may
//! still return, namely their outstanding escrow, less that of runs which have returned all they
//! could since the want was raised (what is left there is held by reservations, or consumed). Else
//! it waits until it is met, until it has stood first for `recall_wait`, or until
//! `queue_wait_max` is over. A want that does not move is deposed, so that a dead run does not block
//! the queue.
//!
//! **Losing data.** The counters live in numbered *epochs*. What an epoch stands for is an identity:
//! the Redis server's `run_id` together with a random *life* that is stored in it beside the keys, set
//! where it is absent. The ledger gives each identity that it sees for the first time the next epoch.
//! Each connection reads the `run_id` before its first call and serves only the epoch of that
//! server; every script compares the life. So a restarted, restored or emptied Redis answers nothing until
//! there is a new epoch. In a new epoch every key is absent, and an absent key is never taken for
//! zero: it is rebuilt from a *floor*, the ledger's snapshot of closed runs (`base`) and of what
//! open runs have flushed. Every open run then re-sends its totals for all its cells. Nothing is
//! granted until the epoch is *recovered*: each run that was open when it began has reported all
//! its cells, or has been closed **and folded** into all keys that it touched. The floor also names
//! the least version of a ceiling that may hold, since the key has forgotten which it had: a run that
//! only knows an older one is granted nothing.
//!
//! **Closing a run** (after a crash, or at a clean stop): 1. if anything is to be forfeited, `Fence`
//! on each key (an absent one remembers it in a stub), and note `taken − used` as forfeit; where the key no longer knows the run although
//! it was opened in an earlier epoch, what it held is unknown and everything that is free has to be
//! forfeited; 2. flush its whole journal; 3. the ledger marks it closed with the next `closed_seq`,
//! together with the forfeits; 4. `Fold` on each key that its journal says it opened; 5. the ledger
//! notes it as folded. A key that was rebuilt from a floor with that closing in it ignores the
//! fold; an absent key keeps a stub which refuses floors older than the closing.
//!
//! # Invariants, and why they hold
//!
//! Write `A` for what a run has admitted against a hard ceiling on a key: what was committed or is
//! still between `take` and `commit`.
//!
//! **I1, never over: Σ A ≤ ceiling.**
//! 1. *In the run:* `A ≤ granted − returned`, for the totals as the run knows them. Escrow enters
//!    the cell only when an answer has shown a larger `granted`; `take` is all or nothing; `close`
//!    takes units out of hand before `returned` says so. Commits move units that were taken.
//! 2. *At the key:* the entry's `taken ≥ granted − returned + recorded − undone` as the run knows
//!    them. The key's `granted` is never less than the run's, because the run learned it there and
//!    repeats it; the key's `returned` is never more, because it learned it from the run. A report
//!    merges to the newest totals whatever the order of arrival, since all totals grow. `undone`
//!    never runs ahead of the usage it takes back: within a run by the order of reading (see
//!    `cell`), across runs because only the ledger's commit makes it grow, and a floor holds both.
//! 3. Grants come out of `free` in one step, so `base + Σ taken + forfeited ≤ ceiling` after each
//!    grant. Nothing but `recorded` usage (which no ceiling stops), a lowered ceiling, or a fold
//!    can raise the left side otherwise, and a fold replaces `taken` by what the ledger knows to
//!    have been used, plus the forfeit, of a run that can admit no more.
//! 4. *After a loss:* a call of an earlier epoch, or an answer to one, changes nothing in the new one:
//!    connection, life and key refuse the call; the answer can only belong to the one call in
//!    flight, and a holder with a call of an earlier epoch in flight has not reported. At recovery every run that could have
//!    escrow has either told its totals to the new key (2 holds again) or is folded; usage of runs
//!    that had nothing to report is in the floor, because a holder is dropped only when everything
//!    is returned and flushed, and an answer to a later call has shown that the counters were still
//!    those of its epoch: floors of the next one are read later than that. The floor may be older than reports (they merge
//!    over it: `flushed` is replaced by the run's own totals through the maximum) and older than
//!    a closing (the stub or the fold mends that), never newer than the ledger.
//! 5. No clock takes part. Times only decide how long somebody waits.
//!
//! **I2, never stranded.** Escrow that was granted and never heard of is in the key's `granted`;
//! the next answer hands it over. What is unspent goes back at the first recall that arrives, and
//! every answer carries the recall too. A refusal at once is a proof: `free` plus everything that
//! could come back was less than the need, where what a run gets back from a request or a reservation after it
//! has answered the recall counts from the moment when the key hears of it. (It is none if the answer
//! to a recall is a late message that was sent before the want was raised; nothing is stranded by that.) Any other denial comes after the
//! full wait, with a last call at its end. At quiet every run returns what it holds when asked, so
//! `free` comes to ceiling − used − forfeited.
//!
//! **I4, one truth.** `Σ used` at the key = ledger + unflushed when all runs have settled, and
//! `taken − used` is what they hold.
//!
//! # How to drive it
//!
//! One driver per cell runs the loop below; never two at once. [`holder::Surroundings`] is read
//! afresh for each `next`.
//!
//! **Admit.** Check the window; `cell.take(n)`: `Taken` → journal → `commit(n)`, or `give_back(n)`
//! if the journal certainly refused. `TakenLow` → the same, and wake the driver. `Short` → queue the request
//! `(n, reply)` and wake the driver. Without a ceiling: journal → `record(n)`, no `take`. A `give_back` that
//! answers `Recalled` → wake the driver.
//!
//! **Loop.**
//! ```text
//! loop {
//!     for each queued request in order: cell.take(n) → Taken/TakenLow: answer it, drop it
//!     match holder.next(&seed, &cell, waiting of those left, &surroundings) {
//!         Send(call)   → remember how many requests are queued;
//!                        counters.call(&key, &call):
//!                          Ok(NeedFloor)  → read the floor from the ledger (one snapshot, which must
//!                                           also say that call.epoch is still the newest), put it
//!                                           into call.floor and call again, a few times at most
//!                          Ok(answer)     → holder.answered(&seed, &cell, &call, &answer, now)
//!                          StaleEpoch | EpochLost → the same, and start epoch recovery
//!                          Err            → holder.failed(&seed, now)
//!         Retry        → continue
//!         Deny{remaining} → deny the head, and those of the remembered ones that want more than
//!                        `remaining`
//!         Unavailable  → outage policy for all queued: deny, or record(n)
//!         Wait{until}  → sleep until then, a hint, a newly queued request, or a wake-up
//!         Rest{until}  → sleep likewise (or end the task and let a timer or a wake-up start it)
//!         Retired      → drop cell and holder
//!         Fenced       → the process must stop serving
//!     }
//! }
//! ```
//! If the task is cancelled between `Send` and the answer, call `holder.failed`. Requests must be
//! taken for right after `answered` and before `next`, because `next` may return what is in hand.
//!
//! **Settle.** A timer calls the loop for each cell about once a second; `next` knows whether a
//! call is due. After a flush: `cell.undo(units taken back)`.
//!
//! **Hints.** `holder.hint(run, &recall)`, then wake the driver.
//!
//! **Epoch.** When the counters' identity changes (a watch of `store` tells; `EpochLost` leads to it): ask
//! the ledger for the identity's epoch, bind the store to it if it is the latest, put
//! `Epoch { number, recovered }` into the surroundings, and run the loop for every cell until
//! `holder.has_reported(&cell, number)`; then tell the ledger that this run has reported. When the ledger
//! says that the epoch is recovered, put that into the surroundings.
//!
//! **Dropping a cell** (idle, window over): when everything that it counted is in the ledger, and
//! what the flush took back is undone on the cell, `holder.part(retention)`; loop until `Retired`,
//! which takes one more answer from the key (`holder.revive()` when it is used meanwhile). Then it may be dropped, if it has counted nothing since
//! and no request is about to count on it. The order matters: a floor knows of nothing but what
//! is in the ledger, and if data were lost between, it might have been read before that was. Keep `holder.totals(&cell)` as long as the window can be used: a later cell
//! of the same key in the same run begins with `Holder::resumed` from them. Starting from zero would undo the
//! key's trust in growing totals. (Learning them from the key instead does not do: after a loss
//! the key knows the run's flushed total only, of which an unknown part may be new.)
//!
//! **Opening a cell.** Before the first call for a key the run journals that it opened it, so that
//! a closing finds all its keys. A cell of a key that the run has not had before begins with
//! `Holder::new`.

mod atomics;
pub mod cell;
mod demand;
pub mod denials;
pub mod dropped;
mod entry;
mod fences;
mod flight;
pub mod heir;
pub mod holder;
pub mod holds;
pub mod kept_ceiling;
pub mod kept_holder;
pub mod key;
pub mod message;
pub mod onlookers;
mod origin;
mod queue;
pub mod rate;
pub mod seat;
pub mod seen;
#[cfg(test)]
mod simulation;
pub mod step;

#[cfg(test)]
mod holder_tests;
