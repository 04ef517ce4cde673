//! A process of our own that ends with its owner: a sidecar or a worker beside the private stores.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::Result;
use rustix::process::Pid;

use super::{
    place::Place,
    supervised::{Ended, Server, Supervised},
};

/// How long one look at `/readyz` may take.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(1);
/// How much of an answer is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// A running process with an HTTP face that tells when it is ready.
#[derive(Debug)]
pub struct Companion {
    server: Supervised,
}

impl Companion {
    /// Starts `program` with `arguments` in `dir`, as who we are, and waits until `/readyz` at
    /// `http` says that it is ready. It logs to `<name>.log` in `dir`.
    pub fn start(
        name: &'static str,
        program: &Path,
        arguments: Vec<String>,
        dir: &Path,
        http: SocketAddr,
    ) -> Result<Self> {
        let place = Place::own(dir)?;
        let server = Server { name, program, arguments, stop_signal: "TERM" };
        let is_ready = |pid: Pid| is_ready(http, pid.as_raw_nonzero().get()).unwrap_or(false);
        let server = Supervised::start(server, &place, is_ready)?;
        Ok(Self { server })
    }

    /// How it ended by itself; `None` while it runs.
    pub fn ended(&mut self) -> Option<Ended> {
        self.server.ended()
    }

    /// Stops it in good order and waits for its end.
    pub fn stop(&mut self) -> Result<()> {
        self.server.stop().map(drop)
    }
}

/// One look at `/readyz`: HTTP/1.0, so that the answer ends with the connection. Another process may
/// have taken the address meanwhile, so the answer must be this one's own.
fn is_ready(http: SocketAddr, process: i32) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&http, PROBE_WAIT_MAX)?;
    stream.set_read_timeout(Some(PROBE_WAIT_MAX))?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let is_ok = answer.split(' ').nth(1) == Some("200");
    Ok(is_ok && answer.contains(&format!("\"process\":{process},")))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 256]);
            stream.write_all(answer).unwrap();
        });
        address
    }

    #[test]
    fn only_a_200_of_the_process_itself_is_ready() {
        let ok = b"HTTP/1.0 200 OK\r\n\r\n{\"process\":7,\"ready\":true}";
        assert!(is_ready(answering(ok), 7).unwrap());
        assert!(!is_ready(answering(ok), 8).unwrap(), "somebody else's");
        let not_yet = b"HTTP/1.0 503 Service Unavailable\r\n\r\n{\"process\":7,}";
        assert!(!is_ready(answering(not_yet), 7).unwrap());
    }

    #[test]
    fn a_process_that_ends_while_it_starts_is_told_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        let arguments = vec!["-c".into(), "echo no journal; exit 1".into()];
        let error = Companion::start("sidecar", Path::new("sh"), arguments, folder.path(), nobody);
        assert!(error.unwrap_err().to_string().contains("no journal"));
    }
}
