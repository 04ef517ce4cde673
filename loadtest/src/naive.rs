//! The naive exact server, for comparison: the same gRPC face, and one script in Redis for every check.
//! It counts exactly, over any number of servers, and keeps nothing that Redis loses.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use redis::{Script, aio::MultiplexedConnection};
use tollgate::{
    api::at_once::AnswersAtOnce,
    proto::v1::{self, tollgate_service_server::TollgateService},
};
use tonic::{Request, Response, Status};

use crate::noop::serve_face;

/// What every tenant may use.
const LIMIT: i64 = 4_000_000_000_000_000;

/// Adds what was asked for unless that passes the limit: used, and whether it was added.
const TAKE: &str = r"
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local amount = tonumber(ARGV[1])
if used + amount > tonumber(ARGV[2]) then
  return {used, 0}
end
if ARGV[3] == '1' then
  used = redis.call('INCRBY', KEYS[1], amount)
end
return {used, 1}
";

/// The arguments of `naive`.
#[derive(Parser)]
pub struct Args {
    /// Redis, as redis://host:port or unix:///path.
    #[arg(long)]
    redis: String,
    /// TCP address to listen on.
    #[arg(long, default_value = "127.0.0.1:7432")]
    listen: SocketAddr,
    /// Unix socket to listen on as well.
    #[arg(long)]
    socket: Option<PathBuf>,
}

/// Serves until it is killed.
pub fn main(args: Args) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let client = redis::Client::open(args.redis)?;
        let redis = client.get_multiplexed_async_connection().await?;
        let service = Naive { redis, take: Script::new(TAKE) };
        serve_face(service, args.listen, args.socket).await
    })
}

#[derive(Clone)]
struct Naive {
    redis: MultiplexedConnection,
    take: Script,
}

impl AnswersAtOnce for Naive {}

#[tonic::async_trait]
impl TollgateService for Naive {
    async fn check_quota(
        &self,
        request: Request<v1::CheckQuotaRequest>,
    ) -> Result<Response<v1::CheckQuotaResponse>, Status> {
        let request = request.into_inner();
        let takes = request.mode() == v1::Mode::Consume;
        let mut call = self.take.key(format!("{}/{}", request.tenant, request.meter));
        call.arg(request.amount.unwrap_or(1)).arg(LIMIT).arg(u8::from(takes));
        let answer: Result<(i64, u8), _> = call.invoke_async(&mut self.redis.clone()).await;
        let (used, allowed) = answer.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(v1::CheckQuotaResponse {
            allowed: allowed == 1,
            reason: v1::QuotaReason::WithinLimit.into(),
            decided_by: v1::DecidedBy::Redis.into(),
            limit: LIMIT,
            used,
            remaining: LIMIT - used,
            ..Default::default()
        }))
    }
}
