//! A few connections to one Redis, each checked before it serves.
//!
//! Callers never connect and never wait for a connection: they get one that lives or an error at
//! once. Connecting, checking and giving up is done by [`Connections::run`]. That is the circuit
//! breaker: a connection that breaks, or times out a few times in a row, is taken out of service,
//! and it comes back only after a new one has answered. No library reconnects behind our back,
//! because a new connection may lead to a server that has lost the data.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use futures::future::join_all;
use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    config::RedisConfig,
    error::StoreError,
    identify::{Look, identify, look},
    identity::Identity,
    metrics::{Kind, StoreMetrics},
};

/// First pause after a failed attempt to connect; it doubles up to the configured bound.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);

/// The connections to one server.
pub(super) struct Connections {
    client: redis::Client,
    config: RedisConfig,
    slots: Vec<Slot>,
    turn: AtomicUsize,
    /// The counters that the latest connection found.
    identity: watch::Sender<Option<Identity>>,
    /// Why no connection serves; `None` while one does.
    trouble: watch::Sender<Option<Arc<str>>>,
    /// Counters that were seen on a server that had been demoted. Guards only this.
    distrusted: Mutex<Option<Identity>>,
    pub(super) metrics: StoreMetrics,
}

#[derive(Default)]
struct Slot {
    live: ArcSwapOption<Live>,
    given_up: Notify,
}

/// A connection that has been checked.
struct Live {
    connection: MultiplexedConnection,
    identity: Identity,
    timeouts: AtomicU32,
    in_flight: Semaphore,
}

impl Connections {
    pub(super) fn new(config: RedisConfig) -> Result<Self, StoreError> {
        let client = redis::Client::open(config.url.as_str())?;
        let slots = (0..config.connections.max(1)).map(|_| Slot::default()).collect();
        Ok(Self {
            client,
            config,
            slots,
            turn: AtomicUsize::new(0),
            identity: watch::Sender::new(None),
            trouble: watch::Sender::new(Some("no connection has been made yet".into())),
            distrusted: Mutex::default(),
            metrics: StoreMetrics::register(),
        })
    }

    pub(super) fn client(&self) -> &redis::Client {
        &self.client
    }

    pub(super) fn config(&self) -> &RedisConfig {
        &self.config
    }

    pub(super) fn identity(&self) -> watch::Receiver<Option<Identity>> {
        self.identity.subscribe()
    }

    pub(super) fn trouble(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.trouble.subscribe()
    }

    /// Keeps the connections until `token` is cancelled.
    pub(super) async fn run(&self, token: &CancellationToken) {
        token.run_until_cancelled(join_all(self.slots.iter().map(|slot| self.keep(slot)))).await;
        for slot in &self.slots {
            slot.live.store(None);
        }
        self.count("this process is stopping");
    }

    /// Runs `act` on a connection that serves `identity`.
    pub(super) async fn call<T>(
        &self,
        kind: Kind,
        epoch: u64,
        identity: Option<&Identity>,
        act: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let result = self.try_call(epoch, identity, act).await;
        self.metrics.called(kind, &result, started.elapsed());
        result
    }

    /// Runs `act` on any connection that lives, whatever counters it leads to.
    pub(super) async fn call_any<T>(
        &self,
        kind: Kind,
        act: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let result = match self.pick_any() {
            Some((slot, live)) => self.act(slot, live, act).await,
            None => Err(StoreError::Unreachable),
        };
        self.metrics.called(kind, &result, started.elapsed());
        result
    }

    /// Takes the connections that serve `identity` out of service, so that new ones look at the
    /// server again.
    pub(super) fn look_again(&self, identity: &Identity) {
        for slot in &self.slots {
            if let Some(live) = slot.live.load_full().filter(|live| live.identity == *identity) {
                self.give_up(slot, &live, "the counters' life has changed");
            }
        }
    }

    async fn try_call<T>(
        &self,
        epoch: u64,
        identity: Option<&Identity>,
        act: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, StoreError> {
        let (slot, live) = self.pick(epoch, identity)?;
        self.act(slot, live, act).await
    }

    async fn act<T>(
        &self,
        slot: &Slot,
        live: Arc<Live>,
        act: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, StoreError> {
        let _permit = live.in_flight.try_acquire().map_err(|_| StoreError::Overloaded)?;
        let mut connection = live.connection.clone();
        let patience = Duration::from_millis(self.config.call_timeout_ms);
        let reason = match timeout(patience, act(&mut connection)).await {
            Ok(Ok(answer)) => {
                live.timeouts.store(0, Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) if error.code().is_some() && !error.is_unrecoverable_error() => {
                // The server is there and says no.
                if error.code() == Some("READONLY") {
                    self.demoted(slot, &live);
                }
                return Err(error.into());
            }
            Ok(Err(error)) => {
                self.give_up(slot, &live, &error.to_string());
                return Err(error.into());
            }
            Err(_) => live.timeouts.fetch_add(1, Relaxed) + 1,
        };
        if reason >= self.config.timeouts_max {
            self.give_up(slot, &live, "it does not answer in time");
        }
        Err(StoreError::Timeout(self.config.call_timeout_ms))
    }

    fn pick(
        &self,
        epoch: u64,
        identity: Option<&Identity>,
    ) -> Result<(&Slot, Arc<Live>), StoreError> {
        let identity = identity.ok_or(StoreError::NotServed { epoch })?;
        let turn = self.turn.fetch_add(1, Relaxed);
        let mut error = StoreError::Unreachable;
        for index in 0..self.slots.len() {
            let slot = &self.slots[(turn + index) % self.slots.len()];
            match slot.live.load_full() {
                Some(live) if live.identity == *identity => return Ok((slot, live)),
                Some(_) => error = StoreError::NotServed { epoch },
                None => {}
            }
        }
        Err(error)
    }

    fn pick_any(&self) -> Option<(&Slot, Arc<Live>)> {
        let turn = self.turn.fetch_add(1, Relaxed);
        (0..self.slots.len()).find_map(|index| {
            let slot = &self.slots[(turn + index) % self.slots.len()];
            slot.live.load_full().map(|live| (slot, live))
        })
    }

    fn give_up(&self, slot: &Slot, live: &Arc<Live>, reason: &str) {
        let previous = slot.live.compare_and_swap(live, None);
        if previous.as_ref().is_some_and(|previous| Arc::ptr_eq(previous, live)) {
            self.lost(slot, live, reason);
        }
    }

    /// The server has become a replica: what it holds from now on is another's.
    fn demoted(&self, slot: &Slot, live: &Arc<Live>) {
        *self.distrusted() = Some(live.identity.clone());
        self.give_up(slot, live, "the server is no primary any more");
    }

    fn distrusted(&self) -> MutexGuard<'_, Option<Identity>> {
        self.distrusted.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn lost(&self, slot: &Slot, live: &Live, reason: &str) {
        tracing::warn!(run_id = live.identity.run_id, reason, "gave up a connection to Redis");
        self.metrics.connections_lost.increment(1);
        self.count(reason);
        slot.given_up.notify_one();
    }

    /// Counts the connections that serve; `reason` is why the last change came about.
    fn count(&self, reason: &str) {
        let live = self.slots.iter().filter(|slot| slot.live.load().is_some()).count();
        self.metrics.connections.set(live as f64);
        let trouble = (live == 0).then(|| reason.into());
        self.trouble.send_if_modified(|known| {
            let changed = *known != trouble;
            *known = trouble;
            changed
        });
    }

    /// Keeps one slot filled.
    async fn keep(&self, slot: &Slot) {
        let mut pause = RECONNECT_PAUSE_MIN;
        let mut failures = 0_u32;
        let pause_max = Duration::from_millis(self.config.reconnect_pause_ms_max);
        loop {
            match self.connect().await {
                Ok(live) => {
                    pause = RECONNECT_PAUSE_MIN;
                    failures = 0;
                    self.serve(slot, Arc::new(live)).await;
                }
                Err(error) => {
                    failures += 1;
                    // Once per outage at a level that is seen; the rest for those who look.
                    match failures {
                        1 => tracing::warn!(%error, "cannot connect to Redis"),
                        _ => tracing::debug!(%error, failures, "cannot connect to Redis"),
                    }
                    self.count(&error.to_string());
                    tokio::time::sleep(pause.min(pause_max)).await;
                    pause = (pause * 2).min(pause_max);
                }
            }
        }
    }

    /// Puts a connection into service until it is given up.
    async fn serve(&self, slot: &Slot, live: Arc<Live>) {
        let identity = live.identity.clone();
        slot.live.store(Some(Arc::clone(&live)));
        self.count("");
        self.identity.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&identity);
            *known = Some(identity);
            changed
        });
        let heartbeat = Duration::from_millis(self.config.heartbeat_ms);
        while slot.live.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, &live)) {
            if timeout(heartbeat, slot.given_up.notified()).await.is_ok() {
                continue;
            }
            let mut connection = live.connection.clone();
            let patience = Duration::from_millis(self.config.connect_timeout_ms);
            match timeout(patience, look(&mut connection, &live.identity)).await {
                Ok(Ok(Look::Same)) => {}
                Ok(Ok(Look::Changed)) => {
                    self.give_up(slot, &live, "the server has other counters than before");
                }
                Ok(Ok(Look::Demoted)) => self.demoted(slot, &live),
                Ok(Err(error)) => self.give_up(slot, &live, &error.to_string()),
                Err(_) => self.give_up(slot, &live, "it does not answer in time"),
            }
        }
    }

    /// Opens a connection and finds out whose it is, before anything else is sent on it.
    async fn connect(&self) -> Result<Live, StoreError> {
        let patience_ms = self.config.connect_timeout_ms;
        timeout(Duration::from_millis(patience_ms), async {
            // Our own timeouts hold; the library's would only be a second set.
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None);
            let mut connection =
                self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let distrusted = self.distrusted().clone();
            let identity = identify(&mut connection, distrusted.as_ref()).await?;
            Ok(Live {
                connection,
                identity,
                timeouts: AtomicU32::new(0),
                in_flight: Semaphore::new(self.config.calls_in_flight_max),
            })
        })
        .await
        .unwrap_or(Err(StoreError::Timeout(patience_ms)))
    }
}
