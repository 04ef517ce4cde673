//! `run`: one load against one server.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Parser;

use crate::{
    calls::{Call, Content, Durability, Requests},
    connection,
    plan::{Pace, Plan, Tally, Window},
    process::cpu_time,
    report::{Cpu, Figures, table},
    stream,
    target::Target,
    tenants::order,
};

/// The arguments of `run`.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Server: <ip>:<port> or unix:<path>.
    #[arg(long, default_value = "127.0.0.1:7421")]
    target: Target,
    /// Process ids of the server, and of what it calls, to tell their CPU time per request.
    #[arg(long)]
    server_pid: Vec<u32>,
    #[command(flatten)]
    load: Load,
    /// Name of the run in the output.
    #[arg(long)]
    name: Option<String>,
    /// Write the figures as JSON to this file as well.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fail when a request failed.
    #[arg(long)]
    strict: bool,
}

/// What is asked, how often and for how long.
#[derive(Clone, Debug, Parser)]
pub struct Load {
    /// What to call.
    #[arg(long, value_enum, default_value_t = Call::Check)]
    pub call: Call,
    /// Meter to check or record.
    #[arg(long, default_value = "tokens")]
    pub meter: String,
    /// Number of tenants, called in turn: <tenant-prefix>0, <tenant-prefix>1, …
    #[arg(long, default_value_t = 1)]
    pub tenants: usize,
    /// What the tenants' ids start with.
    #[arg(long, default_value = "load-")]
    pub tenant_prefix: String,
    /// Draw the tenants by Zipf's law instead of calling them in turn.
    #[arg(long)]
    pub zipf: bool,
    /// Base units of each request or event.
    #[arg(long, default_value_t = 1)]
    pub amount: i64,
    /// Events in one RecordUsage, checks in one CheckBatch.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// What acknowledgements survive.
    #[arg(long, value_enum, default_value_t = Durability::Default)]
    pub durability: Durability,
    /// Token that the calls carry; `tollgate token create` prints one.
    #[arg(long, env = "TOLLGATE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Give every event an idempotency key of its own.
    #[arg(long)]
    pub keys: bool,
    /// Connections.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Requests in flight on each connection: always (closed loop), or at most (with --rate).
    #[arg(long, default_value_t = 16)]
    pub in_flight: usize,
    /// Requests a second over all connections, sent whether earlier ones are answered or not.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seconds before measuring.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Seconds of measuring.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Threads of this client.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

impl Load {
    fn content(&self) -> Content {
        let tenant = |number| format!("{}{number}", self.tenant_prefix);
        Content {
            call: self.call,
            meter: self.meter.clone(),
            tenants: (0..self.tenants.max(1)).map(tenant).collect(),
            order: order(self.tenants, self.zipf),
            amount: self.amount,
            batch: self.batch.max(1),
            durability: self.durability,
            keys: self.keys,
        }
    }

    fn pace(&self) -> Pace {
        match self.rate {
            None => Pace::Closed { in_flight: self.in_flight },
            Some(per_second) => Pace::Open { per_second, in_flight_max: self.in_flight },
        }
    }
}

/// Loads a server and prints what was measured.
pub fn main(args: Args) -> anyhow::Result<()> {
    let name = args.name.clone().unwrap_or_else(|| format!("{:?} {}", args.load.call, args.target));
    let figures = measure(&name, &args.target, &args.server_pid, &args.load)?;
    print!("{}", table(std::slice::from_ref(&figures)));
    if let Some(failure) = &figures.failure {
        eprintln!("{} of {} requests failed: {failure}", figures.failed, figures.requests);
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&figures)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if figures.failed > 0 && (args.strict || figures.failed == figures.requests) {
        let all = if figures.failed == figures.requests { "all " } else { "" };
        bail!("{all}requests failed");
    }
    Ok(())
}

/// Loads a server for as long as `load` says.
pub fn measure(
    name: &str,
    target: &Target,
    server_pids: &[u32],
    load: &Load,
) -> anyhow::Result<Figures> {
    if load.connections == 0 || load.in_flight == 0 {
        bail!("give at least one connection and one request in flight");
    }
    if load.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        bail!("give a rate above 0");
    }
    let plan = Plan {
        target: target.clone(),
        connections: load.connections,
        pace: load.pace(),
        token: load.token.clone(),
        warmup: Duration::from_secs_f64(load.warmup),
        measure: Duration::from_secs_f64(load.seconds),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(load.threads.max(1))
        .enable_all()
        .build()?;
    runtime.block_on(drive(name, plan, server_pids, load.content()))
}

async fn drive(
    name: &str,
    plan: Plan,
    server_pids: &[u32],
    content: Content,
) -> anyhow::Result<Figures> {
    // Only sets the keys of this run apart from those of others.
    #[allow(clippy::disallowed_methods)]
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos() as u64;
    let requests = Arc::new(Requests::new(content, run));
    let window = Window::of(&plan, Instant::now());
    let plan = Arc::new(plan);
    let load = |_| match requests.are_streamed() {
        true => tokio::spawn(stream::load(plan.clone(), requests.clone(), window)),
        false => tokio::spawn(connection::load(plan.clone(), requests.clone(), window)),
    };
    let connections: Vec<_> = (0..plan.connections).map(load).collect();
    tokio::time::sleep_until(window.start.into()).await;
    let before = cpu(server_pids)?;
    tokio::time::sleep_until(window.end.into()).await;
    let after = cpu(server_pids)?;
    let mut tally = Tally::new();
    for connection in connections {
        tally.add(connection.await??);
    }
    let cpu = Cpu {
        server: after.server.zip(before.server).map(|(after, before)| after - before),
        client: after.client - before.client,
    };
    Ok(Figures::new(name, &tally, plan.measure, requests.events_per_request(), cpu))
}

fn cpu(server_pids: &[u32]) -> anyhow::Result<Cpu> {
    let servers: Vec<_> = server_pids.iter().map(|pid| cpu_time(*pid)).collect::<Result<_, _>>()?;
    Ok(Cpu {
        server: (!servers.is_empty()).then(|| servers.iter().sum()),
        client: cpu_time(std::process::id())?,
    })
}
