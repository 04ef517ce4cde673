//! What the operator's tools need of Postgres.

use std::time::Duration;

use anyhow::{Context, bail};

use crate::{
    config::{Settings, SettingsArgs},
    domain::ids::AccountId,
    ledger::{Ledger, changes::Author, tenants::PAGE_MAX},
};

/// How long Postgres may take to take a connection.
pub const REACH_WAIT: Duration = Duration::from_secs(5);

/// Where the ledger is: the settings of the section `ledger`.
#[derive(clap::Args, Debug)]
pub struct LedgerArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

impl LedgerArgs {
    /// Connects, and makes sure that the schema is the one that this binary knows.
    pub async fn open(&self) -> anyhow::Result<Ledger> {
        Ok(self.open_with_settings().await?.0)
    }

    /// As [`Self::open`], with all settings, for commands that need more of them.
    pub async fn open_with_settings(&self) -> anyhow::Result<(Ledger, Settings)> {
        let settings = self.settings.load()?.settings;
        if settings.ledger.url.is_empty() {
            bail!("there is no ledger to ask; give --ledger-url or set TOLLGATE_LEDGER_URL");
        }
        let ledger = Ledger::new(&settings.ledger)?;
        reach(&ledger).await?;
        ledger.check_schema().await.context("cannot use the ledger")?;
        Ok((ledger, settings))
    }
}

/// Fails with the cause when Postgres cannot be reached.
pub async fn reach(ledger: &Ledger) -> anyhow::Result<()> {
    Ok(ledger.reach(REACH_WAIT).await?)
}

/// Who changes something, and why; kept in the audit log.
#[derive(clap::Args, Debug)]
pub struct AuthorArgs {
    /// Who does it, for the audit log; the login name unless given
    #[arg(long, env = "TOLLGATE_ACTOR")]
    actor: Option<String>,
    /// Why, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

impl AuthorArgs {
    /// The name that goes into the audit log.
    pub fn actor(&self) -> String {
        let login = || std::env::var("USER").unwrap_or_else(|_| "operator".to_owned());
        format!("cli:{}", self.actor.clone().unwrap_or_else(login))
    }

    /// The author by the name that [`Self::actor`] gave.
    pub fn author<'a>(&'a self, actor: &'a str) -> Author<'a> {
        Author { actor, reason: &self.reason }
    }
}

/// The test clock of `account`: `None` when there is no such account, `Some(None)` on real time.
pub async fn test_clock(
    ledger: &Ledger,
    account: &AccountId,
) -> anyhow::Result<Option<Option<jiff::Timestamp>>> {
    let mut after = None;
    loop {
        let page = ledger.list_tenants(account.as_str(), after.as_ref(), PAGE_MAX).await?;
        if let Some(listed) = page.iter().find(|listed| listed.tenant.account == *account) {
            return Ok(Some(listed.tenant.test_clock));
        }
        match page.last() {
            Some(last) => after = Some(last.tenant.id.clone()),
            None => return Ok(None),
        }
    }
}
