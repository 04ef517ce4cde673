//! A feature of the catalog of the day, ready to be evaluated.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::Value;

use super::{
    access::{FeatureAccess, FeatureReason, SunsetNotice},
    feature_override::FeatureOverride,
    rollout::{place, places_reached},
};
use crate::domain::{
    catalog::{
        features::{FeatureDef, FeatureValue},
        names::RuleName,
    },
    ids::{FeatureName, PlanName, Subject, TenantId},
    invalid::Invalid,
};

/// What a caller says about itself: attributes by name. Those that no rule names are not looked at.
pub type Attributes = BTreeMap<String, String>;

/// A feature with its days turned into instants and its values read.
#[derive(Clone, Debug)]
pub struct CompiledFeature {
    pub definition: FeatureDef,
    default: Option<FeatureValue>,
    targeting: Vec<Rule>,
    rollout: Option<Reach>,
    sunset: Option<Withdrawal>,
}

#[derive(Clone, Debug)]
struct Rule {
    when: BTreeMap<RuleName, Vec<String>>,
    value: FeatureValue,
}

#[derive(Clone, Debug)]
struct Reach {
    salt: String,
    places: u32,
    value: FeatureValue,
    plans: Vec<PlanName>,
}

#[derive(Clone, Debug)]
struct Withdrawal {
    at: Timestamp,
    /// Absent: nobody is told ahead.
    told_from: Option<Timestamp>,
    replacement: Option<FeatureName>,
}

/// Who asks, and what stands about it.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    pub tenant: &'a TenantId,
    /// Whom a rollout is decided by within the tenant; absent = the tenant itself.
    pub subject: Option<&'a Subject>,
    pub attributes: &'a Attributes,
    pub plan: &'a PlanName,
    /// The value that the plan names.
    pub plan_value: Option<&'a FeatureValue>,
    /// The tenant's override of this feature, whether or not it still holds.
    pub feature_override: Option<&'a FeatureOverride>,
    /// Whether the subscription is served.
    pub is_served: bool,
    /// By the tenant's clock.
    pub now: Timestamp,
}

impl CompiledFeature {
    /// Makes `definition` ready; its days are days of `zone`. An error means that it was never
    /// checked.
    pub fn compile(definition: &FeatureDef, zone: &TimeZone) -> Result<Self, Invalid> {
        let given = |value: &Option<Value>| match value {
            Some(value) => definition.value(value),
            None => Ok(FeatureValue::Boolean(true)),
        };
        let targeting = definition
            .targeting
            .iter()
            .map(|rule| Ok(Rule { when: rule.when.clone(), value: given(&rule.value)? }))
            .collect::<Result<_, Invalid>>()?;
        let rollout = definition.rollout.as_ref().map(|rollout| {
            let salt = rollout.salt.clone();
            Ok::<_, Invalid>(Reach {
                salt: salt.unwrap_or_else(|| definition.name.to_string()),
                places: places_reached(rollout.percent),
                value: given(&rollout.value)?,
                plans: rollout.plans.clone(),
            })
        });
        let sunset = definition.sunset.as_ref().map(|sunset| {
            let at = sunset.on.to_zoned(zone.clone()).map_err(|_| {
                let problem = format!("{} does not begin in the catalog's zone", sunset.on);
                Invalid::new("sunset.on", problem, "give a day between the years 1 and 9998")
            })?;
            let told_from = sunset.notice_days_before.iter().max().map(|days| {
                let days = SignedDuration::from_hours(24 * i64::from(*days));
                at.timestamp().checked_sub(days).unwrap_or(Timestamp::MIN)
            });
            let replacement = sunset.replacement.clone();
            Ok::<_, Invalid>(Withdrawal { at: at.timestamp(), told_from, replacement })
        });
        Ok(Self {
            default: definition.value_by_default(),
            targeting,
            rollout: rollout.transpose()?,
            sunset: sunset.transpose()?,
            definition: definition.clone(),
        })
    }

    /// The feature as the asker has it.
    pub fn evaluate(&self, asker: &Asker<'_>) -> FeatureAccess<&FeatureName> {
        let (value, reason, decided) = self.decide(asker);
        let announced = self.sunset.as_ref().filter(|sunset| {
            asker.now < sunset.at && sunset.told_from.is_some_and(|from| from <= asker.now)
        });
        FeatureAccess {
            feature: &self.definition.name,
            kind: self.definition.kind,
            value,
            reason,
            override_expires_at: decided.and_then(|decided| decided.expires_at),
            sunset_at: self.sunset.as_ref().map(|sunset| sunset.at),
            sunset_notice: announced.map(|sunset| SunsetNotice {
                withdrawn_at: sunset.at,
                replacement: sunset.replacement.clone(),
            }),
        }
    }

    fn decide<'a>(
        &self,
        asker: &Asker<'a>,
    ) -> (Option<FeatureValue>, FeatureReason, Option<&'a FeatureOverride>) {
        if !asker.is_served {
            return (None, FeatureReason::SubscriptionInactive, None);
        }
        if self.sunset.as_ref().is_some_and(|sunset| sunset.at <= asker.now) {
            return (None, FeatureReason::Sunset, None);
        }
        if let Some(found) = asker.feature_override
            && found.holds(asker.now)
            && let Ok(value) = self.definition.value(&found.value)
        {
            return (Some(value), FeatureReason::Override, Some(found));
        }
        let (value, reason) = self.decide_for_all(asker);
        (value, reason, None)
    }

    fn decide_for_all(&self, asker: &Asker<'_>) -> (Option<FeatureValue>, FeatureReason) {
        if let Some(rule) = self.targeting.iter().find(|rule| rule.fits(asker.attributes)) {
            return (Some(rule.value.clone()), FeatureReason::Targeting);
        }
        if let Some(value) = asker.plan_value {
            let reason =
                if value.is_on() { FeatureReason::InPlan } else { FeatureReason::NotInPlan };
            return (Some(value.clone()), reason);
        }
        let reach = self.rollout.as_ref().filter(|reach| reach.is_for(asker.plan));
        if let Some(reach) = reach {
            if place(&reach.salt, asker.tenant, asker.subject) < reach.places {
                return (Some(reach.value.clone()), FeatureReason::InRollout);
            }
            return (self.default.clone(), FeatureReason::NotInRollout);
        }
        let is_given = self.definition.default.is_some();
        let reason = if is_given { FeatureReason::Default } else { FeatureReason::NotInPlan };
        (self.default.clone(), reason)
    }
}

impl Rule {
    fn fits(&self, attributes: &Attributes) -> bool {
        self.when.iter().all(|(name, values)| {
            attributes.get(name.as_str()).is_some_and(|value| values.contains(value))
        })
    }
}

impl Reach {
    fn is_for(&self, plan: &PlanName) -> bool {
        self.plans.is_empty() || self.plans.contains(plan)
    }
}
