//! One world: a counter, its actors, and what could be had at every moment.

use std::{
    panic::resume_unwind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    actor::{Act, Actor},
    parts,
    planted::Planted,
    time::{SimulatedTime, locked},
};
use crate::{
    domain::ids::RunId,
    enforcement::{counter::Counter, leasing::Leasing, taken::Acquired},
    leases::{
        cell::Basis,
        holder::{HolderSeed, LeaseTimes},
        message::{Ceiling, Epoch},
    },
    store::{
        StoreError,
        far::{Half, Way},
    },
};

const EPOCH: Epoch = Epoch { number: 1, recovered: true };
/// Nobody waits longer than this, whatever happens.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What every world holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    OneFlight,
    Answered,
    NoStaleDenial,
    NothingStranded,
}

/// A rule that was broken, and how.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub rule: Rule,
    #[allow(dead_code)] // Told by `Debug`.
    how: String,
}

pub(super) struct World {
    planted: Option<Planted>,
    is_told: bool,
    time: SimulatedTime,
    random: Mutex<StdRng>,
    leasing: Arc<Leasing>,
    counter: Arc<Counter>,
    epoch: watch::Sender<Option<Epoch>>,
    ceiling: AtomicU64,
    ceiling_version: AtomicU64,
    calls: Arc<Calls>,
    waiting: Mutex<Vec<Waiting>>,
    from_memory: AtomicU64,
    broken: Mutex<Option<Broken>>,
}

/// A request that waits.
struct Waiting {
    number: usize,
    /// Calls that had been built when it came.
    came_after: u64,
    /// The least that could be had since: as far as the call under way knows, if that was built
    /// later.
    least: i64,
}

/// What the last call was built on.
#[derive(Clone, Copy, Default)]
struct Built {
    number: u64,
    basis: Basis,
    undone: u64,
    ceiling: u64,
}

/// The calls on their way.
#[derive(Default)]
struct Calls {
    under_way: AtomicUsize,
    were_two: AtomicBool,
    /// Something failed, so that requests may hear of counters that are out of reach.
    has_failed: AtomicBool,
    /// Nothing fails any more.
    is_calm: AtomicBool,
    built: Mutex<Built>,
}

impl World {
    /// Plays the world; how many denials were given from memory.
    pub(super) fn play(
        seed: u64,
        actors: &[Actor],
        planted: Option<Planted>,
    ) -> Result<u64, Broken> {
        let time = SimulatedTime::default();
        time.runtime().block_on(async {
            let world = Self::new(seed, planted, time.clone());
            let acting: Vec<_> = actors
                .iter()
                .enumerate()
                .map(|(number, actor)| tokio::spawn(world.clone().act(number, *actor)))
                .collect();
            for one in acting {
                one.await.unwrap();
            }
            world.settle().await;
            let broken = locked(&world.broken).take();
            broken.map_or(Ok(world.from_memory.load(Relaxed)), Err)
        })
    }

    fn new(seed: u64, planted: Option<Planted>, time: SimulatedTime) -> Arc<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let units = random.random_range(0..12);
        let is_rough = random.random_bool(0.5);
        let (epoch, epochs) = watch::channel(Some(EPOCH));
        let calls = Arc::new(Calls::default());
        Arc::new_cyclic(|this: &std::sync::Weak<Self>| {
            let this = this.clone();
            let way = move |half| -> BoxFuture<'static, Result<(), StoreError>> {
                let this = this.clone();
                Box::pin(async move {
                    // The world outlives its calls.
                    let world = this.upgrade().unwrap();
                    world.way(half, is_rough).await
                })
            };
            let seed = HolderSeed { run: RunId(Uuid::nil()), times: LeaseTimes::default() };
            let (key, window) = parts::cell();
            let ceiling = Ceiling { units: Some(units), version: 1 };
            Self {
                planted,
                is_told: std::env::var_os("FLIGHT_SEED").is_some(),
                time: time.clone(),
                leasing: Arc::new(parts::leasing(Way::new(way), epochs, seed, &time)),
                counter: Arc::new(Counter::new(key, window, ceiling)),
                random: Mutex::new(random),
                epoch,
                ceiling: AtomicU64::new(units),
                ceiling_version: AtomicU64::new(1),
                calls,
                waiting: Mutex::default(),
                from_memory: AtomicU64::new(0),
                broken: Mutex::default(),
            }
        })
    }

    fn is(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    fn breaks(&self, rule: Rule, how: String) {
        locked(&self.broken).get_or_insert(Broken { rule, how });
    }

    /// What can be had at this moment: all that is neither used nor in the hands of a request.
    fn free(&self) -> i64 {
        self.free_under(self.ceiling.load(Relaxed), u64::MAX)
    }

    /// The same, as far as the last call knows: it counts on nothing that was undone later, nor on
    /// a ceiling that was raised later.
    fn free_as_told(&self) -> i64 {
        let Built { ceiling, undone, .. } = *locked(&self.calls.built);
        self.free_under(ceiling.min(self.ceiling.load(Relaxed)), undone)
    }

    fn free_under(&self, ceiling: u64, undone_max: u64) -> i64 {
        let slow = self.counter.slow();
        let totals = slow.holder.totals(&self.counter.cell);
        let in_hand = self.counter.cell.available();
        let held = totals.granted - totals.returned - totals.consumed - in_hand;
        let undone = totals.undone.min(undone_max);
        let used = (totals.consumed + totals.recorded).cast_signed() - undone.cast_signed();
        ceiling.cast_signed() - used - held.cast_signed()
    }

    /// Tells what happens, where one world is replayed.
    fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.is_told {
            eprintln!("{:>6?} {what}; {} can be had", self.time.now(), self.free());
        }
    }

    /// Notes what can be had, for all who wait.
    fn observe(&self) {
        let (free, as_told) = (self.free(), self.free_as_told());
        let built = locked(&self.calls.built).number;
        for waiting in locked(&self.waiting).iter_mut() {
            let free = if waiting.came_after < built { as_told } else { free };
            waiting.least = free.min(waiting.least);
        }
    }

    async fn act(self: Arc<Self>, number: usize, actor: Actor) {
        self.time.sleep(actor.at).await;
        match actor.act {
            Act::Request { amount, patience, held_for, spent } => {
                let asked = self.ask(number, amount, patience).await;
                if let Some(Acquired::Taken(taken)) = asked {
                    self.time.sleep(held_for).await;
                    taken.spend(spent);
                }
                self.tell(format_args!("{number} is done"));
            }
            Act::Refresh => {
                self.leasing.refresh(&self.counter, Duration::from_millis(50)).await;
            }
            Act::Ceiling { units } => self.change_ceiling(units),
            Act::Undo { units } => {
                let counts = self.counter.cell.counts();
                let used = counts.consumed + counts.recorded - counts.undone;
                self.counter.refuse(units.min(used));
            }
            Act::Record { units } => {
                self.counter.cell.record(units);
                self.leasing.wake_if_idle(&self.counter);
            }
            Act::Away { lasts } => {
                self.calls.has_failed.store(true, Relaxed);
                self.epoch.send_replace(None);
                self.time.sleep(lasts).await;
                self.epoch.send_replace(Some(EPOCH));
                self.leasing.wake(&self.counter);
            }
        }
        self.tell(format_args!("{number} has acted"));
        self.observe();
    }

    fn change_ceiling(&self, units: u64) {
        let version = self.ceiling_version.fetch_add(1, Relaxed) + 1;
        let ceiling = Ceiling { units: Some(units), version };
        self.ceiling.store(units, Relaxed);
        if self.is(Planted::CeilingUnnoticed) {
            self.counter.slow().ceiling = ceiling.into();
        } else {
            assert!(self.counter.set_ceiling(ceiling));
        }
    }

    /// Asks, and holds the answer against what could be had. `None`: it hung up.
    async fn ask(
        &self,
        number: usize,
        amount: u64,
        patience: Option<Duration>,
    ) -> Option<Acquired> {
        let counter = &self.counter;
        self.tell(format_args!("{number} asks for {amount}"));
        let came_after = locked(&self.calls.built).number;
        locked(&self.waiting).push(Waiting { number, came_after, least: self.free() });
        let is_remembered = counter.cell.available() < amount
            && counter.remembered_denial(amount, self.leasing.now()).is_some();
        let hung_up = async {
            match patience {
                Some(patience) => self.time.sleep(patience).await,
                None => std::future::pending().await,
            }
            // Before what it may have been granted meanwhile goes back.
            self.observe();
        };
        let acquired = tokio::select! {
            biased;
            acquired = self.in_time(amount) => {
                self.observe();
                Some(acquired)
            }
            () = hung_up => None,
        };
        let mut all = locked(&self.waiting);
        let place = all.iter().position(|waiting| waiting.number == number).unwrap();
        let least = all.swap_remove(place).least;
        drop(all);
        let Some(acquired) = acquired? else {
            self.breaks(Rule::Answered, format!("request {number} for {amount} waits for ever"));
            return None;
        };
        self.tell(format_args!("{number} is told {acquired:?}"));
        match acquired {
            Acquired::Denied { remaining, .. } if least >= amount.cast_signed() => {
                let from = if is_remembered { "memory" } else { "an answer" };
                let how = format!(
                    "request {number} for {amount} is denied from {from} with {remaining} remaining, \
                     though {least} could be had all the time"
                );
                self.breaks(Rule::NoStaleDenial, how);
            }
            Acquired::Unavailable if !self.calls.has_failed.load(Relaxed) => {
                let how = format!("request {number} is told of an outage that there is not");
                self.breaks(Rule::Answered, how);
            }
            _ => {}
        }
        self.from_memory.fetch_add(u64::from(is_remembered), Relaxed);
        Some(acquired)
    }

    /// Asks; `None` when nobody answers.
    async fn in_time(&self, amount: u64) -> Option<Acquired> {
        let end = self.time.now() + WAIT_MAX;
        self.leasing.time.until(end, self.leasing.take_or_acquire(&self.counter, amount)).await
    }

    /// Half of the way of a call: it takes its time, and may fail or kill who sent it.
    async fn way(&self, half: Half, is_rough: bool) -> Result<(), StoreError> {
        if half == Half::There {
            if self.calls.under_way.fetch_add(1, Relaxed) > 0 {
                self.calls.were_two.store(true, Relaxed);
                self.breaks(Rule::OneFlight, "two calls are under way".into());
            }
            let mut built = locked(&self.calls.built);
            *built = Built {
                number: built.number + 1,
                basis: self.counter.cell.basis(),
                undone: self.counter.cell.counts().undone,
                ceiling: self.ceiling.load(Relaxed),
            };
        }
        let flight = InFlight(&self.calls);
        // As it was when the call was built.
        self.observe();
        self.tell(format_args!("a call goes {half:?}"));
        let (delay, fate) = {
            let mut random = locked(&self.random);
            let delay = random.random_bool(0.7).then(|| random.random_range(0..8));
            (delay, random.random_range(0..100))
        };
        match delay {
            Some(delay) => self.time.sleep(Duration::from_millis(delay)).await,
            None => tokio::task::yield_now().await,
        }
        self.observe();
        if locked(&self.broken).is_some() {
            // There is nothing more to be seen, and drivers that are two may spin.
            resume_unwind(Box::new("the world is over"));
        }
        if is_rough && !self.calls.is_calm.load(Relaxed) {
            match fate {
                0..8 => {
                    self.calls.has_failed.store(true, Relaxed);
                    return Err(StoreError::Timeout(0));
                }
                8..14 => {
                    self.calls.has_failed.store(true, Relaxed);
                    self.dies();
                }
                _ => {}
            }
        }
        self.spoil(half);
        if half == Half::There {
            // It is on its way back.
            std::mem::forget(flight);
        }
        Ok(())
    }

    /// The driver panics, without a word of it in the test's output.
    fn dies(&self) {
        if self.is(Planted::SeatKept) {
            let counter = self.counter.clone();
            tokio::spawn(async move { counter.needs_driver() });
        }
        resume_unwind(Box::new("the driver dies"));
    }

    fn spoil(&self, half: Half) {
        let counter = &self.counter;
        match (self.planted, half) {
            (Some(Planted::LateBasis), Half::Back) => {
                counter.slow().waiters.call_built(counter.cell.basis());
            }
            (Some(Planted::LatecomersDenied), Half::Back) => {
                counter.slow().waiters.call_built(locked(&self.calls.built).basis);
            }
            (Some(Planted::SeatGivenUp), Half::There)
                if self.calls.under_way.load(Relaxed) == 1 =>
            {
                let mut slow = counter.slow();
                slow.holder.failed(&self.leasing.seed, self.leasing.now());
                counter.abandon(&mut slow);
                drop(slow);
                self.leasing.wake(counter);
            }
            _ => {}
        }
    }

    /// When all is over: what is left can be had, and not one unit more.
    async fn settle(&self) {
        self.calls.is_calm.store(true, Relaxed);
        // What was told of the last failure has to be over, and a ceiling that was lowered to be
        // told: what was granted beyond it goes back then.
        self.time.sleep(Duration::from_secs(1)).await;
        self.leasing.refresh(&self.counter, Duration::from_secs(1)).await;
        self.time.sleep(Duration::from_secs(1)).await;
        if locked(&self.broken).is_some() {
            return;
        }
        let free = self.free();
        let Ok(left) = u64::try_from(free) else { return };
        match self.in_time(left + 1).await {
            Some(Acquired::Denied { .. }) => {}
            other => {
                let how = format!("{left} are left, and one more was asked for: {other:?}");
                return self.breaks(Rule::NothingStranded, how);
            }
        }
        match self.in_time(left).await {
            Some(Acquired::Taken(taken)) => taken.spend(left),
            other => {
                let how = format!("{left} are left, and were asked for: {other:?}");
                self.breaks(Rule::NothingStranded, how);
            }
        }
    }
}

/// One call less is under way when this is dropped.
struct InFlight<'a>(&'a Calls);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}
