//! Names that only catalogs use, and the schemas of all names in them.

use std::fmt;

use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::domain::{
    ids::{AccountId, CatalogName, FeatureName, ID_BYTES_MAX, MeterName, PlanName, TenantId},
    invalid::Invalid,
    money::Currency,
    period::Period,
};

macro_rules! catalog_name {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(PlanName);

        impl $name {
            /// Checks and wraps a name.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
                // Every name in a catalog follows one rule, which plan names already hold.
                PlanName::new(text)
                    .map(Self)
                    .map_err(|invalid| Invalid { field: $field.into(), ..invalid })
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        name_schema!($name);
    };
}

macro_rules! name_schema {
    ($name:ident) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "format": "name",
                    "pattern": "^[a-z][a-z0-9_.-]*$",
                    "maxLength": 64,
                })
            }
        }
    };
}

catalog_name!(
    /// The name of a rate limit (`api`).
    RateName, "rate"
);
catalog_name!(
    /// The name of an operation (`chat_query`).
    OperationName, "operation"
);
catalog_name!(
    /// The name of a dunning policy, an add-on, a pool, a rule or the like.
    RuleName, "name"
);
name_schema!(CatalogName);
name_schema!(FeatureName);
name_schema!(MeterName);
name_schema!(PlanName);

macro_rules! text_schema {
    ($name:ident, $($schema:tt)*) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", $($schema)* })
            }
        }
    };
}

text_schema!(AccountId, "format": "id", "maxLength": ID_BYTES_MAX);
text_schema!(TenantId, "format": "id", "maxLength": ID_BYTES_MAX);
text_schema!(
    Currency,
    "description": "ISO 4217 code, such as USD",
    "format": "currency",
    "pattern": "^[A-Z]{3}$"
);
text_schema!(
    Period,
    "description": "minute, hour, day, month (calendar, in the tenant's zone), billing_cycle, \
                    lifetime, or interval_<n>s for a fixed number of seconds",
    "format": "period",
    "pattern": "^(minute|hour|day|month|billing_cycle|lifetime|interval_[1-9][0-9]*s)$"
);
text_schema!(
    Zone,
    "description": "IANA time zone, such as Europe/London",
    "format": "zone"
);

/// An IANA time zone by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(String);

impl Zone {
    /// Checks that the zone exists.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        match TimeZone::get(name) {
            Ok(_) => Ok(Self(name.to_owned())),
            Err(_) => Err(Invalid::new(
                "zone",
                format!("{name:?} is not a known time zone"),
                "use an IANA name such as UTC or Europe/London",
            )),
        }
    }

    /// The zone's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The zone's rules; UTC if the machine has lost them since the name was checked.
    pub fn time_zone(&self) -> TimeZone {
        TimeZone::get(&self.0).unwrap_or(TimeZone::UTC)
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self("UTC".to_owned())
    }
}

impl TryFrom<String> for Zone {
    type Error = Invalid;
    fn try_from(name: String) -> Result<Self, Invalid> {
        Self::new(&name)
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0
    }
}
