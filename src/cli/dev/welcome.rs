//! What is said once everything is up.

use std::time::Duration;

use super::up::Up;
use crate::config::Settings;

/// Where everything is, and calls to try.
pub(super) fn text(up: &Up, took: Duration) -> String {
    let Up { dir, addresses, stores, .. } = up;
    let grpc = addresses.grpc;
    let is_usual = Settings::default().grpc.listen == Some(grpc);
    let endpoint = if is_usual { String::new() } else { format!(" --endpoint http://{grpc}") };
    let config = format!("--config {}", dir.join("tollgate.toml").display());
    let replayed = match &up.replayed {
        Some(replayed) => format!("Replayed {replayed}.\n\n"),
        None => String::new(),
    };
    let dir = dir.display();
    let (socket, sidecar_http) = (addresses.socket.display(), addresses.sidecar_http);
    let worker_http = addresses.worker_http;
    let postgres = stores.postgres.dir().display();
    // As it was called, so that the lines can be copied.
    let tollgate = std::env::args().next().unwrap_or_else(|| "tollgate".to_owned());
    let redis = stores.redis.dir().join("redis.sock");
    let redis = redis.display();
    let took = took.as_secs_f64();
    format!(
        "\
Tollgate is up after {took:.1} s.

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
