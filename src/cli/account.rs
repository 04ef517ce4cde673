//! `tollgate account`: who pays, and by which clock.

use anyhow::{Context, bail};
use jiff::{Span, Timestamp, tz::TimeZone};

use super::{
    ledger_args::{AuthorArgs, LedgerArgs, test_clock},
    print::outln,
    values::{instant, span},
};
use crate::{clock::Clock, domain::ids::AccountId};

/// Show and move the clocks of accounts
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Show an account's clock, or move it: all its tenants follow
    Clock(ClockArgs),
}

#[derive(clap::Args, Debug)]
struct ClockArgs {
    /// The account's id
    account: AccountId,
    #[command(flatten)]
    change: ClockChange,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

#[derive(clap::Args, Debug)]
#[group(multiple = false)]
struct ClockChange {
    /// Puts the account on a test clock that stands here (RFC 3339); it only goes forward
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    set: Option<Timestamp>,
    /// Moves the test clock forward by this much, such as 3d, 1mo or PT1H, by the calendar in UTC
    #[arg(long, value_name = "SPAN", value_parser = span, allow_hyphen_values = true)]
    advance: Option<Span>,
    /// Puts the account back on the real time
    #[arg(long)]
    real: bool,
}

/// Runs one of the commands.
pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Clock(args) => clock(&args).await,
    }
}

async fn clock(args: &ClockArgs) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let Some(before) = test_clock(&ledger, &args.account).await? else {
        bail!("no tenant has the account {}; `tollgate tenant list` lists all", args.account);
    };
    let after = match &args.change {
        ClockChange { set: Some(instant), .. } => Some(*instant),
        ClockChange { advance: Some(span), .. } => {
            let from = before.unwrap_or_else(|| Clock::System.now());
            let to = from.to_zoned(TimeZone::UTC).checked_add(*span);
            Some(to.with_context(|| format!("cannot move {from} by {span}"))?.timestamp())
        }
        ClockChange { real: true, .. } => None,
        _ => {
            told(&args.account, before);
            return Ok(());
        }
    };
    let actor = args.author.actor();
    ledger.set_test_clock(&args.account, after, args.author.author(&actor)).await?;
    told(&args.account, after);
    Ok(())
}

fn told(account: &AccountId, clock: Option<Timestamp>) {
    match clock {
        Some(at) => outln!("account {account} is on a test clock at {at}"),
        None => outln!("account {account} is on the real time"),
    }
}
