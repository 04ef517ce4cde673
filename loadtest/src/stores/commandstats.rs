//! How often Redis was called, as it counts it itself.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;

/// Commands that run a script: each is one call of a sidecar. What a script calls in its turn counts
/// under that command's own name.
const SCRIPTS: [&str; 6] = ["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"];

/// Calls by command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls(BTreeMap<String, u64>);

impl Calls {
    /// All since Redis started.
    pub async fn so_far(redis: &mut MultiplexedConnection) -> anyhow::Result<Self> {
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(redis).await?;
        Ok(Self::parse(&stats))
    }

    fn parse(stats: &str) -> Self {
        let calls = stats.lines().filter_map(|line| {
            let (command, figures) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let (calls, _) = figures.strip_prefix("calls=")?.split_once(',')?;
            Some((command.to_owned(), calls.parse().ok()?))
        });
        Self(calls.collect())
    }

    /// Those since `before`, without the question that was asked then.
    pub fn since(&self, before: &Self) -> Self {
        let since = |(command, calls): (&String, &u64)| {
            let asked = u64::from(command == "info");
            let before = before.0.get(command).copied().unwrap_or(0) + asked;
            (command.clone(), calls.saturating_sub(before))
        };
        Self(self.0.iter().map(since).filter(|(_, calls)| *calls > 0).collect())
    }

    /// Calls of scripts.
    pub fn scripts(&self) -> u64 {
        SCRIPTS.iter().filter_map(|command| self.0.get(*command)).sum()
    }

    /// The calls of all other commands, those within scripts among them, by command and second.
    pub fn others(&self, seconds: f64) -> String {
        let others = self.0.iter().filter(|(command, _)| !SCRIPTS.contains(&command.as_str()));
        let told =
            others.map(|(command, calls)| format!("{command} {:.1}", *calls as f64 / seconds));
        told.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_between_two_questions_and_scripts_apart() {
        let before =
            Calls::parse("# Commandstats\r\ncmdstat_get:calls=5,usec=9,usec_per_call=1.8\r\n");
        let after = Calls::parse(
            "cmdstat_evalsha:calls=7,usec=1,x=2\r\ncmdstat_eval:calls=1,usec=1\r\n\
             cmdstat_get:calls=25,usec=9\r\ncmdstat_info:calls=1,usec=1\r\n",
        );
        let since = after.since(&before);
        assert_eq!(since.scripts(), 8);
        assert_eq!(since.others(10.0), "get 2.0", "the question itself is left out");
    }
}
