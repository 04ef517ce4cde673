//! TLS of the TCP ports: certificates from files, read again when they change.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};
use tokio_util::sync::CancellationToken;

use crate::domain::invalid::Invalid;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the ports show, and whom they let in. Without a certificate they speak in plain text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the certificate, and those between it and its root; empty for plain text.
    /// Read again when it changes, as the other two.
    pub cert: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub key: Option<PathBuf>,
    /// PEM file with the roots that clients' certificates have to come from; empty: clients need
    /// none. They are let in by it, and asked for their token all the same.
    pub client_ca: Option<PathBuf>,
    /// Whether the HTTP port speaks it too; else gRPC alone does.
    pub on_http: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { cert: None, key: None, client_ca: None, on_http: true }
    }
}

impl TlsConfig {
    /// Checks what belongs together.
    pub fn check(&self) -> Result<(), Invalid> {
        match (&self.cert, &self.key, &self.client_ca) {
            (Some(_), Some(_), _) | (None, None, None) => Ok(()),
            (Some(_), None, _) => {
                Err(Invalid::new("key", "is missing", "give the private key of tls.cert"))
            }
            (None, ..) => {
                Err(Invalid::new("cert", "is missing", "give the certificate of the ports"))
            }
        }
    }
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting} {}: {problem}", path.display())]
pub struct TlsError {
    setting: &'static str,
    path: PathBuf,
    problem: String,
}

/// What is spoken over a connection once it is secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http1,
    Http2,
}

/// The certificate that is in force.
pub struct Tls {
    config: TlsConfig,
    acceptors: ArcSwap<Acceptors>,
}

struct Acceptors {
    http1: TlsAcceptor,
    http2: TlsAcceptor,
    read: Vec<Option<SystemTime>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files; `None` where plain text is spoken.
    pub fn open(config: &TlsConfig) -> Result<Option<Arc<Self>>, TlsError> {
        let (Some(cert), Some(key)) = (&config.cert, &config.key) else { return Ok(None) };
        let acceptors = read(cert, key, config.client_ca.as_deref())?;
        Ok(Some(Arc::new(Self {
            config: config.clone(),
            acceptors: ArcSwap::from_pointee(acceptors),
        })))
    }

    /// Shakes hands with the certificate that is in force now.
    pub fn acceptor(&self, spoken: Spoken) -> TlsAcceptor {
        let acceptors = self.acceptors.load();
        match spoken {
            Spoken::Http1 => acceptors.http1.clone(),
            Spoken::Http2 => acceptors.http2.clone(),
        }
    }

    /// Reads the files again whenever they change, until `stop`. Connections that are open keep
    /// what they began with. Files that cannot be used change nothing.
    pub async fn follow(&self, stop: CancellationToken) {
        let follow = async {
            let mut told = None;
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                let trouble = self.look().err().map(|error| error.to_string());
                metrics::gauge!("tollgate_tls_stale").set(f64::from(u8::from(trouble.is_some())));
                if let Some(error) = trouble.as_ref().filter(|_| trouble != told) {
                    tracing::warn!(%error, "the last certificate stays in force");
                }
                told = trouble;
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    /// Fails while the files cannot be used; they may be half written.
    fn look(&self) -> Result<(), TlsError> {
        let (Some(cert), Some(key)) = (&self.config.cert, &self.config.key) else { return Ok(()) };
        let client_ca = self.config.client_ca.as_deref();
        if changed(cert, key, client_ca) != self.acceptors.load().read {
            self.acceptors.store(Arc::new(read(cert, key, client_ca)?));
            tracing::info!("a new certificate is in force");
        }
        Ok(())
    }
}

fn changed(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Vec<Option<SystemTime>> {
    let at = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    [Some(cert), Some(key), client_ca].into_iter().flatten().map(at).collect()
}

fn read(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Acceptors, TlsError> {
    // Looked at first: what changes while it is read is read again.
    let read = changed(cert, key, client_ca);
    let failed = |setting, path: &Path, problem: &dyn fmt::Display| TlsError {
        setting,
        path: path.to_owned(),
        problem: problem.to_string(),
    };
    let chain = certificates(cert).map_err(|problem| failed("tls.cert", cert, &problem))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| failed("tls.key", key, &format!("holds no private key ({error})")))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("tls.cert", cert, &error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let told = |problem: &dyn fmt::Display| failed("tls.client_ca", path, problem);
            let mut roots = RootCertStore::empty();
            for root in certificates(path).map_err(|problem| told(&problem))? {
                roots.add(root).map_err(|error| told(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| told(&error))?)
        }
    };
    let config = builder.with_single_cert(chain, private).map_err(|error| {
        failed("tls.key", key, &format!("does not go with the certificate ({error})"))
    })?;
    let speaking = |name: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![name.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    };
    Ok(Acceptors { http1: speaking(b"http/1.1"), http2: speaking(b"h2"), read })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("cannot be read ({error})"))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("is no PEM ({error})"))?;
    if all.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, TlsConfig) {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let config = TlsConfig { cert: Some(cert), key: Some(key), ..TlsConfig::default() };
        (dir, config)
    }

    fn told(config: &TlsConfig) -> String {
        Tls::open(config).unwrap_err().to_string()
    }

    #[test]
    fn bad_files_are_told_by_their_setting_and_path() {
        let (dir, config) = files();
        assert!(Tls::open(&config).unwrap().is_some());
        let absent = dir.path().join("absent.pem");
        let missing = TlsConfig { cert: Some(absent.clone()), ..config.clone() };
        assert!(told(&missing).contains("tls.cert") && told(&missing).contains("absent.pem"));
        let swapped = TlsConfig { key: config.cert.clone(), ..config.clone() };
        assert!(told(&swapped).contains("tls.key"), "{}", told(&swapped));
        let (_other_dir, other) = files();
        let alien = TlsConfig { key: other.key, ..config.clone() };
        assert!(told(&alien).contains("does not go with"), "{}", told(&alien));
        let no_roots = TlsConfig { client_ca: config.key.clone(), ..config };
        assert!(told(&no_roots).contains("tls.client_ca"), "{}", told(&no_roots));
    }

    #[test]
    fn a_certificate_needs_its_key_and_the_other_way_round() {
        let (_dir, config) = files();
        assert_eq!(config.check(), Ok(()));
        let field = |config: TlsConfig| config.check().unwrap_err().field;
        assert_eq!(field(TlsConfig { key: None, ..config.clone() }), "key");
        assert_eq!(field(TlsConfig { cert: None, ..config }), "cert");
    }

    #[test]
    fn what_cannot_be_used_changes_nothing_and_what_can_comes_into_force() {
        let (_dir, config) = files();
        let tls = Tls::open(&config).unwrap().unwrap();
        let before = tls.acceptors.load_full();
        let (_other_dir, other) = files();
        let later = SystemTime::UNIX_EPOCH;
        let put = |from: &Option<PathBuf>, to: &Option<PathBuf>| {
            fs::copy(from.as_ref().unwrap(), to.as_ref().unwrap()).unwrap();
            // Whatever the resolution of the file system's clock.
            fs::File::options()
                .write(true)
                .open(to.as_ref().unwrap())
                .unwrap()
                .set_modified(later)
                .unwrap();
        };
        put(&other.cert, &config.cert);
        assert!(tls.look().is_err());
        assert!(Arc::ptr_eq(&before, &tls.acceptors.load_full()), "the key is another's");
        put(&other.key, &config.key);
        tls.look().unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.acceptors.load_full()));
    }
}
