//! What is said once everything is up.

use std::{net::SocketAddr, path::Path, time::Duration};

use super::up::Up;
use crate::config::Settings;

/// Where everything is, and calls to try.
pub(super) fn text(up: &Up, took: Duration) -> String {
    let Up { dir, addresses, stores, .. } = up;
    let grpc = addresses.grpc;
    let is_usual = Settings::default().grpc.listen == Some(grpc);
    let endpoint = if is_usual { String::new() } else { format!(" --endpoint http://{grpc}") };
    let config = format!("--config {}", quoted(&dir.join("tollgate.toml")));
    let taken = taken(&addresses.replaced);
    let replayed = match &up.replayed {
        Some(replayed) => format!("Replayed {replayed}.\n\n"),
        None => String::new(),
    };
    let dir = dir.display();
    let (socket, sidecar_http) = (addresses.socket.display(), addresses.sidecar_http);
    let worker_http = addresses.worker_http;
    let postgres = quoted(stores.postgres.dir());
    // As it was called, so that the lines can be copied.
    let tollgate = std::env::args().next().unwrap_or_else(|| "tollgate".to_owned());
    let tollgate = quoted(Path::new(&tollgate));
    let redis = quoted(&stores.redis.dir().join("redis.sock"));
    let took = took.as_secs_f64();
    format!(
        "\
Tollgate is up after {took:.1} s.
{taken}
  sidecar   gRPC {grpc} and unix://{socket}
            http://{sidecar_http}/readyz  /livez  /metrics
  worker    http://{worker_http}/readyz  /livez  /metrics
  Postgres  psql -h {postgres} -U tollgate postgres
  Redis     redis-cli -s {redis}
  data      {dir} (logs, tollgate.toml with all of these addresses)
  access    open, no tokens asked: this is for one machine, whose ports nobody else can reach

{replayed}Ask, take, record, look:
  {tollgate} check demo-free queries{endpoint}
  {tollgate} check demo-free queries 30 --mode consume{endpoint}
  {tollgate} record demo-hosting bandwidth 5000000000 --key upload-1{endpoint}
  {tollgate} usage demo-llm{endpoint}

The same with grpcurl:
  grpcurl -plaintext -d '{{\"tenant\":\"demo-free\",\"meter\":\"queries\",\"amount\":1,\"mode\":\"MODE_CONSUME\"}}' \\
    {grpc} tollgate.v1.TollgateService/CheckQuota

The operator's side:
  {tollgate} tenant list {config}
  {tollgate} catalog show hosting {config}
  {tollgate} job list {config}

Ctrl-C stops all of it; the next start finds its data."
    )
}

/// What to say of the usual addresses that could not be had.
fn taken(replaced: &[SocketAddr]) -> String {
    let ports: Vec<_> = replaced.iter().map(|address| address.port().to_string()).collect();
    match ports.as_slice() {
        [] => String::new(),
        [port] => format!("Port {port} was taken; a free one is used instead.\n"),
        ports => {
            format!("The ports {} were taken; free ones are used instead.\n", ports.join(", "))
        }
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_space_is_one_word_for_a_shell() {
        assert_eq!(quoted(Path::new("/tmp/dev-1/x.toml")), "/tmp/dev-1/x.toml");
        assert_eq!(quoted(Path::new("/tmp/my dir")), "'/tmp/my dir'");
        assert_eq!(quoted(Path::new("it's")), r"'it'\''s'");
    }

    #[test]
    fn ports_that_were_taken_are_told() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(taken(&[]), "");
        assert_eq!(taken(&[at(7421)]), "Port 7421 was taken; a free one is used instead.\n");
        assert!(taken(&[at(7421), at(7422)]).contains("7421, 7422"));
    }
}
