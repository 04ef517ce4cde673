//! A rate that sidecars share: requests take from what is in hand, or wait for one call for all of
//! them.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::decided::{Decided, Outcome, Want};
use crate::{
    clock::Clock,
    domain::{
        ids::RunId,
        quota::DecidedBy,
        rate::{RateKeyName, RateStandings, RateWindow},
    },
    leases::rate::{
        cell::Short,
        message::{ASKS_MAX, Ask, AskFor, RateCall, RateReply, RateTerms},
        purse::{Era, Offhand, Purse},
        stack::RateStack,
    },
    store::{RedisCounters, StoreError},
};

/// What all rates of a sidecar ask by.
pub struct Lender {
    pub run: RunId,
    /// Where rates are shared; `None` = this sidecar is alone.
    pub redis: Option<RedisCounters>,
    pub tasks: TaskTracker,
    pub clock: Clock,
}

impl Lender {
    /// Calls that may be under way at a time.
    pub fn calls_max(&self) -> usize {
        self.redis.as_ref().map_or(0, RedisCounters::calls_max)
    }
}

/// See the module.
pub struct SharedKey {
    name: RateKeyName,
    lender: Arc<Lender>,
    /// Guards the purse and who waits for it; held for a few steps, and never while anything is
    /// sent or dropped that may want it.
    slow: Mutex<Slow>,
}

struct Slow {
    purse: Purse,
    waiters: VecDeque<Waiter>,
    /// A task works for the waiters.
    is_driven: bool,
    /// The rate as this sidecar goes on with it while the shared state is out of reach.
    alone: Option<Arc<RateStack>>,
}

struct Waiter {
    permits: u32,
    want: Want,
    outcome: oneshot::Sender<SharedOutcome>,
}

impl Waiter {
    fn ask(&self) -> Option<Ask> {
        ask(self.permits, self.want)
    }
}

fn ask(permits: u32, want: Want) -> Option<Ask> {
    let how = match want {
        Want::Look => return None,
        Want::Take => AskFor::Good,
        Want::Hold => AskFor::Keeping,
    };
    Some(Ask { permits, how })
}

/// Permits that a request holds: let go when this is dropped, unless they are kept.
#[derive(Debug)]
pub struct SharedHold {
    key: Arc<SharedKey>,
    /// 0 once they are kept.
    permits: u32,
    era: Era,
}

impl SharedHold {
    /// Takes them for good.
    pub fn keep(mut self) {
        self.key.lock().purse.keep(self.permits, self.era);
        self.permits = 0;
    }
}

impl Drop for SharedHold {
    fn drop(&mut self) {
        if self.permits > 0 {
            let now_ns = self.key.now_ns();
            let mut slow = self.key.lock();
            slow.purse.let_go(self.permits, self.era, now_ns);
            if slow.purse.gives_back(now_ns) {
                self.key.drive_if_idle(&mut slow);
            }
        }
    }
}

type SharedOutcome = Outcome<SharedHold>;

/// Waiters with what they are told, once the lock is let go.
type Told = Vec<(oneshot::Sender<SharedOutcome>, SharedOutcome)>;

impl SharedKey {
    /// Nothing lent yet.
    pub fn new(name: RateKeyName, terms: RateTerms, lender: Arc<Lender>) -> Self {
        let purse = Purse::new(lender.run, terms, lender.clock.steady_ns());
        let slow = Slow { purse, waiters: VecDeque::new(), is_driven: false, alone: None };
        Self { name, lender, slow: Mutex::new(slow) }
    }

    /// What the plan allows.
    pub fn windows(&self) -> Arc<[RateWindow]> {
        self.lock().purse.windows().clone()
    }

    /// Goes on under other terms, unless they are older.
    pub fn change(&self, terms: RateTerms) {
        self.lock().purse.change(terms);
    }

    /// The rate as this sidecar alone goes on with it, while the shared state is out of reach: it
    /// begins where this sidecar last knew the shared one to be.
    pub fn alone(&self) -> Arc<RateStack> {
        let now_ns = self.now_ns();
        let Slow { purse, alone, .. } = &mut *self.lock();
        let stack = match alone.take() {
            Some(stack) if stack.windows() == purse.windows() => stack,
            Some(stack) => Arc::new(stack.with_windows(purse.windows().clone(), now_ns)),
            None => Arc::new(purse.alone(now_ns)),
        };
        alone.insert(stack).clone()
    }

    /// Whether a new key would be as good.
    pub fn is_unused(&self, now_ns: u64) -> bool {
        let slow = self.lock();
        let is_free = |stack: &Arc<RateStack>| stack.is_unused(now_ns);
        !slow.is_driven && slow.purse.is_unused(now_ns) && slow.alone.as_ref().is_none_or(is_free)
    }

    /// Where the windows stand, as far as this sidecar knows.
    pub fn standings(&self) -> RateStandings {
        self.lock().purse.standings(self.now_ns())
    }

    /// The clock that it goes by.
    pub fn clock(&self) -> &Clock {
        &self.lender.clock
    }

    /// Decides from memory, if that is possible.
    pub fn offhand(self: &Arc<Self>, permits: u32, want: Want) -> Option<Decided<SharedHold>> {
        let mut slow = self.lock();
        let now_ns = self.now_ns();
        if let Some(ask) = ask(permits, want) {
            slow.purse.count(ask, now_ns);
        }
        let outcome = self.outcome_offhand(&mut slow, permits, want, now_ns)?;
        let decided_by = match &outcome {
            Outcome::Away => DecidedBy::Fallback,
            Outcome::Met(_) | Outcome::Short(_) | Outcome::Overloaded => DecidedBy::Memory,
        };
        Some(Decided { outcome, decided_by })
    }

    /// Holds permits that are in hand. Who finds too few is not counted: it asks again, at length.
    pub fn hold_in_hand(self: &Arc<Self>, permits: u32) -> Option<SharedHold> {
        let mut slow = self.lock();
        let now_ns = self.now_ns();
        let (ask, want) = (Ask { permits, how: AskFor::Keeping }, Want::Hold);
        if !slow.purse.has_in_hand(ask, now_ns) {
            return None;
        }
        slow.purse.count(ask, now_ns);
        match self.outcome_offhand(&mut slow, permits, want, now_ns) {
            Some(Outcome::Met(held)) => held,
            Some(Outcome::Short(_) | Outcome::Away | Outcome::Overloaded) | None => None,
        }
    }

    /// Waits for a call's answer.
    pub async fn wait(self: &Arc<Self>, permits: u32, want: Want) -> Decided<SharedHold> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut slow = self.lock();
            slow.waiters.push_back(Waiter { permits, want, outcome: sender });
            self.drive_if_idle(&mut slow);
        }
        // The driver answers everyone; who is with a driver that dies is dropped.
        let outcome = receiver.await.unwrap_or(Outcome::Away);
        let decided_by = match &outcome {
            Outcome::Away => DecidedBy::Fallback,
            Outcome::Met(_) | Outcome::Short(_) | Outcome::Overloaded => DecidedBy::Redis,
        };
        Decided { outcome, decided_by }
    }

    fn outcome_offhand(
        self: &Arc<Self>,
        slow: &mut Slow,
        permits: u32,
        want: Want,
        now_ns: u64,
    ) -> Option<SharedOutcome> {
        let offhand = match ask(permits, want) {
            None => slow.purse.look(permits, now_ns),
            Some(ask) => slow.purse.offhand(ask, now_ns),
        };
        match offhand {
            Offhand::Taken | Offhand::TakenLow => {
                if offhand == Offhand::TakenLow {
                    self.drive_if_idle(slow);
                }
                Some(self.met(permits, want, slow.purse.era()))
            }
            Offhand::Short { wait_ns } => Some(Outcome::Short(Short { wait_ns: Some(wait_ns) })),
            Offhand::Away => Some(Outcome::Away),
            Offhand::Ask => None,
        }
    }

    fn met(self: &Arc<Self>, permits: u32, want: Want, era: Era) -> SharedOutcome {
        let held = || SharedHold { key: self.clone(), permits, era };
        Outcome::Met((want == Want::Hold).then(held))
    }

    fn drive_if_idle(self: &Arc<Self>, slow: &mut Slow) {
        if !slow.is_driven {
            slow.is_driven = true;
            let key = self.clone();
            self.lender.tasks.spawn(async move { key.drive().await });
        }
    }

    /// Calls until nobody waits.
    async fn drive(self: Arc<Self>) {
        let mut driving = Driving { key: &self, has_ended: false };
        let Some(redis) = &self.lender.redis else { return };
        loop {
            let (told, next) = self.next();
            tell(told);
            let Some((call, batch)) = next else {
                driving.has_ended = true;
                return;
            };
            let reply = redis.rate(&self.name, &call, None).await;
            tell(self.settle(&call, batch, reply));
        }
    }

    /// Answers who can be answered from memory, and builds a call for the others.
    fn next(self: &Arc<Self>) -> (Told, Option<(RateCall, Vec<Waiter>)>) {
        let mut slow = self.lock();
        let now_ns = self.now_ns();
        let (mut told, mut batch) = (vec![], vec![]);
        for waiter in std::mem::take(&mut slow.waiters) {
            match self.outcome_offhand(&mut slow, waiter.permits, waiter.want, now_ns) {
                Some(outcome) => told.push((waiter.outcome, outcome)),
                None if batch.len() < ASKS_MAX => batch.push(waiter),
                None => slow.waiters.push_back(waiter),
            }
        }
        let is_idle = !slow.purse.wants_more(now_ns) && !slow.purse.gives_back(now_ns);
        if batch.is_empty() && is_idle {
            slow.is_driven = false;
            return (told, None);
        }
        let asks = batch.iter().filter_map(Waiter::ask).collect();
        // There is none under way: this driver is the only one that calls.
        let call = slow.purse.call(asks, now_ns);
        (told, call.map(|call| (call, batch)))
    }

    fn settle(
        self: &Arc<Self>,
        call: &RateCall,
        batch: Vec<Waiter>,
        reply: Result<RateReply, StoreError>,
    ) -> Told {
        let mut slow = self.lock();
        let now_ns = self.now_ns();
        let granted = match reply {
            Ok(RateReply::Granted(granted)) => granted,
            Err(StoreError::Overloaded) => {
                slow.purse.not_sent();
                return all(batch, || Outcome::Overloaded);
            }
            Ok(RateReply::Overtaken) | Err(_) => {
                slow.purse.failed(now_ns);
                return all(batch, || Outcome::Away);
            }
        };
        slow.purse.answered(call, &granted, now_ns);
        if slow.alone.as_ref().is_some_and(|stack| stack.is_unused(now_ns)) {
            slow.alone = None;
        }
        let mut number = 0;
        let mut tell = |waiter: Waiter| {
            let wait_ns = slow.purse.wait_ns(waiter.permits, now_ns);
            let is_met = match waiter.want {
                Want::Look => wait_ns == 0,
                Want::Take | Want::Hold => {
                    number += 1;
                    granted.is_met(number - 1)
                }
            };
            let outcome = match is_met {
                true => self.met(waiter.permits, waiter.want, slow.purse.era()),
                // It was short when it was asked, however little is missing by now.
                false => Outcome::Short(Short { wait_ns: Some(wait_ns.max(1)) }),
            };
            (waiter.outcome, outcome)
        };
        batch.into_iter().map(&mut tell).collect()
    }

    fn now_ns(&self) -> u64 {
        self.lender.clock.steady_ns()
    }

    fn lock(&self) -> MutexGuard<'_, Slow> {
        self.slow.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A driver at work. Should it end before its time (its task is dropped, or panics), those who wait
/// are answered, and the next who comes starts another.
struct Driving<'a> {
    key: &'a SharedKey,
    has_ended: bool,
}

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut slow = self.key.lock();
        slow.is_driven = false;
        slow.purse.failed(self.key.now_ns());
        let waiters = std::mem::take(&mut slow.waiters);
        drop(slow);
        tell(all(waiters, || Outcome::Away));
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)
    }
}

/// What a waiter that has gone away was given is let go here, without the lock.
fn tell(told: Told) {
    for (waiter, outcome) in told {
        drop(waiter.send(outcome));
    }
}

fn all(batch: impl IntoIterator<Item = Waiter>, outcome: fn() -> SharedOutcome) -> Told {
    batch.into_iter().map(|waiter| (waiter.outcome, outcome())).collect()
}
