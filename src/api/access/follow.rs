//! Keeps the tokens in memory as the ledger and the file have them, and a copy on disk, so that a
//! sidecar that starts while Postgres is away knows whom it knew before.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::Access;
use crate::{domain::token::Token, ledger::Ledger};

/// Largest file of tokens, bytes: some hundred thousand of them.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Where tokens come from.
pub struct Sources {
    access: Arc<Access>,
    ledger: Option<Ledger>,
    /// Where the copy of the ledger's tokens is.
    copy: PathBuf,
    file: Option<PathBuf>,
    /// When the file was last changed, as it was read.
    file_read: Option<SystemTime>,
    from_file: Vec<Token>,
    from_ledger: Vec<Token>,
    /// The ledger's last change that is in.
    version: Option<u64>,
}

impl Sources {
    /// Reads the file, which has to be right at the start, and the copy.
    pub fn open(
        access: Arc<Access>,
        ledger: Option<Ledger>,
        data_dir: &Path,
    ) -> anyhow::Result<Self> {
        let file = access.config.tokens_file.clone();
        let mut sources = Self {
            access,
            ledger,
            copy: data_dir.join("tokens.json"),
            file,
            file_read: None,
            from_file: vec![],
            from_ledger: vec![],
            version: None,
        };
        sources.read_file()?;
        if sources.ledger.is_none() {
            sources.publish();
        } else {
            match read_copy(&sources.copy) {
                Ok(Some(tokens)) => {
                    sources.from_ledger = tokens;
                    sources.publish();
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "ignoring an unreadable copy of the tokens"),
            }
        }
        Ok(sources)
    }

    /// Looks for changes every `poll` until `stop`.
    pub async fn follow(mut self, poll: Duration, stop: CancellationToken) {
        let follow = async {
            loop {
                self.look().await;
                tokio::time::sleep(poll).await;
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    /// Takes in what has changed.
    pub async fn look(&mut self) {
        let from_file = self.read_file().unwrap_or_else(|error| {
            // Who was let in before stays in until somebody mends the file.
            tracing::warn!(%error, "the file of tokens cannot be read; the last one holds");
            false
        });
        let from_ledger = match self.read_ledger().await {
            Ok(is_new) => {
                metrics::gauge!("tollgate_access_stale").set(0.0);
                is_new
            }
            Err(error) => {
                metrics::gauge!("tollgate_access_stale").set(1.0);
                tracing::debug!(%error, "cannot look for changed tokens now");
                false
            }
        };
        if from_file || from_ledger {
            self.publish();
        }
        if from_ledger && let Err(error) = write_copy(&self.copy, &self.from_ledger) {
            tracing::warn!(%error, "cannot keep a copy of the tokens");
            // Tried again with the next look.
            self.version = None;
        }
    }

    fn publish(&self) {
        self.access.book.replace(self.from_ledger.iter().chain(&self.from_file).cloned());
    }

    async fn read_ledger(&mut self) -> anyhow::Result<bool> {
        let Some(ledger) = &self.ledger else { return Ok(false) };
        let version = ledger.token_version().await?;
        if self.version == Some(version) {
            return Ok(false);
        }
        let listed = ledger.tokens(false).await?;
        self.from_ledger = listed.into_iter().map(|listed| listed.token).collect();
        self.version = Some(version);
        Ok(true)
    }

    /// Reads the file if it has changed; whether it has.
    fn read_file(&mut self) -> anyhow::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let told = || format!("access.tokens_file {}", file.display());
        let metadata = fs::metadata(file).with_context(told)?;
        let changed = metadata.modified().ok();
        if changed.is_some() && changed == self.file_read {
            return Ok(false);
        }
        if metadata.len() > FILE_BYTES_MAX {
            bail!("{} is larger than {FILE_BYTES_MAX} bytes", told());
        }
        let text = fs::read_to_string(file).with_context(told)?;
        self.from_file = serde_saphyr::from_str(&text).with_context(told)?;
        self.file_read = changed;
        Ok(true)
    }
}

fn read_copy(path: &Path) -> io::Result<Option<Vec<Token>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the copy; only its owner may read it, though hashes tell nobody a secret.
fn write_copy(path: &Path, tokens: &[Token]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    io::Write::write_all(&mut file, &serde_json::to_vec(tokens)?)?;
    file.sync_data()?;
    fs::rename(&beside, path)
}
