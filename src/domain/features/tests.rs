use std::str::FromStr;

use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    access::{FeatureAccess, FeatureReason},
    compiled::{Asker, Attributes, CompiledFeature},
    feature_override::FeatureOverride,
    rollout::{PLACES, place, places_reached},
};
use crate::domain::{
    catalog::{
        decimal::Percent,
        features::{FeatureDef, FeatureValue},
    },
    ids::{FeatureName, PlanName, Subject, TenantId},
};

/// Who asks in these tests; each test changes what it is about.
struct World {
    feature: CompiledFeature,
    plan_value: Option<FeatureValue>,
    feature_override: Option<FeatureOverride>,
    attributes: Attributes,
    is_served: bool,
    now: Timestamp,
}

impl World {
    fn of(feature: Value) -> Self {
        let feature: FeatureDef = serde_json::from_value(feature).unwrap();
        let zone = TimeZone::get("America/New_York").unwrap();
        Self {
            feature: CompiledFeature::compile(&feature, &zone).unwrap(),
            plan_value: None,
            feature_override: None,
            attributes: Attributes::new(),
            is_served: true,
            now: at("2026-11-21T12:00:00Z"),
        }
    }

    fn everything() -> Self {
        let mut world = Self::of(json!({
            "name": "editor", "type": "string", "default": "default",
            "targeting": [{"when": {"country": ["GB", "IE"], "tier": ["gold"]}, "value": "targeted"}],
            "rollout": {"percent": "100", "value": "rolled out"},
            "sunset": {"on": "2027-01-31", "notice_days_before": [7, 60], "replacement": "next"},
        }));
        world.plan_value = Some(FeatureValue::String("in plan".into()));
        world.feature_override = Some(override_to(json!("overridden"), None));
        world.attributes = [("country", "IE"), ("tier", "gold"), ("other", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        world
    }

    fn ask(&self) -> FeatureAccess {
        let asker = Asker {
            tenant: &TenantId::new("acme").unwrap(),
            subject: None,
            attributes: &self.attributes,
            plan: &PlanName::new("basic").unwrap(),
            plan_value: self.plan_value.as_ref(),
            feature_override: self.feature_override.as_ref(),
            is_served: self.is_served,
            now: self.now,
        };
        self.feature.evaluate(&asker).owned()
    }

    fn decided(&self) -> (Option<Value>, FeatureReason) {
        let access = self.ask();
        (access.value.map(|value| value.to_json()), access.reason)
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn override_to(value: Value, expires_at: Option<Timestamp>) -> FeatureOverride {
    let feature = FeatureName::new("editor").unwrap();
    FeatureOverride { feature, value, expires_at, reason: "asked for".into() }
}

#[test]
fn the_first_step_that_applies_decides() {
    let mut world = World::everything();
    world.is_served = false;
    assert_eq!(world.decided(), (None, FeatureReason::SubscriptionInactive));
    world.is_served = true;
    world.now = at("2027-01-31T05:00:00Z");
    assert_eq!(world.decided(), (None, FeatureReason::Sunset));
    world.now = at("2027-01-31T04:59:59Z"); // Still the day before in New York.
    assert_eq!(world.decided(), (Some(json!("overridden")), FeatureReason::Override));
    world.feature_override = None;
    assert_eq!(world.decided(), (Some(json!("targeted")), FeatureReason::Targeting));
    world.attributes.insert("tier".into(), "silver".into());
    assert_eq!(world.decided(), (Some(json!("in plan")), FeatureReason::InPlan));
    world.plan_value = None;
    assert_eq!(world.decided(), (Some(json!("rolled out")), FeatureReason::InRollout));
}

#[test]
fn without_anything_else_the_default_holds() {
    let plain = World::of(json!({"name": "editor"}));
    assert_eq!(plain.decided(), (Some(json!(false)), FeatureReason::NotInPlan));
    assert!(!plain.ask().is_enabled());
    let on = World::of(json!({"name": "editor", "default": true}));
    assert_eq!(on.decided(), (Some(json!(true)), FeatureReason::Default));
    let none = World::of(json!({"name": "editor", "type": "number"}));
    assert_eq!(none.decided(), (None, FeatureReason::NotInPlan));
    let unreached = World::of(json!({"name": "editor", "rollout": {"percent": "0"}}));
    assert_eq!(unreached.decided(), (Some(json!(false)), FeatureReason::NotInRollout));
    let others = json!({"name": "editor", "rollout": {"percent": "100", "plans": ["pro"]}});
    assert_eq!(World::of(others).decided(), (Some(json!(false)), FeatureReason::NotInPlan));
}

#[test]
fn a_plan_that_says_off_keeps_a_rollout_out() {
    let mut world = World::of(json!({"name": "editor", "rollout": {"percent": "100"}}));
    world.plan_value = Some(FeatureValue::Boolean(false));
    assert_eq!(world.decided(), (Some(json!(false)), FeatureReason::NotInPlan));
}

#[test]
fn an_override_ends_at_its_expiry_and_when_the_feature_changes_its_type() {
    let mut world = World::of(json!({"name": "editor"}));
    let expires_at = Some(world.now);
    world.feature_override = Some(override_to(json!(true), expires_at));
    assert_eq!(world.ask().reason, FeatureReason::NotInPlan);
    world.now -= jiff::SignedDuration::from_nanos(1);
    let access = world.ask();
    assert_eq!((access.reason, access.override_expires_at), (FeatureReason::Override, expires_at));
    world.feature_override = Some(override_to(json!("true"), None));
    assert_eq!(world.ask().reason, FeatureReason::NotInPlan);
}

#[test]
fn a_withdrawal_is_told_from_the_first_day_of_notice_until_it_happens() {
    let mut world = World::everything();
    let withdrawn_at = at("2027-01-31T05:00:00Z");
    world.now = at("2026-12-02T04:59:59Z");
    assert_eq!((world.ask().sunset_at, world.ask().sunset_notice), (Some(withdrawn_at), None));
    world.now = at("2026-12-02T05:00:00Z");
    let notice = world.ask().sunset_notice.unwrap();
    assert_eq!(notice.withdrawn_at, withdrawn_at);
    assert_eq!(notice.replacement.unwrap().as_str(), "next");
    world.now = withdrawn_at;
    assert_eq!(world.ask().sunset_notice, None);
}

#[test]
fn places_are_the_same_in_every_release() {
    let acme = TenantId::new("acme").unwrap();
    let subject = Subject::new("user-1").unwrap();
    let places = [place("editor", &acme, None), place("editor", &acme, Some(&subject))];
    assert_eq!(places, [PLACE_OF_ACME, PLACE_OF_USER]);
}

const PLACE_OF_ACME: u32 = 94_429;
const PLACE_OF_USER: u32 = 592_187;

#[test]
fn a_percentage_is_exact_to_its_fourth_decimal() {
    let reached = |text: &str| places_reached(text.parse().unwrap());
    assert_eq!(reached("0.0001"), 1);
    assert_eq!(reached("16.6"), 166_000);
    assert_eq!(reached("100"), PLACES);
}

proptest! {
    #[test]
    fn a_larger_percentage_only_adds(
        tenant in "[a-z0-9]{1,12}", subject in proptest::option::of("[a-z0-9]{1,12}"),
        one in 0u32..=PLACES, other in 0u32..=PLACES,
    ) {
        let percent = |places: u32| {
            Percent::from_str(&format!("{}.{:04}", places / 10_000, places % 10_000)).unwrap()
        };
        prop_assert_eq!(places_reached(percent(one)), one);
        let tenant = TenantId::new(tenant).unwrap();
        let subject = subject.map(|subject| Subject::new(subject).unwrap());
        let reached = |places| {
            place("salt", &tenant, subject.as_ref()) < places_reached(percent(places))
        };
        prop_assert!(!reached(one.min(other)) || reached(one.max(other)));
        prop_assert!(reached(PLACES) && !reached(0));
    }

    #[test]
    fn a_rollout_reaches_about_its_share(percent in 1u32..100, salt in "[a-z]{1,8}") {
        let reached = (0..2_000).filter(|number| {
            let tenant = TenantId::new(format!("tenant-{number}")).unwrap();
            place(&salt, &tenant, None) < percent * PLACES / 100
        });
        // Five standard deviations of a fair draw of 2,000.
        let expected = f64::from(percent) * 20.0;
        let spread = 5.0 * (expected * (1.0 - f64::from(percent) / 100.0)).sqrt();
        let count = reached.count() as f64;
        prop_assert!((count - expected).abs() <= spread + 1.0, "{count} of {expected}");
    }
}
