//! Meters as a catalog describes them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::canonical::is_default;
use crate::domain::{
    ids::MeterName,
    meter::{Aggregation, Meter, MeterKind},
    period::Period,
};

/// Something that is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterDef {
    pub name: MeterName,
    /// What people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Whether it runs, moves or is only read.
    pub kind: MeterKind,
    /// How a window's events become one number. Fixed for the life of the name.
    #[serde(default = "sum", skip_serializing_if = "is_sum")]
    pub aggregation: Aggregation,
    /// The base unit in the singular: what amounts in events, limits and answers are counted in.
    pub unit: String,
    /// Larger units of it by name, in base units: `GB: 1000000000`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, u64>,
    /// The unit that people see; the base unit unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_unit: Option<String>,
    /// The unit that rates are per; the display unit unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing_unit: Option<String>,
    /// The period of limits that name none. Counters: billing_cycle unless given; levels and
    /// static limits are always lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// What a subject of it is called in the singular (`listing`); needed by limits per subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The property whose distinct values are counted; only with `distinct_count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct_property: Option<String>,
    /// Properties of events that rollups are kept by, besides the total.
    #[serde(default, skip_serializing_if = "is_default")]
    pub group_by: Vec<String>,
    /// Days that raw events are kept in the ledger; 0 keeps none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub event_retention_days: u16,
    /// Which value of a level's month its overage is billed on; only for levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_on: Option<LevelBilling>,
}

/// Which value of a level a period is billed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LevelBilling {
    /// The highest value within the period.
    Peak,
    /// The value at the period's end.
    End,
}

/// A unit that amounts can be stated in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    /// How many base units it is.
    pub size: u64,
}

impl MeterDef {
    /// How many base units `name` is, if the meter knows the unit.
    pub fn unit_size(&self, name: &str) -> Option<u64> {
        if name == self.unit { Some(1) } else { self.units.get(name).copied() }
    }

    /// The unit that people see.
    pub fn display(&self) -> Unit {
        self.unit_named(self.display_unit.as_deref())
    }

    /// The unit that rates are per.
    pub fn pricing(&self) -> Unit {
        self.unit_named(self.pricing_unit.as_deref().or(self.display_unit.as_deref()))
    }

    /// The unit called `name`, or the pricing unit.
    pub fn pricing_per(&self, name: Option<&str>) -> Unit {
        name.map_or_else(|| self.pricing(), |name| self.unit_named(Some(name)))
    }

    // Names are checked before a catalog is accepted; an unknown one is the base unit.
    fn unit_named(&self, name: Option<&str>) -> Unit {
        let known = name.and_then(|name| Some((name, self.unit_size(name)?)));
        let (name, size) = known.unwrap_or((&self.unit, 1));
        Unit { name: name.to_owned(), size }
    }

    /// The period of a limit that names none.
    pub fn default_period(&self) -> Period {
        match self.kind {
            MeterKind::Counter => self.period.unwrap_or(Period::BillingCycle),
            MeterKind::Level | MeterKind::Static => Period::Lifetime,
        }
    }

    /// The meter as enforcement uses it.
    pub fn compile(&self) -> Meter {
        Meter {
            name: self.name.clone(),
            kind: self.kind,
            aggregation: self.aggregation,
            unit: self.unit.clone(),
            distinct_property: self.distinct_property.clone(),
            group_by: self.group_by.clone(),
            event_retention_days: self.event_retention_days,
        }
    }
}

fn sum() -> Aggregation {
    Aggregation::Sum
}

fn is_sum(aggregation: &Aggregation) -> bool {
    *aggregation == Aggregation::Sum
}
