//! Who is who, and what each may use: as `catalog.yaml` says.

use std::ops::RangeInclusive;

use tollgate::domain::ids::{PoolId, TenantId};

use super::{stage::Stage, truth::Truth};

/// Who works under keys, and may therefore send again.
pub const KEYED: [&str; 5] = ["tiny", "acme", "grows", "large", "granted"];
/// Who works without keys.
pub const LOOSE: &str = "loose";
/// Who works by the operation `work` alone.
pub const COMPOSED: &str = "composed";
/// Who draw on a pool of `disk`.
pub const MEMBERS: [&str; 3] = ["member-a", "member-b", "member-c"];
/// Who takes seats and gives them back.
pub const SEATED: &str = "acme";
/// Whose plan the operator changes.
pub const CHANGED: &str = "grows";

/// What is used.
pub const METERS: [&str; 7] = ["calls", "bursts", "jobs", "seats", "disk", "traffic", "pulses"];
/// Hard limits, of the plans `basic` and `larger`.
const LIMITS: [(&str, i64, i64); 4] =
    [("calls", 80, 250), ("bursts", 12, 24), ("jobs", 40, 120), ("seats", 10, 20)];
/// Calls that one tenant is granted beyond its plan.
pub const GRANTED: (&str, &str, i64) = ("granted", "calls", 60);
/// Sizes that the operator gives the pool.
pub const POOL_SIZES: RangeInclusive<i64> = 40..=60;
/// Under which all members' use of the pool is kept.
pub const POOL: (&str, &str) = ("the pool", "disk");

/// Everybody.
pub fn all() -> impl Iterator<Item = &'static str> {
    KEYED.into_iter().chain([LOOSE, COMPOSED]).chain(MEMBERS)
}

fn plan(tenant: &str) -> &'static str {
    match tenant {
        "tiny" | CHANGED | "granted" | COMPOSED => "basic",
        _ => "larger",
    }
}

/// The highest limit that is ever in force in one window, without grants; `None`: it is not hard.
pub fn limit(tenant: &str, meter: &str) -> Option<i64> {
    if MEMBERS.contains(&tenant) {
        return None;
    }
    let (_, basic, larger) = LIMITS.iter().find(|limit| limit.0 == meter)?;
    Some(if plan(tenant) == "basic" && tenant != CHANGED { *basic } else { *larger })
}

/// What of a meter can be admitted in all.
fn admitted_max(tenant: &str, meter: &str) -> Option<i64> {
    let granted = if (tenant, meter) == (GRANTED.0, GRANTED.1) { GRANTED.2 } else { 0 };
    limit(tenant, meter).map(|limit| limit + granted)
}

/// Everybody, with plans, the grant and the pool, whose id it answers.
pub async fn make(stage: &Stage, truth: &Truth) -> PoolId {
    let alone = all().filter(|tenant| !MEMBERS.contains(tenant));
    stage.world.tenants(alone.map(|tenant| (tenant, plan(tenant)))).await;
    #[allow(clippy::disallowed_methods)] // As an operator would set it.
    let now = jiff::Timestamp::now();
    let members = MEMBERS.map(|tenant| (tenant, plan(tenant)));
    stage.world.tenants_of("agency", now, members).await;
    let operate = |arguments: &[&str]| stage.operate(arguments).unwrap();
    let created = operate(&["pool", "create", "agency", "shared_disk", "--json"]);
    let created: serde_json::Value = serde_json::from_str(&created).unwrap();
    let pool = created["pool"].as_str().unwrap();
    operate(&[&["pool", "add-member", pool][..], &MEMBERS].concat());
    let (tenant, meter, amount) = GRANTED;
    operate(&["grant", "create", tenant, "--meter", meter, "--amount", &amount.to_string()]);
    for tenant in all() {
        // Windows of seconds are compared one by one, in the ledger.
        for meter in METERS.into_iter().filter(|meter| *meter != "bursts") {
            if let Some(max) = admitted_max(tenant, meter) {
                truth.limit((tenant, meter), max);
            }
        }
    }
    truth.limit(POOL, *POOL_SIZES.end());
    pool.parse().unwrap()
}

/// Whose counter the pool is.
pub fn owner(pool: PoolId) -> TenantId {
    TenantId::of_pool(pool, None)
}
