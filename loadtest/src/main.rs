//! Loads a Tollgate sidecar, or a do-nothing server of the same shape to compare it with.

use std::process::ExitCode;

use clap::Parser;

mod calls;
mod compare;
mod connection;
mod disk;
mod document;
mod http2;
mod naive;
mod noop;
mod plan;
mod process;
mod provenance;
mod report;
mod run;
mod scale;
mod scenarios;
mod scrape;
mod server;
mod slots;
mod stores;
mod stream;
mod target;
mod tenants;
mod throttlecrab;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "tollgate-loadtest", version, about, arg_required_else_help = true)]
enum Command {
    /// Serve the API without doing anything: what gRPC alone costs.
    Noop(noop::Args),
    /// Serve CheckQuota by one script in Redis for every check: the naive exact design.
    Naive(naive::Args),
    /// Load a server and print throughput, latency and the server's CPU time per request.
    Run(run::Args),
    /// Load the sidecar and do-nothing servers in turns, and print the medians as a table.
    Compare(compare::Args),
    /// Scrape the metrics of a sidecar by hand and by Prometheus, with few tenants and with many.
    Scrape(scrape::Args),
    /// Count what sidecars ask of Redis, and time their flush to Postgres and their restart.
    Stores(stores::Args),
}

fn main() -> ExitCode {
    let end = match Command::parse() {
        Command::Noop(args) => noop::main(args),
        Command::Naive(args) => naive::main(args),
        Command::Run(args) => run::main(args),
        Command::Compare(args) => compare::main(args),
        Command::Scrape(args) => scrape::main(args),
        Command::Stores(args) => stores::main(args),
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
