//! TLS and mTLS on the TCP ports, with certificates that the test makes.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    },
};
use tollgate::proto::v1::Mode;
use tonic::transport::{Channel, Endpoint};

use super::{
    CATALOG,
    cluster::{Client, Cluster, quota},
};

/// How long a new certificate may take to come into force on a busy machine.
const FOLLOWED_MAX: Duration = Duration::from_secs(30);

/// A root, and what it signs.
struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Root {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let (certificate, pem) = (made.der().clone(), made.pem());
        Self { issuer: Issuer::new(params, key), certificate, pem }
    }

    /// A certificate for this machine, and its key, in PEM.
    fn sign(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a certificate for the sidecar; its files.
    fn write(&self, dir: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.sign();
        let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&key_file, key.serialize_pem()).unwrap();
        fs::write(&cert_file, certificate.pem()).unwrap();
        (cert_file, key_file)
    }
}

/// How a client connects that trusts `root`, and shows a certificate if it has one.
fn trusting(
    root: &Root,
    certificate: Option<(rcgen::Certificate, KeyPair)>,
    spoken: &[u8],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(root.certificate.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![spoken.to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn connect(at: SocketAddr, with: TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    with.connect(name, TcpStream::connect(at).await?).await
}

/// Asks over gRPC; what went wrong, if anything.
async fn ask(at: SocketAddr, with: TlsConnector) -> Result<bool, String> {
    let endpoint = Endpoint::from_static("http://localhost").timeout(Duration::from_secs(20));
    let connector = tower::service_fn(move |_| {
        let with = with.clone();
        async move { connect(at, with).await.map(TokioIo::new) }
    });
    answered(endpoint.connect_with_connector_lazy(connector)).await
}

async fn answered(channel: Channel) -> Result<bool, String> {
    let request = quota(Mode::Check, "acme", "calls", 1);
    let answer = Client::new(channel).check_quota(request).await;
    answer.map(|answer| answer.into_inner().allowed).map_err(|status| status.to_string())
}

/// The first line of the answer to a request over HTTP.
async fn livez(at: SocketAddr, with: TlsConnector) -> std::io::Result<String> {
    let mut stream = connect(at, with).await?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").await?;
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ports_show_their_certificate_and_ask_clients_for_theirs() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let (root, clients) = (Root::new(), Root::new());
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = root.write(dir.path());
    let client_ca = dir.path().join("clients.pem");
    fs::write(&client_ca, &clients.pem).unwrap();
    cluster.flag("--tls-cert", cert.to_str().unwrap());
    cluster.flag("--tls-key", key.to_str().unwrap());
    cluster.flag("--tls-client-ca", client_ca.to_str().unwrap());
    let sidecar = cluster.start("a").await;
    let (grpc, http) = (cluster.address("a", "grpc"), cluster.address("a", "http"));

    // A client that trusts `root` and has a certificate of `clients`.
    let known = |spoken: &[u8]| {
        let (certificate, key) = clients.sign();
        trusting(&root, Some((certificate, key)), spoken)
    };
    assert_eq!(ask(grpc, known(b"h2")).await, Ok(true));
    assert_eq!(livez(http, known(b"http/1.1")).await.unwrap(), "HTTP/1.1 200");
    // Of the wrong root, or of none.
    assert!(ask(grpc, trusting(&root, Some(root.sign()), b"h2")).await.is_err());
    assert!(ask(grpc, trusting(&root, None, b"h2")).await.is_err());
    assert!(livez(http, trusting(&root, None, b"http/1.1")).await.is_err());
    let plain = Endpoint::new(format!("http://{grpc}")).unwrap();
    assert!(answered(plain.timeout(Duration::from_secs(20)).connect_lazy()).await.is_err());
    // The Unix socket is as it was.
    assert!(sidecar.check(Mode::Check, "acme", "calls", 1).await.unwrap().allowed);
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_comes_into_force_without_a_restart() {
    let mut cluster = Cluster::with_catalog("proving", CATALOG).await;
    cluster.world.tenant("acme", "basic").await;
    let (before, after) = (Root::new(), Root::new());
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = before.write(dir.path());
    cluster.flag("--tls-cert", cert.to_str().unwrap());
    cluster.flag("--tls-key", key.to_str().unwrap());
    let sidecar = cluster.start("a").await;
    let grpc = cluster.address("a", "grpc");
    assert_eq!(ask(grpc, trusting(&before, None, b"h2")).await, Ok(true));
    assert!(ask(grpc, trusting(&after, None, b"h2")).await.is_err());
    after.write(dir.path());
    let started = Instant::now();
    while ask(grpc, trusting(&after, None, b"h2")).await.is_err() {
        assert!(started.elapsed() < FOLLOWED_MAX, "the old certificate stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sidecar.process.stop();
}
