//! Names and layout of what is kept in Redis.
//!
//! Constraints: a script touches one counter (and reads the life); names carry the tenant as hash tag,
//! so that all keys of a tenant live on one shard of a cluster; every number is whole and below
//! 2^53 in absolute value, written in decimal; `maxmemory-policy` is `noeviction`.
//!
//! | name | type | what |
//! | --- | --- | --- |
//! | `tg:life` | string | 32 random hex digits, set where absent; gone when Redis was emptied |
//! | `tg:{tenant}:meter:label[:subject]` | hash | one counter, see below |
//! | `tgd:{tenant}:meter:label[:subject]` | set | a distinct count with a hard limit: the hashes of its values, as signed decimals |
//! | `tgd:{tenant}:meter:label[:subject]#` | string | of that set: `epoch at_least provisional`, a least count, and whether its floor is from before recovery (0 or 1) |
//! | `tgr:{tenant}:rate[:subject]` | hash | a rate; its layout is in `rates.rs` |
//! | `tg:recall` | channel | `ticket first by key`: [`Recall`](crate::leases::message::Recall); `-` for no first |
//!
//! Fields of a counter:
//!
//! | field | what |
//! | --- | --- |
//! | `e` | epoch |
//! | `c` | `closed_seq` of its floor; absent in a stub |
//! | `m` | in a stub: the least `closed_seq` of an acceptable floor |
//! | `b` `x` | base (usage of closed runs), forfeited |
//! | `t` `u` `h` | Σ taken, Σ used, number of holders, over the entries |
//! | `o` | 1 = one of these sums is past what can be counted, else 0 |
//! | `l` `v` | ceiling (−1 = none) and its version |
//! | `n` | tickets given out |
//! | `w` | wants, oldest first: `run:id:ticket`, separated by spaces |
//! | `f` | fenced runs, latest last: `run+` with the number of its closing when folded, `run-` not yet |
//! | `p` | closings up to this one are folded everywhere, and their runs may be missing in `f` |
//! | `r:<run>` | entry: granted returned consumed recorded undone flushed sequence answered |
//!
//! In a cluster the life would have to be kept once per shard; the client here speaks to one
//! primary.

use crate::domain::{
    cell_key::CellKey,
    ids::{MeterName, Subject, TenantId},
};

/// Channel of recall hints.
pub const RECALL_CHANNEL: &str = "tg:recall";
/// Name of the life.
pub const LIFE: &str = "tg:life";
/// Start of every counter's name.
pub const COUNTER_PREFIX: &str = "tg:{";

/// Name of a counter.
pub fn counter_name(key: &CellKey) -> String {
    format!("tg:{}", tail(key))
}

/// Name of a counter's set of distinct values.
pub fn distinct_name(key: &CellKey) -> String {
    format!("tgd:{}", tail(key))
}

/// Name of what is known about that set. No subject contains `#`.
pub fn distinct_head_name(key: &CellKey) -> String {
    format!("{}#", distinct_name(key))
}

fn tail(key: &CellKey) -> String {
    let CellKey { tenant, meter, subject, label } = key;
    match subject {
        Some(subject) => format!("{{{tenant}}}:{meter}:{label}:{subject}"),
        None => format!("{{{tenant}}}:{meter}:{label}"),
    }
}

/// The counter that `name` names; `None` for names of other things.
pub fn counter_of_name(name: &str) -> Option<CellKey> {
    // Ids contain no braces and meters no colons, so the parts cannot be confused.
    let (tenant, rest) = name.strip_prefix(COUNTER_PREFIX)?.split_once("}:")?;
    let mut parts = rest.splitn(5, ':');
    let meter = parts.next()?;
    let label = [parts.next()?, parts.next()?, parts.next()?].join(":");
    let subject = parts.next().map(Subject::new).transpose().ok()?;
    Some(CellKey {
        tenant: TenantId::stored(tenant).ok()?,
        meter: MeterName::new(meter).ok()?,
        subject,
        label: label.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_whatever_its_ids_contain() {
        for subject in [None, Some(Subject::new("a:b:{c".replace('{', "=")).unwrap())] {
            let key = CellKey {
                tenant: TenantId::new("acme:eu/1").unwrap(),
                meter: MeterName::new("api_calls").unwrap(),
                subject,
                label: "interval_60s:-120:3".parse().unwrap(),
            };
            assert_eq!(counter_of_name(&counter_name(&key)), Some(key));
        }
        assert_eq!(
            counter_name(&CellKey {
                tenant: TenantId::new("t").unwrap(),
                meter: MeterName::new("m").unwrap(),
                subject: None,
                label: "lifetime:0:1".parse().unwrap(),
            }),
            "tg:{t}:m:lifetime:0:1"
        );
    }

    #[test]
    fn the_name_of_something_else_is_no_counter() {
        for name in ["tg:life", "tg:{t", "tg:{t}:m", "tgd:{t}:m:lifetime:0:1", "tg:{t}:m:day:x:1"] {
            assert_eq!(counter_of_name(name), None, "{name}");
        }
    }
}
