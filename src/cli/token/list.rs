//! `tollgate token list`.

use crate::{
    cli::{
        ledger_args::LedgerArgs,
        print::{out, outln},
        table::table,
    },
    clock::Clock,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Those that were revoked, too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let ledger = args.ledger.open().await?;
    let listed = ledger.tokens(args.all).await?;
    let now = Clock::System.now();
    let state = |listed: &crate::ledger::tokens::ListedToken| match listed.revoked_at {
        Some(_) => "revoked",
        None if listed.token.is_expired(now) => "expired",
        None => "live",
    };
    if args.json {
        let rows = listed.iter().map(|listed| {
            serde_json::json!({
                "id": listed.token.id,
                "name": listed.token.name,
                "role": listed.token.role,
                "tenant": listed.token.tenant,
                "state": state(listed),
                "created_at": listed.created_at,
                "expires_at": listed.token.expires_at,
                "revoked_at": listed.revoked_at,
            })
        });
        outln!("{}", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?);
        return Ok(());
    }
    let rows: Vec<_> = listed
        .iter()
        .map(|listed| {
            let token = &listed.token;
            vec![
                token.name.clone(),
                token.role.to_string(),
                token.tenant.as_ref().map_or("any".to_owned(), ToString::to_string),
                state(listed).to_owned(),
                token.expires_at.map_or("never".to_owned(), |end| end.to_string()),
                token.id.to_string(),
            ]
        })
        .collect();
    out!("{}", table(&["name", "role", "tenant", "state", "expires", "id"], &rows));
    Ok(())
}
