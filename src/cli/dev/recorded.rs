//! Recorded usage, so that there is something to see.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::addresses::Addresses;

/// An hour of calls to an LLM service, and four days of a web site's requests; `tests/data` says
/// where they come from.
const LLM_CALLS: &str = include_str!("../../../tests/data/llm-code-trace.csv");
const WEB_REQUESTS: &str = include_str!("../../../tests/data/web-access.csv");

/// The clients among the first `requests` of the recording.
pub(super) fn web_clients(requests: usize) -> Vec<&'static str> {
    let clients = WEB_REQUESTS.lines().skip(1).take(requests);
    let mut clients: Vec<_> = clients.filter_map(|line| line.split(',').nth(1)).collect();
    clients.sort_unstable();
    clients.dedup();
    clients
}

/// Whom the recorded usage is booked on.
pub(super) struct Tenants {
    /// The tenant of all LLM calls.
    pub(super) llm: &'static str,
    /// What a web client's tenant is called, before the client's pseudonym.
    pub(super) web_prefix: &'static str,
}

/// Replays the first `calls` of both recordings as usage of now, and says what was done.
pub(super) async fn replay(
    dir: &Path,
    addresses: &Addresses,
    tenants: &Tenants,
    calls: usize,
) -> Result<String> {
    let web = write(dir, "web-access.csv", WEB_REQUESTS)?;
    let llm = write(dir, "llm-code-trace.csv", LLM_CALLS)?;
    let count = calls.to_string();
    one(addresses, &["web", &web, "--tenant-prefix", tenants.web_prefix, "--calls", &count])
        .await?;
    one(addresses, &["llm", &llm, "--tenant", tenants.llm, "--calls", &count]).await?;
    Ok(format!("{calls} recorded web requests and {calls} LLM calls"))
}

fn write(dir: &Path, name: &str, text: &str) -> Result<String> {
    let file: PathBuf = dir.join(name);
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file.display().to_string())
}

async fn one(addresses: &Addresses, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.arg("replay").args(arguments).arg("--now");
    command.args(["--endpoint", &format!("http://{}", addresses.grpc)]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("replaying recorded usage")?;
    if !output.status.success() {
        bail!("replaying failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
