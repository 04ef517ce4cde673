//! Clients that go on working while a test does harm, and that know what became of each request.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;
use tollgate::proto::v1::{CheckQuotaRequest, Mode, QuotaReason, RecordUsageRequest};
use tonic::Status;

use super::cluster::{Client, Sidecar, event, quota};

/// Clients of each sidecar.
const CLIENTS: u64 = 4;
/// A client's rest between two requests: no limit is used up while a test does its harm.
const PAUSE: Duration = Duration::from_millis(20);
/// How long something may take to be seen in what clients are told.
const SEEN_MAX: Duration = Duration::from_secs(30);

/// What clients do, by turns: tenant, meter, largest amount, and whether they ask first.
const WORK: [(&str, &str, i64, Verb); 4] = [
    ("acme", "calls", 3, Verb::Consume),
    ("acme", "tokens", 100, Verb::Consume),
    ("acme", "tokens", 100, Verb::Record),
    ("full", "calls", 1, Verb::Consume),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Consume,
    Record,
}

/// A tenant and a meter.
pub type Used = (&'static str, &'static str);

/// What clients know.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Units that count.
    pub counted: BTreeMap<Used, i64>,
    /// Answers to checks.
    pub answers: BTreeMap<(Used, QuotaReason), u64>,
    /// Requests without an answer.
    unknown: Vec<Request>,
    /// The longest that an answer took.
    pub slowest: Duration,
}

/// Whether a sidecar is going to be killed: then its clients end with a request of unknown fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lives,
    Dies,
}

#[derive(Clone, Debug)]
struct Request {
    used: Used,
    verb: Verb,
    amount: i64,
    key: String,
}

impl Request {
    /// The reason of a check's answer.
    async fn send(&self, mut client: Client) -> Result<Option<QuotaReason>, Status> {
        let (tenant, meter) = self.used;
        match self.verb {
            Verb::Consume => {
                let request = CheckQuotaRequest {
                    idempotency_key: self.key.clone(),
                    ..quota(Mode::Consume, tenant, meter, self.amount)
                };
                Ok(Some(client.check_quota(request).await?.into_inner().reason()))
            }
            Verb::Record => {
                let events = vec![event(tenant, meter, self.amount, &self.key)];
                let request = RecordUsageRequest { events, ..Default::default() };
                client.record_usage(request).await?;
                Ok(None)
            }
        }
    }
}

impl Tally {
    /// Units that clients know to count.
    pub fn counted(&self, used: Used) -> i64 {
        self.counted.get(&used).copied().unwrap_or(0)
    }

    /// Adds units that the test itself has used.
    pub fn add(&mut self, used: Used, units: i64) {
        *self.counted.entry(used).or_default() += units;
    }

    /// How often checks were answered for that reason.
    pub fn answered(&self, used: Used, reason: QuotaReason) -> u64 {
        self.answers.get(&(used, reason)).copied().unwrap_or(0)
    }

    /// Adds what the clients of another load know.
    pub fn merge(&mut self, other: Self) {
        for (used, units) in other.counted {
            self.add(used, units);
        }
        for (answer, times) in other.answers {
            *self.answers.entry(answer).or_default() += times;
        }
        self.unknown.extend(other.unknown);
        self.slowest = self.slowest.max(other.slowest);
    }

    fn note(&mut self, request: &Request, reason: Option<QuotaReason>) {
        use QuotaReason::{AllowedByOutagePolicy, Overage, Unlimited, WithinLimit};
        if let Some(reason) = reason {
            *self.answers.entry((request.used, reason)).or_default() += 1;
        }
        let allowing = [WithinLimit, Unlimited, Overage, AllowedByOutagePolicy];
        if reason.is_none_or(|reason| allowing.contains(&reason)) {
            self.add(request.used, request.amount);
        }
    }

    /// Sends every request of unknown fate again, under its key, to any of `sidecars`; afterwards
    /// the fate of all is known: what is denied now was not counted then, unless the limit has been
    /// used up since.
    pub async fn settle(&mut self, sidecars: &[Sidecar]) {
        for (number, request) in std::mem::take(&mut self.unknown).into_iter().enumerate() {
            let client = sidecars[number % sidecars.len()].client.clone();
            self.note(&request, request.send(client).await.unwrap());
        }
    }
}

/// Clients at work.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts clients of each of `sidecars`. `name` is unlike that of any other load of the test.
    pub fn start(name: &str, sidecars: &[(&Sidecar, Fate)]) -> Self {
        let mut load = Self { tally: Arc::default(), is_over: Arc::default(), clients: vec![] };
        for (place, (sidecar, fate)) in sidecars.iter().enumerate() {
            for number in 0..CLIENTS {
                let worker = Worker {
                    client: sidecar.client.clone(),
                    fate: *fate,
                    name: format!("{name}-{place}-{number}"),
                    random: StdRng::seed_from_u64(number),
                    tally: load.tally.clone(),
                    is_over: load.is_over.clone(),
                };
                load.clients.push(tokio::spawn(worker.work()));
            }
        }
        load
    }

    /// What clients know by now.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap()
    }

    /// Waits until clients have seen something.
    pub async fn until(&self, what: &str, is_seen: impl Fn(&Tally) -> bool) {
        let started = Instant::now();
        while !is_seen(&self.tally()) {
            assert!(started.elapsed() < SEEN_MAX, "{what}: not seen in {:?}", self.tally());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until more units are counted than now.
    pub async fn until_more(&self, used: Used) {
        let before = self.tally().counted(used);
        self.until(&format!("more of {used:?}"), |tally| tally.counted(used) > before).await;
    }

    /// Waits until another check is answered for that reason.
    pub async fn until_answered(&self, used: Used, reason: QuotaReason) {
        let before = self.tally().answered(used, reason);
        let is_seen = |tally: &Tally| tally.answered(used, reason) > before;
        self.until(&format!("{used:?} {reason:?}"), is_seen).await;
    }

    /// Lets the clients end what they have begun. Fails if a sidecar that was to live has refused
    /// anything.
    pub async fn stop(self) -> Tally {
        self.is_over.store(true, Ordering::SeqCst);
        join_all(self.clients).await.into_iter().for_each(|ended| ended.unwrap());
        let tally = self.tally.lock().unwrap();
        tally.clone()
    }
}

struct Worker {
    client: Client,
    fate: Fate,
    name: String,
    random: StdRng,
    tally: Arc<Mutex<Tally>>,
    is_over: Arc<AtomicBool>,
}

impl Worker {
    async fn work(mut self) {
        for turn in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let (tenant, meter, amount_max, verb) = WORK[turn % WORK.len()];
            let request = Request {
                used: (tenant, meter),
                verb,
                amount: self.random.random_range(1..=amount_max),
                key: format!("{}-{turn}", self.name),
            };
            let started = Instant::now();
            let answer = request.send(self.client.clone()).await;
            if self.note(request, answer, started.elapsed()) == Next::End {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn note(
        &self,
        request: Request,
        answer: Result<Option<QuotaReason>, Status>,
        took: Duration,
    ) -> Next {
        let mut tally = self.tally.lock().unwrap();
        tally.slowest = tally.slowest.max(took);
        match answer {
            Ok(reason) => tally.note(&request, reason),
            Err(_) if self.fate == Fate::Dies => {
                tally.unknown.push(request);
                return Next::End;
            }
            Err(status) => panic!("{request:?}: {status:?}"),
        }
        Next::GoOn
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}
