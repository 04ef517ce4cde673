//! Drives the leases of a run: the waiting and the talking that the pure holder leaves to others.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, RwLock, watch};
use tokio_util::task::TaskTracker;

use super::{
    counter::Counter,
    fence::{Fence, Fenced},
    floors::{Floors, Known},
    lease_metrics::LeaseMetrics,
    retention::KeyRetentions,
    run_time::RunTime,
    slow::Slow,
    waiters::Verdict,
};
use crate::{
    domain::{cell_key::CellKey, distinct::DistinctCount, quota::DecidedBy, usage::Durability},
    journal::{Journal, record::RecordRef},
    leases::{
        cell::Take,
        denials::Denied,
        holder::{Denial, HolderSeed, Step, Surroundings},
        message::{Answer, Call, Epoch},
        seen::Seen,
    },
    store::{
        counters::Counters,
        distinct::{DistinctAnswer, DistinctCall},
    },
};

/// Calls to a key that needs a floor are repeated with one at most so often in a row: a floor that
/// was read before a closing is refused once.
const FLOOR_TRIES_MAX: usize = 3;

/// What was answered about a counter is good enough for a look for so long, where others count too.
const FRESH_ENOUGH: Duration = Duration::from_secs(1);

/// What all drivers of a run share.
pub struct Leasing {
    pub seed: HolderSeed,
    pub counters: Counters,
    pub floors: Floors,
    /// Journals which keys this run touches, so that whoever closes it knows. Not needed where the
    /// counters end with the process.
    pub opened_keys: Option<Journal>,
    /// The epoch to call in; `None` while the shared counters must not be used: out of reach, or
    /// this run is not registered yet.
    pub epoch: watch::Receiver<Option<Epoch>>,
    /// Told when an answer says that the epoch is not what it was.
    pub epoch_doubt: Notify,
    /// Read from before a distinct value is asked for until it is among those that a new epoch is
    /// told of; written, and let go again, before these are told. So none is forgotten that an
    /// earlier epoch has admitted.
    pub untold_values: Arc<RwLock<()>>,
    /// How long the shared counters keep what is not used any more.
    pub retentions: KeyRetentions,
    /// Comes down when this run must not serve any longer.
    pub fence: Fence,
    pub tasks: TaskTracker,
    pub time: RunTime,
    pub denial_cache: Duration,
    pub metrics: LeaseMetrics,
}

impl Leasing {
    /// Time since the start of the run, monotonic.
    pub fn now(&self) -> Duration {
        self.time.now()
    }

    /// Has the driver look at `counter` now.
    pub fn wake(self: &Arc<Self>, counter: &Arc<Counter>) {
        counter.wake_driver();
        self.wake_if_idle(counter);
    }

    /// Makes sure that `counter` has a driver, which sees to it in its own time.
    #[inline]
    pub fn wake_if_idle(self: &Arc<Self>, counter: &Arc<Counter>) {
        if counter.needs_driver() {
            counter.set_retired(false);
            let (leasing, counter) = (self.clone(), counter.clone());
            self.tasks.spawn(async move { leasing.drive(&counter).await });
        }
    }

    /// Has the shared counters hear in time of what was spent of `counter`. Those in this process
    /// hear of it with the next call: nobody else asks them. The first call is made in any case:
    /// its answer says what earlier runs have used.
    #[inline]
    pub fn spent(self: &Arc<Self>, counter: &Arc<Counter>) {
        if self.counters.are_shared() || !counter.is_answered() {
            self.wake_if_idle(counter);
        }
    }

    /// As [`Leasing::spent`], after usage that no escrow covers: where it has passed the limit, what
    /// is in hand is not to be spent any more, and goes back.
    pub fn recorded(self: &Arc<Self>, counter: &Arc<Counter>) {
        self.spent(counter);
        if counter.is_beyond_limit() {
            counter.slow().holder.look();
            self.wake(counter);
        }
    }

    async fn drive(self: &Arc<Self>, counter: &Arc<Counter>) {
        let mut seated = Seated { leasing: self, counter, has_left: false };
        loop {
            match self.next_step(counter) {
                Step::Retry => {}
                // Of its own: a driver that sleeps is small.
                Step::Send(call) => Box::pin(self.send(counter, *call)).await,
                Step::Deny { why, remaining, at_hand } => {
                    self.deny(counter, why, remaining, at_hand);
                }
                Step::Unavailable => {
                    let mut slow = counter.slow();
                    // What became of a call says nothing to those who came later, where nobody
                    // is left who waited for it.
                    if !slow.waiters.are_latecomers() {
                        answer_all_unavailable(&mut slow);
                    }
                }
                Step::Wait { until } => self.sleep(counter, until).await,
                Step::Rest { until: Some(until) } => self.sleep(counter, until).await,
                Step::Fenced => {
                    self.fence.lower(Fenced::Closed);
                    // Who comes yet is told by another driver.
                    return;
                }
                Step::Retired => {
                    counter.set_retired(true);
                    if counter.leave() {
                        seated.has_left = true;
                        return;
                    }
                    counter.set_retired(false);
                }
                // It cannot be: this driver is the only one, and has no call under way. Whatever went
                // wrong, all begins anew.
                Step::InFlight => return,
                Step::Rest { until: None } => {
                    if counter.leave() {
                        seated.has_left = true;
                        return;
                    }
                }
            }
        }
    }

    fn next_step(self: &Arc<Self>, counter: &Arc<Counter>) -> Step {
        let mut slow = counter.slow();
        // Before anything is read that somebody may change and then wake it for.
        counter.look(&slow);
        let epoch = *self.epoch.borrow();
        self.serve_waiters(counter, &mut slow);
        let waiting = slow.waiters.waiting();
        let Some(epoch) = epoch else {
            answer_all_unavailable(&mut slow);
            // Whoever makes the epoch known wakes all counters that have something to say.
            return Step::Rest { until: Some(self.later()) };
        };
        let around = Surroundings { epoch, ceiling: slow.ceiling.into(), now: self.now() };
        let returned_before = slow.holder.totals(&counter.cell).returned;
        let basis = counter.cell.basis();
        let step = slow.holder.next(&self.seed, &counter.cell, waiting, &around);
        if let Step::Send(call) = &step {
            self.metrics.returning(call.totals.returned - returned_before);
            slow.waiters.call_built(basis);
        }
        step
    }

    /// How long a counter without shared counters sleeps before it looks again.
    fn later(&self) -> Duration {
        self.now() + Duration::from_secs(1)
    }

    fn serve_waiters(self: &Arc<Self>, counter: &Arc<Counter>, slow: &mut Slow) {
        while let Some(head) = slow.waiters.head() {
            if counter.cell.take(head.amount) == Take::Short {
                return;
            }
            if let Some(head) = slow.waiters.pop()
                && head.verdict.send(Verdict::Granted).is_err()
            {
                // The caller has gone away. This driver sees what came back at its next step.
                let _ = counter.cell.give_back(head.amount);
            }
        }
    }

    fn deny(&self, counter: &Counter, why: Denial, remaining: u64, at_hand: u64) {
        let mut slow = counter.slow();
        let basis = slow.waiters.call_basis();
        let denied = slow.waiters.take_denied(remaining);
        if let (Denial::Exhausted, Some(basis)) = (why, basis) {
            let until = self.now() + self.denial_cache;
            slow.denied = Some(Denied { remaining, basis, until });
        }
        drop(slow);
        self.metrics.denied(why, denied.len());
        for waiter in denied {
            let _ = waiter.verdict.send(Verdict::Denied { why, remaining, at_hand });
        }
    }

    async fn send(&self, counter: &Counter, mut call: Call) {
        let answer = match self.open(counter).await {
            true => self.call(counter, &mut call).await,
            false => None,
        };
        self.metrics.called(&call, answer.as_ref());
        let is_answered = answer.is_some();
        let mut slow = counter.slow();
        match answer {
            Some(answer) => {
                slow.holder.answered(&self.seed, &counter.cell, &call, &answer, self.now());
                if let Answer::Counted(counted) = &answer
                    && counter.key.tenant.pool().is_some()
                    && let Some(seen) = Seen::of(counted)
                {
                    slow.seen = Some(Box::new(seen));
                }
                if matches!(answer, Answer::StaleEpoch { .. } | Answer::EpochLost) {
                    self.epoch_doubt.notify_one();
                }
            }
            None => slow.holder.failed(&self.seed, self.now()),
        }
        drop(slow);
        counter.called(is_answered.then(|| self.now()));
    }

    /// Whether what is known of `counter` at `now` is good enough for a look.
    #[inline]
    pub fn is_fresh(&self, counter: &Counter, now: Duration) -> bool {
        counter.answer_age(now).is_some_and(|age| age <= FRESH_ENOUGH || self.is_alone())
    }

    /// Whether this run alone counts: what was answered to it once is right until it changes it.
    fn is_alone(&self) -> bool {
        !self.counters.are_shared() && matches!(self.floors, Floors::Embedded { .. })
    }

    /// Asks the shared counters how `counter` stands, and waits for the answer, at most `wait`.
    pub async fn refresh(self: &Arc<Self>, counter: &Arc<Counter>, wait: Duration) {
        if self.epoch.borrow().is_none() {
            return;
        }
        let called = counter.next_call();
        tokio::pin!(called);
        called.as_mut().enable();
        counter.slow().holder.look();
        self.wake(counter);
        let _ = self.time.until(self.now().saturating_add(wait), called).await;
    }

    /// Journals that this run touches the key, before it first does. Synced, once per key: a key
    /// that is forgotten with its host would keep its escrow for ever.
    async fn open(&self, counter: &Counter) -> bool {
        let Some(journal) = &self.opened_keys else { return true };
        if counter.is_opened() {
            return true;
        }
        let record = RecordRef::CellOpened { key: &counter.key };
        let is_opened = journal.append(record, Durability::Sync).await.is_ok();
        if is_opened {
            counter.set_opened();
        }
        is_opened
    }

    /// Where an answer was decided that took a call to the counters: only those in a Redis are
    /// shared with others.
    pub fn asked(&self) -> DecidedBy {
        match self.counters {
            Counters::Redis(_) => DecidedBy::Redis,
            Counters::Local(_) => DecidedBy::Memory,
        }
    }

    async fn call(&self, counter: &Counter, call: &mut Call) -> Option<Answer> {
        for _ in 0..FLOOR_TRIES_MAX {
            let answer = self.counters.call(&counter.key, call).await.ok()?;
            let Answer::NeedFloor { closed_seq_min } = answer else { return Some(answer) };
            let floor = match self.floors.floor(&counter.key, call.run).await? {
                Known::Floor(floor) => floor,
                Known::RunClosed => return Some(Answer::Fenced),
            };
            if floor.closed_seq < closed_seq_min {
                return None;
            }
            call.floor = Some(floor);
        }
        None
    }

    /// Whether `value` may be counted among the distinct ones of `key`, and how many there are then.
    /// `None` while the shared counters are out of reach.
    pub async fn admit_distinct(
        &self,
        key: &CellKey,
        value: &str,
        ceiling: u64,
    ) -> Option<(bool, u64)> {
        let epoch = (*self.epoch.borrow())?;
        self.call_distinct(key, DistinctCall::admit(epoch, value, ceiling)).await
    }

    /// Tells the counters which distinct values of `key` this run has counted.
    pub async fn tell_distinct(&self, key: &CellKey, known: DistinctCount) -> bool {
        let Some(epoch) = *self.epoch.borrow() else { return false };
        self.call_distinct(key, DistinctCall::tell(epoch, known)).await.is_some()
    }

    async fn call_distinct(&self, key: &CellKey, mut call: DistinctCall) -> Option<(bool, u64)> {
        // Each call may be the last, and each puts the end off.
        call.retention = self.retentions.of(key);
        for _ in 0..FLOOR_TRIES_MAX {
            match self.counters.distinct(key, &call).await.ok()? {
                DistinctAnswer::Counted { admitted, count } => return Some((admitted, count)),
                DistinctAnswer::NeedFloor => {
                    call.floor = Some(Box::new(self.floors.distinct(key).await?));
                }
                DistinctAnswer::Recovering { .. } => return None,
                DistinctAnswer::StaleEpoch { .. } | DistinctAnswer::EpochLost => {
                    self.epoch_doubt.notify_one();
                    return None;
                }
            }
        }
        None
    }

    async fn sleep(&self, counter: &Counter, until: Duration) {
        let _ = self.time.until(until, counter.woken()).await;
    }
}

/// A driver at work. Should it end before its time (the run is over, its task is dropped, it panics),
/// those who wait are answered, and the next who comes starts another.
struct Seated<'a> {
    leasing: &'a Leasing,
    counter: &'a Counter,
    has_left: bool,
}

impl Drop for Seated<'_> {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        let mut slow = self.counter.slow();
        // It may be on its way, and be answered yet.
        slow.holder.failed(&self.leasing.seed, self.leasing.now());
        answer_all_unavailable(&mut slow);
        self.counter.abandon(&mut slow);
        drop(slow);
        self.counter.called(None);
    }
}

fn answer_all_unavailable(slow: &mut Slow) {
    for waiter in slow.waiters.take_all() {
        let _ = waiter.verdict.send(Verdict::Unavailable);
    }
}
