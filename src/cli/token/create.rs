//! `tollgate token create`.

use jiff::{SignedDuration, Timestamp};
use rand::RngCore;
use uuid::Uuid;

use crate::{
    cli::{
        ledger_args::{AuthorArgs, LedgerArgs},
        print::outln,
    },
    clock::Clock,
    domain::{
        ids::TenantId,
        invalid::Invalid,
        token::{RANDOM_BYTES, Role, Secret, Token, check_name},
    },
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What to call it, such as the application that uses it
    #[arg(value_parser = name)]
    name: String,
    /// What it may do: service (all checks, recording), viewer or billing (look only), admin
    #[arg(long, default_value = "service")]
    role: Role,
    /// The only tenant that it may name; any unless given
    #[arg(long)]
    tenant: Option<TenantId>,
    /// When it ends by itself: an instant (2027-01-01T00:00:00Z) or a time from now (720h, 90d)
    #[arg(long, value_name = "WHEN", value_parser = ending, allow_hyphen_values = true)]
    expires: Option<Ending>,
    /// Keep it nowhere; print an entry for access.tokens_file instead
    #[arg(long)]
    print_entry: bool,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    At(Timestamp),
    In(SignedDuration),
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let mut random = [0; RANDOM_BYTES];
    rand::rng().fill_bytes(&mut random);
    let secret = Secret::of(random);
    let now = Clock::System.now();
    let expires_at = match args.expires {
        None => None,
        Some(Ending::At(end)) => Some(end),
        Some(Ending::In(length)) => Some(now.checked_add(length)?),
    };
    if let Some(end) = expires_at.filter(|end| *end <= now) {
        let invalid =
            Invalid::new("--expires", format!("{end} is past"), "give an instant that is to come");
        return Err(invalid.into());
    }
    let token = Token {
        id: Uuid::now_v7(),
        name: args.name.clone(),
        role: args.role,
        tenant: args.tenant.clone(),
        expires_at,
        hash: secret.hash(),
    };
    if args.print_entry {
        // A JSON object is a YAML one.
        outln!("- {}", serde_json::to_string(&token)?);
        // Apart from what goes into the file.
        eprintln!("{}", secret.as_str());
    } else {
        let ledger = args.ledger.open().await?;
        let actor = args.author.actor();
        ledger.create_token(&token, args.author.author(&actor)).await?;
        eprintln!(
            "token {} ({}) holds from now on; this is the only time that it is shown:",
            token.name, token.role
        );
        outln!("{}", secret.as_str());
    }
    Ok(())
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|invalid| invalid.remedy)
}

fn ending(text: &str) -> Result<Ending, String> {
    if let Ok(instant) = text.parse() {
        return Ok(Ending::At(instant));
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
    let length = match days {
        Some(days) => days.checked_mul(86_400).map(SignedDuration::from_secs),
        None => text.parse::<SignedDuration>().ok(),
    };
    length
        .filter(SignedDuration::is_positive)
        .map(Ending::In)
        .ok_or_else(|| "give an instant (2027-01-01T00:00:00Z) or a time (90d, 720h)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_an_instant_or_a_time_from_now() {
        assert!(matches!(ending("2027-01-01T00:00:00Z"), Ok(Ending::At(_))));
        for (text, hours) in [("90d", 2_160), ("720h", 720)] {
            let Ok(Ending::In(length)) = ending(text) else { panic!("{text}") };
            assert_eq!(length.as_hours(), hours);
        }
        for text in ["", "-1d", "0d", "tomorrow", "99999999999999999d"] {
            assert!(ending(text).is_err(), "{text}");
        }
    }
}
