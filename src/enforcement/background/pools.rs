//! Lets pools that were given another size have all of it, as soon as what is used fits.
//!
//! Every sidecar that knows a member looks at the pool's counters; whoever tells the ledger first is
//! heard, and only what changes anything is told. So a pool settles as long as one of them is there.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::pool::{Pool, PoolCell},
    enforcement::engine::Engine,
    leases::seen::Seen,
    ledger::Ledger,
};

/// How often pools that are settling are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a look waits for each counter: what one call to it may take.
const ANSWER_WAIT: Duration = Duration::from_millis(250);

/// Settles pools until `stop`.
pub async fn keep(engine: Arc<Engine>, ledger: Ledger, stop: CancellationToken) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = stop.cancelled() => return,
        }
        for pool in engine.directory.settling_pools() {
            tokio::select! {
                () = settle(&engine, &ledger, &pool) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

async fn settle(engine: &Engine, ledger: &Ledger, pool: &Pool) {
    let mut taken = vec![];
    for cell in pool.cells() {
        match cell {
            None => taken.push(0),
            Some(cell) => match taken_of(engine, pool, &cell).await {
                Some(units) => taken.push(units),
                None => return,
            },
        }
    }
    if pool.settled_by(&taken).is_none() {
        return;
    }
    match ledger.settle_pool(pool, &taken).await {
        Ok(true) => tracing::info!(pool = %pool.id, ?taken, "more of a resized pool can be had"),
        Ok(false) => {}
        Err(error) => tracing::debug!(pool = %pool.id, %error, "cannot settle a pool now"),
    }
}

/// What is taken of a cell in the current window, once its counter goes by the pool's ceiling in
/// force; `None` while that is not certain.
async fn taken_of(engine: &Engine, pool: &Pool, cell: &PoolCell) -> Option<u64> {
    let state = engine.tenant(&cell.owner, "pool").await.ok()?;
    let terms = state.terms();
    if terms.tenant.version != pool.version {
        return None;
    }
    let meter = terms.plan.meter(pool.meter.as_str())?;
    let now = terms.tenant.now(engine.clock.now());
    let counter = state.current_counter(&terms, meter, None, now, usize::MAX).ok()?;
    counter.touch(engine.leasing.now());
    engine.leasing.refresh(&counter, ANSWER_WAIT).await;
    let Seen { ceiling, taken } = counter.look_at_slow(|slow| slow.seen.as_deref().copied())?;
    (ceiling.version == pool.version).then_some(taken)
}
