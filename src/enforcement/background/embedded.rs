//! Without Postgres: carries the journal into the embedded store.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::ids::RunId,
    enforcement::engine::Engine,
    journal::{
        Journal,
        embedded::EmbeddedStore,
        error::JournalError,
        position::Position,
        reader::{ReadLimit, Reader},
        tally::TallyDecoder,
    },
};

const READ: ReadLimit = ReadLimit { records_max: 4_096, bytes_max: 8 << 20 };
/// How often what is synced is taken in.
const ABSORB_EVERY: Duration = Duration::from_millis(100);

/// Takes in what earlier runs left, and deletes their journals. Blocks on the disk.
pub fn take_in_leftovers(
    journal: &Journal,
    store: &mut EmbeddedStore,
    clock: &Clock,
) -> Result<(), JournalError> {
    let mut taken_in = vec![];
    for run in journal.leftover_runs()? {
        let left = journal.recover(run)?;
        let mut reader = left.reader(store.mark(run)).adding_up();
        loop {
            let entries = reader.read(READ)?;
            if entries.is_empty() {
                break;
            }
            store.absorb(run, &entries, clock.now());
        }
        taken_in.push(left);
    }
    store.checkpoint(clock.now())?;
    for left in taken_in {
        let run = left.run();
        left.delete()?;
        store.close_run(run);
    }
    Ok(())
}

/// Takes in this run's journal.
pub struct EmbeddedFlusher {
    engine: Arc<Engine>,
    run: RunId,
    store: Arc<Mutex<EmbeddedStore>>,
    reader: Option<Reader<TallyDecoder>>,
}

impl EmbeddedFlusher {
    /// Begins with an empty journal.
    pub fn new(engine: Arc<Engine>, store: Arc<Mutex<EmbeddedStore>>) -> Self {
        let reader = Some(engine.journal.reader(Position::START).adding_up());
        Self { run: engine.run(), engine, store, reader }
    }

    /// Runs until `stop`; then takes in what is left and writes a checkpoint.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), JournalError> {
        loop {
            let is_last_round = stop.is_cancelled();
            let was_idle = self.step(is_last_round).await?;
            if was_idle && is_last_round {
                return Ok(());
            }
            if was_idle {
                tokio::select! {
                    () = tokio::time::sleep(ABSORB_EVERY) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    async fn step(&mut self, is_last_round: bool) -> Result<bool, JournalError> {
        let Some(mut reader) = self.reader.take() else { return Ok(true) };
        let (store, journal) = (self.store.clone(), self.engine.journal.clone());
        let (run, now) = (self.run, self.engine.clock.now());
        let work = move || -> Result<_, JournalError> {
            let entries = reader.read(READ)?;
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            let absorbed = store.absorb(run, &entries, now);
            if store.is_checkpoint_due() || (is_last_round && entries.is_empty()) {
                store.checkpoint(now)?;
                journal.release(store.checkpointed(run))?;
            }
            Ok((reader, absorbed, entries.is_empty()))
        };
        let (reader, absorbed, was_idle) = match tokio::task::spawn_blocking(work).await {
            Ok(done) => done?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        self.engine.flushed_to.store(reader.position().into(), Ordering::Release);
        self.reader = Some(reader);
        for (key, units) in absorbed.undone {
            // Every tenant is known here.
            self.engine.undo_to(&key, units).await;
        }
        Ok(was_idle)
    }
}
