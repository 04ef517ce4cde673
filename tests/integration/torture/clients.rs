//! Clients that work while everything breaks: each sends, sends again under the same key, here or
//! elsewhere, and notes what it is told.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::task::JoinSet;
use tollgate::proto::v1::Durability;
use tonic::{Code, Status};

use super::{
    operation::{Answer, Batch, Operation, Verb, fate_of_failure, reason, release, reserve},
    stage::{ANSWER_WAIT, Stage},
    tenants::{COMPOSED, KEYED, LOOSE, MEMBERS, POOL, SEATED},
    truth::{Fate, Truth},
};
use crate::sidecars::cluster::Client;

/// How many there are.
const CLIENTS: u64 = 20;
/// How often an operation is sent before its client goes on to the next.
const ATTEMPTS_MAX: u32 = 4;
/// A client's rest between two operations, milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 5..50;
/// How long a hold is asked for, seconds.
const HOLD_TTL_S: i64 = 2;

/// What `work` takes of `calls`: as `catalog.yaml` says.
const CALLS_OF_WORK: i64 = 2;
/// The share of work without keys.
const LOOSE_SHARE: (u32, u32) = (1, 6);

/// Clients at work.
pub struct Load {
    is_over: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts them; what they do is drawn from `seed`.
    pub fn start(stage: &Stage, truth: &Arc<Truth>, seed: u64) -> Self {
        let is_over: Arc<AtomicBool> = Arc::default();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let worker = Worker {
                name: format!("{seed:x}-{number}"),
                made: 0,
                random: StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number)),
                ways: (0..stage.sidecars.len()).map(|it| stage.client(it, ANSWER_WAIT)).collect(),
                truth: truth.clone(),
                latest: None,
                own: BTreeMap::new(),
            };
            clients.spawn(worker.work(is_over.clone()));
        }
        Self { is_over, clients }
    }

    /// Lets them end what they have begun.
    pub async fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.clients.join_all().await;
    }
}

struct Worker {
    name: String,
    /// Operations so far.
    made: u64,
    random: StdRng,
    /// To each sidecar.
    ways: Vec<Client>,
    truth: Arc<Truth>,
    /// The latest batch that is known to count.
    latest: Option<Batch>,
    /// What is this client's to give back: of levels, by tenant and meter.
    own: BTreeMap<(&'static str, &'static str), i64>,
}

impl Worker {
    async fn work(mut self, is_over: Arc<AtomicBool>) {
        while !is_over.load(Ordering::SeqCst) {
            match self.random.random_range(0..100) {
                0..20 => self.consume("calls", 3).await,
                20..32 => self.consume("bursts", 3).await,
                32..37 => self.consume("traffic", 20).await,
                37..50 => self.record().await,
                50..60 => self.move_in_or_out((SEATED, "seats")).await,
                60..72 => {
                    let member = *MEMBERS.choose(&mut self.random).unwrap();
                    self.move_in_or_out((member, POOL.1)).await;
                }
                72..85 => self.hold().await,
                85..93 => self.compose().await,
                _ => self.repeat().await,
            }
            let pause = self.random.random_range(PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn consume(&mut self, meter: &'static str, amount_max: i64) {
        let tenant = self.tenant();
        let amount = self.random.random_range(1..=amount_max);
        let operation = self.operation(&tenant, meter, amount);
        let batch = self.batch(vec![operation], Verb::Consume);
        self.carry_out(batch).await;
    }

    /// Usage after the fact, of several meters and tenants at once.
    async fn record(&mut self) {
        let is_loose = self.is_loose();
        let length = self.random.random_range(1..=8);
        let operations = (0..length).map(|_| {
            let tenant = if is_loose { LOOSE } else { *KEYED.choose(&mut self.random).unwrap() };
            let meter = *["traffic", "pulses"].choose(&mut self.random).unwrap();
            let amount = self.random.random_range(1..=9);
            self.operation(tenant, meter, amount)
        });
        let operations: Vec<_> = operations.collect();
        let batch = self.batch(operations, Verb::Record);
        self.carry_out(batch).await;
    }

    /// Takes units of a level, or gives back some of those that are certainly its own.
    async fn move_in_or_out(&mut self, level: (&'static str, &'static str)) {
        let (tenant, meter) = level;
        let own = self.own.get(&level).copied().unwrap_or(0);
        if own > 0 && self.random.random_ratio(1, 2) {
            let amount = self.random.random_range(1..=own);
            self.own.insert(level, own - amount);
            let operation = self.operation(tenant, meter, -amount);
            let batch = self.batch(vec![operation], Verb::Record);
            self.carry_out(batch).await;
            return;
        }
        let amount = self.random.random_range(1..=3);
        let operation = self.operation(tenant, meter, amount);
        let batch = self.batch(vec![operation], Verb::Consume);
        if self.carry_out(batch).await == Fate::Counted {
            self.own.insert(level, own + amount);
        }
    }

    /// The operation of the catalog, whose parts share one key.
    async fn compose(&mut self) {
        let amount = self.random.random_range(1..=20);
        let fixed = self.operation(COMPOSED, "calls", CALLS_OF_WORK);
        let open = Operation { meter: "traffic", amount, ..fixed.clone() };
        let batch = self.batch(vec![fixed, open], Verb::Compose);
        self.carry_out(batch).await;
    }

    /// Holds units, and uses them, gives them back or forgets them.
    async fn hold(&mut self) {
        let tenant = self.tenant();
        let amount = self.random.random_range(1..=5);
        let held = self.operation(&tenant, "jobs", amount);
        let way = self.way();
        let answer = reserve(way.clone(), &held, HOLD_TTL_S).await;
        self.truth.book().tally.sent += 1;
        let reservation = match answer {
            Ok(Some(reservation)) => reservation,
            Ok(None) => {
                self.truth.book().tally.denied += 1;
                return;
            }
            Err(status) => {
                self.note_failure(&status);
                return;
            }
        };
        let busy = self.random.random_range(0..200);
        tokio::time::sleep(Duration::from_millis(busy)).await;
        match self.random.random_range(0..10) {
            0..6 => {
                let used = self.random.random_range(1..=amount);
                let operation = self.operation(&tenant, "jobs", used);
                let verb = Verb::Commit { reservation: reservation.id };
                let batch = self.batch(vec![operation], verb);
                self.carry_out(batch).await;
            }
            6..9 => {
                let released = release(way, &tenant, &reservation.id).await;
                if let Err(status) = released {
                    self.note_failure(&status);
                }
            }
            // It lapses by itself.
            _ => {}
        }
    }

    /// Sends again what is known to count.
    async fn repeat(&mut self) {
        let Some(batch) = self.latest.clone() else { return };
        let answer = batch.send(self.way()).await;
        {
            let mut book = self.truth.book();
            book.tally.sent += 1;
            book.tally.repeated += 1;
        }
        if let Err(status) = answer {
            self.note_failure(&status);
        }
    }

    /// Sends a batch until its fate is known, or for as long as clients have patience.
    async fn carry_out(&mut self, batch: Batch) -> Fate {
        self.truth.book().begun(&batch);
        let mut fate = Fate::NotCounted;
        for attempt in 0..ATTEMPTS_MAX {
            {
                let mut book = self.truth.book();
                book.tally.sent += 1;
                book.tally.retried += u64::from(attempt > 0);
            }
            let way = self.way();
            let answer = match batch.send(way).await {
                Ok(answer) => answer,
                Err(status) => {
                    self.note_failure(&status);
                    Answer::of(fate_of_failure(&status))
                }
            };
            match answer.fate {
                Fate::Counted => {
                    let is_commit = matches!(batch.verb, Verb::Commit { .. });
                    // Who does not know what became of the first try does not know whether that was
                    // in time.
                    let may_be_late = answer.is_late || fate == Fate::Unknown;
                    self.truth.book().counted(&batch, is_commit && may_be_late);
                    if batch.is_keyed() {
                        self.latest = Some(batch);
                    }
                    return Fate::Counted;
                }
                Fate::Denied if fate == Fate::NotCounted => {
                    self.truth.book().tally.denied += 1;
                    return Fate::Denied;
                }
                // An earlier try may have been admitted where this one was not sent.
                Fate::Denied => break,
                Fate::NotCounted => {}
                Fate::Unknown => {
                    fate = Fate::Unknown;
                    if !batch.is_keyed() {
                        break;
                    }
                }
            }
            let pause = self.random.random_range(20..300);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        let mut book = self.truth.book();
        match fate {
            Fate::Unknown => book.lost(batch),
            _ => book.tally.refused += 1,
        }
        fate
    }

    fn is_loose(&mut self) -> bool {
        let (of, all) = LOOSE_SHARE;
        self.random.random_ratio(of, all)
    }

    fn tenant(&mut self) -> String {
        let is_loose = self.is_loose();
        let tenant = if is_loose { LOOSE } else { *KEYED.choose(&mut self.random).unwrap() };
        tenant.to_owned()
    }

    fn operation(&mut self, tenant: &str, meter: &'static str, amount: i64) -> Operation {
        self.made += 1;
        let key = match tenant {
            LOOSE => String::new(),
            _ => format!("{}-{}", self.name, self.made),
        };
        Operation { tenant: tenant.to_owned(), meter, amount, key }
    }

    fn batch(&mut self, operations: Vec<Operation>, verb: Verb) -> Batch {
        let levels = [Durability::Sync, Durability::Written, Durability::Unspecified];
        Batch { operations, verb, durability: *levels.choose(&mut self.random).unwrap() }
    }

    fn way(&mut self) -> Client {
        self.ways.choose(&mut self.random).unwrap().clone()
    }

    fn note_failure(&self, status: &Status) {
        note_failure(&self.truth, status);
    }
}

/// Counts a failed call. Some are never right, whatever is broken.
pub fn note_failure(truth: &Truth, status: &Status) {
    let reason = reason(status);
    let mut book = truth.book();
    let shown = reason.as_deref().unwrap_or("no answer");
    *book.failures.entry(format!("{:?} {shown}", status.code())).or_default() += 1;
    if fate_of_failure(status) == Fate::Unknown {
        book.tally.unknown += 1;
    }
    let is_wrong = match status.code() {
        Code::Internal => reason.is_some(),
        Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition => true,
        _ => false,
    };
    if is_wrong {
        book.differences.push(format!("a call failed: {status:?}"));
    }
}
