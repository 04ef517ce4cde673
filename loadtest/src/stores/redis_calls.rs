//! How often sidecars call Redis: for a tenant that is busy at all of them, and for many idle ones.

use std::time::Duration;

use anyhow::{Context, bail};
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use tollgate::{dev::Redis, proto::v1::Mode};

use super::{
    Args,
    commandstats::Calls,
    findings::{Aim, Aimed, Part, Table, figure},
    sidecar::{Client, Sidecar, quota},
    stage::{Database, Stage, tenant},
};
use crate::{
    calls::{Call, Durability},
    report::Figures,
    run::{Load, measure},
};

/// Before it is measured: sidecars have come to know each other, and what they spend in a second.
const WARMUP: Duration = Duration::from_secs(4);
/// How long idle tenants are left alone before it is measured: what they used is settled then.
const SETTLING: Duration = Duration::from_secs(5);
/// Tenants that are asked for at a time until all are known.
const TOUCHED_AT_ONCE: usize = 16;
const METER: &str = "tokens";
const CALLS_PER_1000_MAX: f64 = 1.0;

/// Calls within some time.
struct Counted {
    calls: Calls,
    seconds: f64,
}

impl Counted {
    fn scripts_per_second(&self) -> f64 {
        self.calls.scripts() as f64 / self.seconds
    }
}

pub async fn part(stage: &Stage, args: &Args) -> anyhow::Result<Part> {
    let redis = Redis::scratch()?;
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let tenants = args.idle_tenants.max(busy(args.sidecars.len()) + 1);
    let database = stage.database("redis_calls", tenants).await?;
    let head = vec![
        "",
        "sidecars",
        "checks/s",
        "script calls/s",
        "by sidecar",
        "per 1,000 checks",
        "other commands/s",
    ];
    let mut table = Table { head, rows: vec![] };
    let mut aims = vec![];
    for (turn, sidecars) in args.sidecars.iter().copied().enumerate() {
        eprintln!("Redis calls: sidecars: {sidecars}");
        let (admitted, counted) =
            busy_tenant(stage, args, (&database, &redis), &mut connection, (sidecars, busy(turn)))
                .await?;
        let per_1000 = counted.calls.scripts() as f64 * 1_000.0 / admitted as f64;
        table.rows.push(vec![
            "a busy tenant".into(),
            sidecars.to_string(),
            figure(admitted as f64 / counted.seconds),
            figure(counted.scripts_per_second()),
            figure(counted.scripts_per_second() / sidecars as f64),
            figure(per_1000),
            counted.calls.others(counted.seconds),
        ]);
        aims.push(Aimed {
            what: format!("Redis calls of a busy tenant's checks, sidecars: {sidecars}"),
            aim: Aim::AtMost(CALLS_PER_1000_MAX, "per 1,000 checks"),
            found: per_1000,
        });
    }
    eprintln!("Redis calls: {} idle tenants", args.idle_tenants);
    let (before, idle) = idle_tenants(stage, args, (&database, &redis), &mut connection).await?;
    let mut idle_row = |what: String, counted: &Counted| {
        table.rows.push(vec![
            what,
            "1".into(),
            "0".into(),
            figure(counted.scripts_per_second()),
            figure(counted.scripts_per_second()),
            String::new(),
            counted.calls.others(counted.seconds),
        ]);
    };
    idle_row("no tenant".into(), &before);
    idle_row(format!("{} idle tenants", args.idle_tenants), &idle);
    aims.push(Aimed {
        what: format!("Redis calls of {} idle tenants", args.idle_tenants),
        aim: Aim::AtMost(0.0, "per second"),
        found: idle.scripts_per_second() - before.scripts_per_second(),
    });
    let how = format!(
        "CONSUME of one hard limit that all sidecars share, {} checks a second over all of them for {} s. What Redis itself counts \
         (`INFO commandstats`): *script calls* are EVALSHA and its like, one for each call about a counter; *other commands* \
         are those within scripts and those that each sidecar sends whoever is busy (GET and INFO of the heartbeat of each \
         connection, HGETALL where drift is looked for, 32 counters every 10 s).",
        args.pace, args.seconds,
    );
    Ok(Part { title: "Redis calls", how, aims, table })
}

/// Checks of one tenant at all sidecars: how many were admitted while calls were counted.
async fn busy_tenant(
    stage: &Stage,
    args: &Args,
    (database, redis): (&Database, &Redis),
    connection: &mut MultiplexedConnection,
    (number, busy): (usize, usize),
) -> anyhow::Result<(u64, Counted)> {
    let mut sidecars = vec![];
    for place in 0..number {
        let setup = stage.sidecar(database, redis, &format!("redis-{number}-{place}"), &[]);
        let look = quota(Mode::Check, &tenant(busy), METER);
        sidecars.push(Sidecar::serving(&setup, &look, |answer| answer.allowed).await?);
    }
    let mut loads = JoinSet::new();
    for sidecar in &sidecars {
        let (target, load) = (sidecar.target(), load(args, number, busy));
        // With a runtime of its own.
        loads.spawn_blocking(move || measure("busy", &target, &[], &load));
    }
    tokio::time::sleep(WARMUP).await;
    let counted = count(connection, args.seconds).await?;
    let figures: Vec<Figures> =
        loads.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;
    for sidecar in sidecars {
        sidecar.stop()?;
    }
    if let Some(one) = figures.iter().find(|one| one.failed + one.denied > 0) {
        let (failed, denied) = (one.failed, one.denied);
        bail!("{failed} checks failed ({:?}), {denied} were denied", one.failure);
    }
    Ok((figures.iter().map(|one| one.requests).sum(), counted))
}

/// Who is busy in this turn. Its number ends in 0, as that of the only tenant of a load does.
fn busy(turn: usize) -> usize {
    (turn + 1) * 10
}

/// One of so many sidecars' share of the checks.
fn load(args: &Args, sidecars: usize, busy: usize) -> Load {
    Load {
        call: Call::Consume,
        meter: METER.into(),
        tenants: 1,
        tenant_prefix: tenant(busy / 10),
        zipf: false,
        amount: 1,
        batch: 1,
        durability: Durability::Written,
        token: None,
        keys: false,
        connections: 1,
        in_flight: 1_000,
        rate: Some(args.pace / sidecars as f64),
        warmup: WARMUP.as_secs_f64(),
        seconds: args.seconds,
        threads: 1,
    }
}

async fn count(connection: &mut MultiplexedConnection, seconds: f64) -> anyhow::Result<Counted> {
    let before = Calls::so_far(connection).await?;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let calls = Calls::so_far(connection).await?.since(&before);
    Ok(Counted { calls, seconds })
}

/// A sidecar that knows no tenant, and the same when many have used something a while ago.
async fn idle_tenants(
    stage: &Stage,
    args: &Args,
    (database, redis): (&Database, &Redis),
    connection: &mut MultiplexedConnection,
) -> anyhow::Result<(Counted, Counted)> {
    let setup = stage.sidecar(database, redis, "redis-idle", &[]);
    // Looks at what needs no counter.
    let look = quota(Mode::Check, &tenant(0), "bytes");
    let sidecar = Sidecar::serving(&setup, &look, |answer| answer.allowed).await?;
    tokio::time::sleep(SETTLING).await;
    let before = count(connection, args.seconds).await?;
    touch(&sidecar.client()?, args.idle_tenants).await.context("asking for all tenants")?;
    tokio::time::sleep(SETTLING).await;
    let idle = count(connection, args.seconds).await?;
    sidecar.stop()?;
    Ok((before, idle))
}

/// Takes something for each of the tenants.
async fn touch(client: &Client, tenants: usize) -> anyhow::Result<()> {
    let mut touching = JoinSet::new();
    for first in 0..TOUCHED_AT_ONCE {
        let mut client = client.clone();
        touching.spawn(async move {
            for number in (first..tenants).step_by(TOUCHED_AT_ONCE) {
                let take = quota(Mode::Consume, &tenant(number), METER);
                if !client.check_quota(take).await?.into_inner().allowed {
                    bail!("{} is denied", tenant(number));
                }
            }
            Ok(())
        });
    }
    touching.join_all().await.into_iter().collect()
}
