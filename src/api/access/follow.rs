//! Keeps the tokens in memory as the ledger and the file have them, and a copy on disk, so that a
//! sidecar that starts while Postgres is away knows whom it knew before.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, anyhow, bail};
use tokio_util::sync::CancellationToken;

use super::Access;
use crate::{domain::token::Token, ledger::Ledger, lifecycle::readiness::Condition};

/// Largest file of tokens, bytes: some hundred thousand of them.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why nobody is let in.
const NOT_KNOWN: &str = "the tokens are not known yet: Postgres has not been reached";
/// Longest that one look into the ledger may take; a Postgres that hangs is one that is away.
const LEDGER_LOOK_MAX: Duration = Duration::from_secs(2);

/// Where tokens come from.
pub struct Sources {
    access: Arc<Access>,
    /// Says whether whoever has a token is let in.
    condition: Condition,
    ledger: Option<Ledger>,
    /// Where the copy of the ledger's tokens is.
    copy: PathBuf,
    file: Option<PathBuf>,
    /// When the file was last changed and how long it was, as it was read.
    file_read: Option<(SystemTime, u64)>,
    /// What is wrong with what was read; it is not read again before it is changed.
    file_broken: Option<String>,
    from_file: Vec<Token>,
    /// What the ledger had, be it long ago; `None` = nobody knows.
    from_ledger: Option<Vec<Token>>,
    /// The ledger's last change that is in.
    version: Option<u64>,
    /// Why what is in may be out of date, as it was last told.
    trouble: Option<String>,
}

impl Sources {
    /// Reads the file, which has to be right at the start, and the copy.
    pub fn open(
        access: Arc<Access>,
        ledger: Option<Ledger>,
        data_dir: &Path,
        condition: Condition,
    ) -> anyhow::Result<Self> {
        let file = access.config.tokens_file.clone();
        let mut sources = Self {
            access,
            condition,
            from_ledger: ledger.is_none().then(Vec::new),
            ledger,
            copy: data_dir.join("tokens.json"),
            file,
            file_read: None,
            file_broken: None,
            from_file: vec![],
            version: None,
            trouble: None,
        };
        sources.read_file()?;
        if sources.ledger.is_some() {
            match read_copy(&sources.copy) {
                Ok(tokens) => sources.from_ledger = tokens,
                Err(error) => tracing::warn!(%error, "ignoring an unreadable copy of the tokens"),
            }
        }
        sources.publish();
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
        let from_file = self.read_file();
        let looked = tokio::time::timeout(LEDGER_LOOK_MAX, self.read_ledger()).await;
        let from_ledger = looked.unwrap_or_else(|_| {
            let told = LEDGER_LOOK_MAX.as_secs();
            Err(anyhow!("the ledger cannot be asked for tokens: it did not answer within {told} s"))
        });
        if matches!(from_file, Ok(true)) || matches!(from_ledger, Ok(true)) {
            self.publish();
        }
        if matches!(from_ledger, Ok(true))
            && let Some(tokens) = &self.from_ledger
            && let Err(error) = write_copy(&self.copy, tokens)
        {
            tracing::warn!(%error, "cannot keep a copy of the tokens");
            // Tried again with the next look.
            self.version = None;
        }
        let troubles = [from_file.err(), from_ledger.err()].into_iter().flatten();
        let troubles: Vec<_> = troubles.map(|error| format!("{error:#}")).collect();
        self.tell((!troubles.is_empty()).then(|| troubles.join("; ")));
    }

    /// Says how it stands; what is wrong once, and again when it is something else.
    fn tell(&mut self, trouble: Option<String>) {
        let stale = if trouble.is_some() { 1.0 } else { 0.0 };
        metrics::gauge!("tollgate_access_stale").set(stale);
        if let Some(trouble) = &trouble
            && self.trouble.as_ref() != Some(trouble)
        {
            // Who was let in before stays in until somebody mends it.
            tracing::warn!(%trouble, "changed tokens cannot be read; those of before hold");
        }
        match &trouble {
            _ if !self.access.book.is_known() => self.condition.fail(NOT_KNOWN),
            None => self.condition.ok(),
            Some(trouble) => {
                self.condition.degrade(format!("{trouble}; the tokens of before hold"))
            }
        }
        self.trouble = trouble;
    }

    /// Lets in whoever is known, once it is known who is.
    fn publish(&self) {
        if let Some(from_ledger) = &self.from_ledger {
            self.access.book.replace(from_ledger.iter().chain(&self.from_file).cloned());
        }
    }

    async fn read_ledger(&mut self) -> anyhow::Result<bool> {
        let Some(ledger) = &self.ledger else { return Ok(false) };
        let told = "the ledger cannot be asked for tokens";
        let version = ledger.token_version().await.context(told)?;
        if self.version == Some(version) {
            return Ok(false);
        }
        let listed = ledger.tokens(false).await.context(told)?;
        self.from_ledger = Some(listed.into_iter().map(|listed| listed.token).collect());
        self.version = Some(version);
        Ok(true)
    }

    /// Reads the file if it has changed; whether it has.
    fn read_file(&mut self) -> anyhow::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let told = || format!("access.tokens_file {}", file.display());
        let metadata = fs::metadata(file).with_context(told)?;
        let changed = metadata.modified().ok().map(|at| (at, metadata.len()));
        if changed.is_some() && changed == self.file_read {
            return match &self.file_broken {
                Some(broken) => Err(anyhow!("{broken}")),
                None => Ok(false),
            };
        }
        if metadata.len() > FILE_BYTES_MAX {
            bail!("{} is larger than {FILE_BYTES_MAX} bytes", told());
        }
        let text = fs::read_to_string(file).with_context(told)?;
        let tokens = parse(&text).with_context(told);
        self.file_read = changed;
        self.file_broken = tokens.as_ref().err().map(|error| format!("{error:#}"));
        self.from_file = tokens?;
        Ok(true)
    }
}

fn parse(text: &str) -> anyhow::Result<Vec<Token>> {
    let tokens: Option<Vec<Token>> = serde_saphyr::from_str(text)?;
    // A file that was cut or is about to be written must not turn everybody away.
    tokens.context("it is empty; `[]` says that there are none")
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

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{
        api::access::config::AccessConfig,
        clock::Clock,
        domain::token::{Role, Secret},
        ledger::config::LedgerConfig,
        lifecycle::readiness::{ConditionReport, Readiness, Status},
    };

    struct Followed {
        dir: TempDir,
        sources: Sources,
        readiness: Readiness,
    }

    fn entry(number: u8) -> Token {
        Token {
            id: uuid::Uuid::from_u128(number.into()),
            name: format!("token-{number}"),
            role: Role::Service,
            tenant: None,
            expires_at: None,
            hash: Secret::of([number; 32]).hash(),
        }
    }

    fn write(dir: &TempDir, text: &str) {
        fs::write(dir.path().join("tokens.yaml"), text).unwrap();
    }

    fn followed(ledger: Option<Ledger>, text: &str) -> Followed {
        let dir = tempfile::tempdir().unwrap();
        write(&dir, text);
        let tokens_file = Some(dir.path().join("tokens.yaml"));
        let config = AccessConfig { tokens_file, ..AccessConfig::default() };
        let readiness = Readiness::new(Clock::System);
        let condition = readiness.condition("access");
        let access = Access::new(config, Clock::System);
        let sources = Sources::open(access, ledger, dir.path(), condition).unwrap();
        Followed { dir, sources, readiness }
    }

    impl Followed {
        fn knows(&self, number: u8) -> bool {
            self.sources.access.book.find(&entry(number).hash).is_some()
        }

        fn condition(&self) -> ConditionReport {
            self.readiness.report().conditions.remove(0)
        }
    }

    #[tokio::test]
    async fn a_file_that_is_empty_or_broken_turns_nobody_away_and_is_told() {
        let text = serde_json::to_string(&[entry(1)]).unwrap();
        let mut followed = followed(None, &text);
        followed.sources.look().await;
        assert_eq!(followed.condition().status, Status::Ok);
        for broken in ["", "# nothing\n", "- name: [", "- { name: half }"] {
            write(&followed.dir, broken);
            followed.sources.look().await;
            assert!(followed.knows(1), "{broken:?}");
            let condition = followed.condition();
            assert_eq!(condition.status, Status::Degraded, "{broken:?}");
            assert!(condition.reason.unwrap().contains("tokens.yaml"), "{broken:?}");
        }
        assert!(followed.sources.trouble.as_ref().unwrap().contains("half"), "the cause is told");
        write(&followed.dir, "[]");
        followed.sources.look().await;
        assert!(!followed.knows(1), "there are none");
        assert_eq!(followed.condition().status, Status::Ok);
    }

    #[tokio::test]
    async fn a_broken_file_is_read_once_until_it_is_changed() {
        let mut followed = followed(None, "[]");
        write(&followed.dir, "- x: [");
        followed.sources.look().await;
        let path = followed.dir.path().join("tokens.yaml");
        let file = fs::File::options().write(true).open(path).unwrap();
        let read_at = file.metadata().unwrap().modified().unwrap();
        write(&followed.dir, "[    ]");
        file.set_modified(read_at).unwrap();
        followed.sources.look().await;
        assert_eq!(followed.condition().status, Status::Degraded, "it looks unchanged");
        file.set_modified(read_at + Duration::from_secs(1)).unwrap();
        followed.sources.look().await;
        assert_eq!(followed.condition().status, Status::Ok);
    }

    #[tokio::test]
    async fn a_postgres_that_never_answers_is_away_and_nobody_is_sent_here() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://nobody@{}/none", silent.local_addr().unwrap());
        // Longer than this test is patient.
        let config = LedgerConfig { acquire_timeout_ms: 600_000, ..LedgerConfig::at(url) };
        let mut followed = followed(Some(Ledger::new(&config).unwrap()), "[]");
        let looked = tokio::time::timeout(Duration::from_secs(60), followed.sources.look());
        looked.await.expect("it waits for a Postgres that hangs");
        assert_eq!(followed.condition().status, Status::Failed);
        assert!(!followed.readiness.report().ready);
        // Once it has been reached, those who were known then are let in.
        followed.sources.from_ledger = Some(vec![entry(1)]);
        followed.sources.publish();
        followed.sources.look().await;
        assert_eq!(followed.condition().status, Status::Degraded);
        assert!(followed.knows(1) && followed.readiness.report().ready);
    }
}
