//! Who may call the sidecar: the tokens, and the task that follows their changes.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::bail;

use crate::{
    api::access::{Access, config::AccessMode, follow::Sources},
    clock::Clock,
    config::Settings,
    ledger::{Ledger, config::LedgerConfig},
    lifecycle::{
        readiness::{Condition, Readiness},
        tasks::TaskGroup,
    },
};

/// How long the tokens are waited for at the start.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(3);
/// How often tokens are looked at: what is revoked is refused within a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(400);

/// Refuses a set-up in which no token could ever be known.
pub fn check(settings: &Settings) -> anyhow::Result<()> {
    let access = &settings.access;
    let has_tokens = access.tokens_file.is_some() || !settings.ledger.url.is_empty();
    if access.mode == AccessMode::Tokens && !has_tokens {
        bail!(
            "calls need a token (access.mode), and there is nowhere to know tokens from: give \
             --access-tokens-file FILE (`tollgate token create --print-entry` makes its entries), \
             or let in whoever can reach the ports with --access-mode open"
        );
    }
    Ok(())
}

/// Reads the tokens and keeps following them, or says loudly that nobody is asked for one.
pub async fn start(
    settings: &Settings,
    readiness: &Readiness,
    tasks: &TaskGroup,
) -> anyhow::Result<Arc<Access>> {
    let access = Access::new(settings.access.clone(), Clock::System);
    let condition = readiness.condition("access");
    if access.is_open() {
        tracing::warn!(
            "access is open: whoever can reach the ports may do everything; set access.mode to \
             tokens to ask for them"
        );
        condition.degrade("open: whoever can reach the ports may do everything");
        hold(condition, tasks);
        return Ok(access);
    }
    let ledger = match settings.ledger.url.is_empty() {
        true => None,
        // One look at a time; two is the least that a ledger takes.
        false => {
            let config = LedgerConfig { connections_max: 2, ..settings.ledger.clone() };
            Some(Ledger::new(&config)?)
        }
    };
    let data_dir: &Path = &settings.journal.data_dir;
    let mut sources = Sources::open(access.clone(), ledger, data_dir, condition)?;
    // Longer only when Postgres is away; then those are let in who were known before.
    let _ = tokio::time::timeout(FIRST_LOOK_MAX, sources.look()).await;
    tasks.run("tokens", move |stop| async move {
        sources.follow(LOOK_INTERVAL, stop).await;
        Ok::<_, std::convert::Infallible>(())
    });
    Ok(access)
}

/// A condition holds as long as somebody has it.
fn hold(condition: Condition, tasks: &TaskGroup) {
    tasks.run("access", move |stop| async move {
        stop.cancelled().await;
        drop(condition);
        Ok::<_, std::convert::Infallible>(())
    });
}
