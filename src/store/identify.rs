//! Finds out which counters a connection leads to, and whether they may be used.

use redis::{Cmd, Script, aio::MultiplexedConnection, cmd, pipe};
use uuid::Uuid;

use super::{error::StoreError, identity::Identity, keys::LIFE};

/// Puts another life in the place of the given one, unless somebody else has.
const RENEW: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])";

/// What a look at a connection in service found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The same counters, on a primary.
    Same,
    /// The server was emptied, or has become a primary anew.
    Changed,
    /// The server is no primary any more.
    Demoted,
}

/// The counters behind a new connection; a server without a life is given one.
///
/// `distrusted` are counters that were seen on a server that had been demoted: it may have taken
/// over older data since, under the same life. Then that life is over.
pub(super) async fn identify(
    connection: &mut MultiplexedConnection,
    distrusted: Option<&Identity>,
) -> Result<Identity, StoreError> {
    // One command for everything, and one that hosted servers allow where they forbid CONFIG.
    let info: String = cmd("INFO").query_async(connection).await?;
    let run_id = fit_server(&info)?;
    let replication_id = replication_id(&info);
    let () = cmd("SETNX").arg(LIFE).arg(new_life()).query_async(connection).await?;
    // Emptied between the two: an error, and the next attempt sets another life.
    let life: String = cmd("GET").arg(LIFE).query_async(connection).await?;
    let mut identity = Identity { run_id, replication_id, life };
    if distrusted == Some(&identity) {
        let renew = Script::new(RENEW);
        let mut renew = renew.key(LIFE);
        renew.arg(&identity.life).arg(new_life());
        identity.life = renew.invoke_async(connection).await?;
    }
    Ok(identity)
}

/// Looks whether a connection still leads to the primary with the counters of `identity`.
pub(super) async fn look(
    connection: &mut MultiplexedConnection,
    identity: &Identity,
) -> Result<Look, StoreError> {
    let mut questions = pipe();
    questions.add_command(Cmd::get(LIFE)).cmd("INFO").arg("replication");
    let (life, info): (Option<String>, String) = questions.query_async(connection).await?;
    Ok(match () {
        () if field(&info, "role") != Some("master") => Look::Demoted,
        () if life.as_ref() != Some(&identity.life) => Look::Changed,
        () if replication_id(&info) != identity.replication_id => Look::Changed,
        () => Look::Same,
    })
}

/// Random, and never given twice: while a life stands, nothing has been lost since it was set.
fn new_life() -> String {
    Uuid::new_v4().simple().to_string()
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn replication_id(info: &str) -> String {
    field(info, "master_replid").unwrap_or_default().to_owned()
}

/// The `run_id` of a server that may keep counters.
fn fit_server(info: &str) -> Result<String, StoreError> {
    let field = |name: &str| {
        let missing = || StoreError::Unreadable { script: "INFO", answer: format!("no {name}") };
        field(info, name).map(str::to_owned).ok_or_else(missing)
    };
    let role = field("role")?;
    if role != "master" {
        return Err(StoreError::NotPrimary { role });
    }
    let policy = field("maxmemory_policy")?;
    if policy != "noeviction" {
        return Err(StoreError::Evicts { policy });
    }
    field("run_id")
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:ab12\r\n\r\n# Memory\r\n\
                        maxmemory_policy:noeviction\r\n# Replication\r\nrole:master\r\n";

    #[test]
    fn a_server_that_may_not_keep_counters_says_why() {
        assert_eq!(fit_server(INFO).unwrap(), "ab12");
        for (from, to, says) in [
            ("noeviction", "allkeys-lru", "set it to noeviction"),
            ("role:master", "role:slave", "address of the primary"),
            ("run_id:", "run:", "no run_id"),
        ] {
            let error = fit_server(&INFO.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
