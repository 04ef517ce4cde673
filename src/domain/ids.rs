//! A newtype per id. Each is checked once, where it enters, and is cheap to clone.

use std::fmt;

use arcstr::ArcStr;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::invalid::Invalid;

/// Longest id that a caller may choose (tenant, account, subject), in bytes.
pub const ID_BYTES_MAX: usize = 128;
/// Longest name in a catalog (meter, plan, feature), in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(ArcStr);

        impl $name {
            /// Checks and wraps `text`; the error names the field as this API calls it.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
                let text = text.as_ref();
                let check: fn(&'static str, &str) -> Result<(), Invalid> = $check;
                check($field, text)?;
                Ok(Self(ArcStr::from(text)))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A copy that shares nothing with this one, where a clone would.
            pub fn apart(&self) -> Self {
                Self(ArcStr::from(self.as_str()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                Self::from(&*id.0)
            }
        }
    };
}

string_id!(
    /// Who is checked and metered: one customer of the SaaS.
    TenantId, "tenant", check_id
);
string_id!(
    /// Who pays: one or more tenants.
    AccountId, "account", check_id
);
string_id!(
    /// Something within a tenant that a limit holds per (photos per *listing*).
    Subject, "subject", check_id
);
string_id!(
    /// The name of a catalog (`hosting`).
    CatalogName, "catalog", check_name
);
string_id!(
    /// The name of a plan within its catalog (`starter`).
    PlanName, "plan", check_name
);
string_id!(
    /// The name of a meter within its catalog (`tokens`).
    MeterName, "meter", check_name
);
string_id!(
    /// The name of a feature within its catalog.
    FeatureName, "feature", check_name
);
string_id!(
    /// What makes a retry recognisable: unique per tenant within the retention of keys.
    IdempotencyKey, "idempotency_key", check_idempotency_key
);

/// One start of one sidecar. Never reused; old runs are closed, not continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

impl std::str::FromStr for RunId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Uuid::parse_str(text).map(Self).map_err(|_| {
            Invalid::new(
                "run",
                format!("{text:?} is not a run id"),
                "give the 32 hexadecimal digits that `tollgate run list` shows",
            )
        })
    }
}

/// Names a pool; given by the ledger in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolId(pub u64);

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool_{}", self.0)
    }
}

impl std::str::FromStr for PoolId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = text.strip_prefix("pool_").and_then(|digits| digits.parse().ok());
        number.map(Self).ok_or_else(|| {
            Invalid::new(
                "pool",
                format!("{text:?} is not a pool's id"),
                "give it as `tollgate pool list` shows it (pool_3)",
            )
        })
    }
}

/// Separates the parts of a pool's cells; no id that a caller chooses contains it.
const POOL_MARK: char = '!';

impl TenantId {
    /// Stands for a cell of a pool where counters are kept by tenant: what its members have in
    /// common, or what a class keeps back. Never given by a caller, and never that of a tenant.
    pub fn of_pool(pool: PoolId, class: Option<&str>) -> Self {
        let PoolId(number) = pool;
        Self(match class {
            None => format!("pool{POOL_MARK}{number}").into(),
            Some(class) => format!("pool{POOL_MARK}{number}{POOL_MARK}{class}").into(),
        })
    }

    /// The pool, if it stands for a cell of one.
    pub fn pool(&self) -> Option<PoolId> {
        let mut parts = self.as_str().split(POOL_MARK).skip(1);
        parts.next()?.parse().ok().map(PoolId)
    }

    /// Reads back what was stored: a tenant's id, or what stands for a cell of a pool.
    pub fn stored(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.splitn(3, POOL_MARK);
        match (parts.next(), parts.next(), parts.next()) {
            (Some("pool"), Some(number), class) if number.parse::<u64>().is_ok() => {
                if let Some(class) = class {
                    check_name("class", class)?;
                }
                Ok(Self(text.into()))
            }
            _ => Self::new(text),
        }
    }
}

/// Names a grant; given by the ledger in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
// Begins at any multiple of 4 bytes: a window's label, of which each counter has several, is 8 bytes
// smaller for it.
#[repr(Rust, packed(4))]
pub struct GrantId(pub u64);

impl From<u64> for GrantId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<GrantId> for u64 {
    fn from(id: GrantId) -> u64 {
        id.0
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grant_{}", { self.0 })
    }
}

impl std::str::FromStr for GrantId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = text.strip_prefix("grant_").and_then(|digits| digits.parse().ok());
        number.map(Self).ok_or_else(|| {
            Invalid::new(
                "grant",
                format!("{text:?} is not a grant's id"),
                "give it as `tollgate grant list` shows it (grant_17)",
            )
        })
    }
}

/// Ids end up in Redis keys between braces and in logs: printable ASCII without those.
fn check_id(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(field, "is empty", format!("give the {field}'s id")));
    }
    if text.len() > ID_BYTES_MAX {
        return Err(Invalid::new(
            field,
            format!("is {} bytes long", text.len()),
            format!("use at most {ID_BYTES_MAX} bytes"),
        ));
    }
    if let Some(bad) =
        text.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-:@/+=~".contains(*c))
    {
        return Err(Invalid::new(
            field,
            format!("contains {bad:?}"),
            "use ASCII letters, digits and . _ - : @ / + = ~",
        ));
    }
    Ok(())
}

fn check_name(field: &'static str, text: &str) -> Result<(), Invalid> {
    let remedy = "use a lower-case letter, then lower-case letters, digits, '_', '-' or '.'";
    if text.is_empty() {
        return Err(Invalid::new(field, "is empty", format!("give the {field}'s name")));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(Invalid::new(
            field,
            format!("is {} bytes long", text.len()),
            format!("use at most {NAME_BYTES_MAX} bytes"),
        ));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
        let what = match bad {
            ' ' => "a space".to_owned(),
            upper if upper.is_uppercase() => format!("the capital letter {upper:?}"),
            other => format!("{other:?}"),
        };
        return Err(Invalid::new(field, format!("{text:?} contains {what}"), remedy));
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(Invalid::new(field, format!("{text:?} does not start with a letter"), remedy));
    }
    Ok(())
}

fn check_idempotency_key(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(field, "is empty", "leave it out or give a key"));
    }
    if text.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        return Err(Invalid::new(
            field,
            format!("is {} bytes long", text.len()),
            format!("use at most {IDEMPOTENCY_KEY_BYTES_MAX} bytes, for example a UUID"),
        ));
    }
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(Invalid::new(
            field,
            format!("contains {bad:?}"),
            "use visible ASCII characters without spaces, for example a UUID",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_that_would_break_a_redis_hash_tag_is_refused() {
        let error = TenantId::new("a}b").unwrap_err();
        assert_eq!(error.field, "tenant");
        assert!(error.problem.contains('}'), "{error}");
    }

    #[test]
    fn an_overlong_idempotency_key_names_its_length_and_the_bound() {
        let error = IdempotencyKey::new("k".repeat(257)).unwrap_err();
        assert!(error.to_string().contains("257"), "{error}");
        assert!(error.remedy.contains("256"), "{error}");
    }

    #[test]
    fn a_name_starts_with_a_lower_case_letter() {
        assert!(MeterName::new("api_calls").is_ok());
        let problem = |name| MeterName::new(name).unwrap_err().problem;
        assert_eq!(problem("9lives"), "\"9lives\" does not start with a letter");
        assert_eq!(problem("Shop 1"), "\"Shop 1\" contains the capital letter 'S'");
        assert_eq!(problem("shop 1"), "\"shop 1\" contains a space");
    }
}
