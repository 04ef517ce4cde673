//! Who does harm. For each subject a schedule is drawn from the seed: what, how long after the
//! last, and for how long. The same seed draws the same schedules; how what it does to one process
//! falls together with what others do at that moment is up to the machine.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rustix::process::Signal;
use tokio::{
    task::{JoinSet, block_in_place},
    time::{Instant, sleep, timeout_at},
};

use tollgate::domain::ids::PoolId;

use super::{
    proxy::{Mode, Proxy},
    stage::Stage,
    tenants::{CHANGED, POOL_SIZES},
};

/// What is harmed, each by one task and so by one fault at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Sidecar(usize),
    /// The ways of a sidecar.
    Ways(usize),
    Redis,
    Postgres,
    Worker,
    /// A tenant's plan and the pool's size, by the operator.
    Limits(PoolId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// kill -9, and started again.
    Kill,
    /// Postgres: sessions broken off, what is in memory lost, and started again.
    Crash,
    /// Postgres: kill -9 of a session, for which it ends all others and recovers.
    KillSession,
    /// SIGSTOP, and SIGCONT.
    Pause,
    /// Stopped in good order, and started again.
    Restart,
    /// kill -9, closed by an operator as lost, and started again all the same.
    Forfeit,
    /// Redis: kill -9, and started again with nothing.
    Wipe,
    /// Redis: emptied while it runs.
    Flush,
    /// A way behaves otherwise for a while.
    Way(Way, Mode),
    /// An operator changes a plan.
    SetPlan(&'static str),
    /// An operator changes the size of the pool.
    Resize(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToRedis,
    ToPostgres,
    FromClients,
}

/// One fault of a schedule.
#[derive(Clone, Copy, Debug)]
struct Step {
    after: Duration,
    fault: Fault,
    lasts: Duration,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:.1?} {:?} for {:.1?}", self.after, self.fault, self.lasts)
    }
}

impl Fault {
    /// What it counts as in the report.
    fn kind(self, subject: Subject) -> String {
        let whom = match subject {
            Subject::Sidecar(_) => "sidecar",
            Subject::Ways(_) => "way",
            Subject::Redis => "Redis",
            Subject::Postgres => "Postgres",
            Subject::Worker => "worker",
            Subject::Limits(_) => "limit",
        };
        let what = match self {
            Self::Crash => "crashed".to_owned(),
            Self::KillSession => "session killed".to_owned(),
            Self::Kill => "killed".to_owned(),
            Self::Pause => "paused".to_owned(),
            Self::Restart => "restarted in order".to_owned(),
            Self::Forfeit => "killed and given up".to_owned(),
            Self::Wipe => "killed and emptied".to_owned(),
            Self::Flush => "emptied".to_owned(),
            Self::SetPlan(_) => "of a plan changed".to_owned(),
            Self::Resize(_) => "of a pool changed".to_owned(),
            Self::Way(way, mode) => {
                let mode = match mode {
                    Mode::Pass => "mended",
                    Mode::Delay(_) => "slow",
                    Mode::Drop => "swallows all",
                    Mode::DropAnswers => "swallows answers",
                    Mode::Reset => "breaks off",
                    Mode::Refuse => "refuses",
                };
                format!("{way:?} {mode}")
            }
        };
        format!("{whom} {what}")
    }
}

/// The faults of one round.
pub struct Faults {
    counted: Arc<Mutex<BTreeMap<String, u64>>>,
    /// Found on the way: programs that ended without being made to.
    found: Arc<Mutex<Vec<String>>>,
    running: JoinSet<()>,
}

impl Faults {
    /// Begins to do harm to `subjects`, until `until`.
    pub fn start(stage: &Arc<Stage>, subjects: &[Subject], seed: u64, until: Instant) -> Self {
        let counted: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        let found: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut running = JoinSet::new();
        for (subject, stream) in subjects.iter().zip(0..) {
            let random = StdRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9).wrapping_add(stream));
            let harm = Harm {
                stage: stage.clone(),
                subject: *subject,
                random,
                counted: counted.clone(),
                found: found.clone(),
            };
            running.spawn(harm.go_on(until));
        }
        Self { counted, found, running }
    }

    /// Once all of it is over: how much of each kind there was, and what was found.
    pub async fn end(self) -> (BTreeMap<String, u64>, Vec<String>) {
        self.running.join_all().await;
        let counted = std::mem::take(&mut *self.counted.lock().unwrap());
        let found = std::mem::take(&mut *self.found.lock().unwrap());
        (counted, found)
    }
}

struct Harm {
    stage: Arc<Stage>,
    subject: Subject,
    random: StdRng,
    counted: Arc<Mutex<BTreeMap<String, u64>>>,
    found: Arc<Mutex<Vec<String>>>,
}

impl Harm {
    async fn go_on(mut self, until: Instant) {
        loop {
            let step = self.draw();
            if timeout_at(until, sleep(step.after)).await.is_err() {
                return;
            }
            let kind = step.fault.kind(self.subject);
            *self.counted.lock().unwrap().entry(kind).or_default() += 1;
            self.log(&step);
            self.look_for_the_dead();
            self.inflict(step).await;
            self.look_for_the_dead();
        }
    }

    fn draw(&mut self) -> Step {
        let random = &mut self.random;
        let faults: &[Fault] = match self.subject {
            Subject::Sidecar(_) => {
                &[Fault::Kill, Fault::Kill, Fault::Pause, Fault::Restart, Fault::Forfeit]
            }
            Subject::Worker => &[Fault::Kill, Fault::Pause],
            Subject::Redis => &[Fault::Kill, Fault::Wipe, Fault::Flush, Fault::Pause],
            Subject::Postgres => &[Fault::Kill, Fault::Crash, Fault::KillSession, Fault::Pause],
            Subject::Limits(_) => {
                let size = random.random_range(POOL_SIZES);
                &[Fault::SetPlan("basic"), Fault::SetPlan("larger"), Fault::Resize(size)]
            }
            Subject::Ways(_) => {
                let way =
                    *[Way::ToRedis, Way::ToPostgres, Way::FromClients].choose(random).unwrap();
                let delay = Duration::from_millis(random.random_range(5..400));
                let modes =
                    [Mode::Delay(delay), Mode::Drop, Mode::DropAnswers, Mode::Reset, Mode::Refuse];
                &[Fault::Way(way, *modes.choose(random).unwrap())]
            }
        };
        let fault = *faults.choose(random).unwrap();
        let (after, lasts) = match self.subject {
            Subject::Sidecar(_) => (2_000..9_000, 0..3_000),
            Subject::Ways(_) => (500..5_000, 200..4_000),
            Subject::Redis | Subject::Postgres => (4_000..14_000, 0..4_000),
            Subject::Worker | Subject::Limits(_) => (1_000..6_000, 0..3_000),
        };
        let mut millis = |range| Duration::from_millis(random.random_range::<u64, _>(range));
        Step { after: millis(after), fault, lasts: millis(lasts) }
    }

    async fn inflict(&self, step: Step) {
        match self.subject {
            Subject::Sidecar(number) => self.program(number, step).await,
            Subject::Worker => self.program(self.stage.sidecars.len(), step).await,
            Subject::Redis => self.redis(step).await,
            Subject::Postgres => self.postgres(step).await,
            Subject::Ways(number) => self.way(number, step).await,
            Subject::Limits(pool) => self.limit(pool, step),
        }
    }

    async fn program(&self, number: usize, step: Step) {
        let stage = &self.stage;
        let program = stage.programs().nth(number).unwrap();
        match step.fault {
            Fault::Pause => {
                program.pause();
                sleep(step.lasts).await;
                program.resume();
            }
            Fault::Restart => {
                if let Err(found) = block_in_place(|| program.stop()) {
                    self.found.lock().unwrap().push(found);
                }
                sleep(step.lasts).await;
                program.start(&stage.processes);
            }
            fault => {
                program.kill();
                if fault == Fault::Forfeit
                    && let Some(run) = stage.run_of(number)
                {
                    // Refused while a store is away.
                    let _ = stage.operate(&["run", "close", &run, "--forfeit", "--force"]);
                }
                sleep(step.lasts).await;
                program.start(&stage.processes);
            }
        }
    }

    async fn redis(&self, step: Step) {
        let stage = &self.stage;
        match step.fault {
            Fault::Pause => {
                stage.signal_redis(Signal::STOP);
                sleep(step.lasts).await;
                stage.signal_redis(Signal::CONT);
            }
            Fault::Flush => stage.flush_redis(),
            fault => {
                stage.kill_redis();
                if fault == Fault::Wipe {
                    stage.wipe_redis();
                }
                sleep(step.lasts).await;
                stage.start_redis();
            }
        }
    }

    async fn postgres(&self, step: Step) {
        let stage = &self.stage;
        match step.fault {
            Fault::Pause => {
                stage.signal_postgres(Signal::STOP);
                sleep(step.lasts).await;
                stage.signal_postgres(Signal::CONT);
            }
            Fault::KillSession => stage.kill_session_of_postgres().await,
            fault => {
                match fault {
                    Fault::Kill => stage.kill_postgres(),
                    _ => stage.crash_postgres(),
                }
                sleep(step.lasts).await;
                stage.start_postgres();
            }
        }
    }

    async fn way(&self, number: usize, step: Step) {
        let Fault::Way(way, mode) = step.fault else { return };
        let sidecar = &self.stage.sidecars[number];
        let proxy: &Proxy = match way {
            Way::ToRedis => &sidecar.to_redis,
            Way::ToPostgres => &sidecar.to_postgres,
            Way::FromClients => &sidecar.from_clients,
        };
        proxy.set(mode);
        sleep(step.lasts).await;
        proxy.set(Mode::Pass);
    }

    fn limit(&self, pool: PoolId, step: Step) {
        // Refused where it is so already, and while Postgres is away.
        let _ = match step.fault {
            Fault::SetPlan(plan) => {
                self.stage.operate(&["tenant", "set-plan", CHANGED, "--plan", plan])
            }
            Fault::Resize(size) => {
                let (pool, size) = (pool.to_string(), size.to_string());
                self.stage.operate(&["pool", "resize", &pool, &size])
            }
            _ => return,
        };
    }

    fn look_for_the_dead(&self) {
        let number = match self.subject {
            Subject::Sidecar(number) => number,
            Subject::Worker => self.stage.sidecars.len(),
            _ => return,
        };
        let program = self.stage.programs().nth(number).unwrap();
        if let Some(found) = program.ended_by_itself() {
            self.found.lock().unwrap().push(found);
            program.start(&self.stage.processes);
        }
    }

    /// Beside what the programs log, so that a failure can be read together with it.
    fn log(&self, step: &Step) {
        use std::io::Write;
        let path = self.stage.dir().join("faults.log");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        #[allow(clippy::disallowed_methods)] // The programs log by the real clock too.
        let now = jiff::Timestamp::now();
        writeln!(file, "{now} {:?} {step}", self.subject).unwrap();
    }
}
