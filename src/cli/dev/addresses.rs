//! Where everything listens, and the settings file that says so to the processes.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::stores::Stores;
use crate::config::Settings;

/// Where the sidecar and the worker listen.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) grpc: SocketAddr,
    pub(super) socket: PathBuf,
    pub(super) sidecar_http: SocketAddr,
    pub(super) worker_http: SocketAddr,
    /// The usual ones that somebody else has, so that others were taken.
    pub(super) replaced: Vec<SocketAddr>,
}

impl Addresses {
    /// The usual addresses, or free ones where somebody else has those.
    pub(super) fn choose(dir: &Path) -> Result<Self> {
        let usual = Settings::default();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut replaced = vec![];
        let mut choose = |wanted: SocketAddr| -> Result<SocketAddr> {
            let chosen = free(wanted)?;
            replaced.extend((chosen != wanted && wanted.port() != 0).then_some(wanted));
            Ok(chosen)
        };
        Ok(Self {
            grpc: choose(usual.grpc.listen.unwrap_or(any))?,
            socket: dir.join("tollgate.sock"),
            sidecar_http: choose(usual.http.listen)?,
            worker_http: choose(usual.worker_http.listen)?,
            replaced,
        })
    }

    /// Writes the settings of the processes; the operator's commands can be given the same file.
    pub(super) fn write_settings(&self, dir: &Path, stores: &Stores) -> Result<PathBuf> {
        let file = dir.join("tollgate.toml");
        fs::write(&file, self.settings(dir, stores))
            .with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }

    fn settings(&self, dir: &Path, stores: &Stores) -> String {
        let mut text = String::from(
            "# Written anew by each start of `tollgate dev`. The operator's commands read it too:\n\
             # tollgate tenant list --config THIS_FILE\n",
        );
        let sections = [
            ("grpc", vec![("listen", self.grpc.to_string()), ("socket", shown(&self.socket))]),
            ("http", vec![("listen", self.sidecar_http.to_string())]),
            ("worker_http", vec![("listen", self.worker_http.to_string())]),
            // Everything of it is on loopback, and nothing in it is real.
            ("access", vec![("mode", "open".to_owned())]),
            ("journal", vec![("data_dir", shown(&dir.join("sidecar")))]),
            ("redis", vec![("url", stores.redis.url())]),
            ("ledger", vec![("url", stores.postgres_url())]),
        ];
        for (section, values) in sections {
            text.push_str(&format!("\n[{section}]\n"));
            for (name, value) in values {
                // A JSON string is a TOML string.
                text.push_str(&format!("{name} = {}\n", serde_json::Value::from(value)));
            }
        }
        text
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// `wanted`, or a free port of the same host. Between this look and the use, somebody may take it;
/// then the start fails and says so.
fn free(wanted: SocketAddr) -> Result<SocketAddr> {
    let any = SocketAddr::new(wanted.ip(), 0);
    let listener = TcpListener::bind(wanted)
        .or_else(|_| TcpListener::bind(any))
        .context("finding a free port")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_replaced() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = taken.local_addr().unwrap();
        assert_ne!(free(wanted).unwrap(), wanted);
        drop(taken);
        assert_eq!(free(wanted).unwrap(), wanted);
    }
}
