//! The five shipped catalogs, against the figures that they are made from.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{
    Catalog,
    compiled_plan::CompiledPlan,
    dunning::{DunningAction, DunningNotice},
    features::FeatureValue,
    plans::{Availability, PaymentMethod, TrialStart},
};
use crate::domain::{
    limit::{Enforcement, OutagePolicy},
    meter::MeterKind,
    period::Period,
};

const GB: u64 = 1_000_000_000;

fn shipped(name: &str) -> Catalog {
    let path = format!("{}/deploy/catalogs/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    Catalog::parse(&path, &text).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn compiled(catalog: &Catalog) -> BTreeMap<String, CompiledPlan> {
    let compile = |plan| CompiledPlan::compile(plan).unwrap();
    catalog.plans().map(compile).map(|plan| (plan.plan.to_string(), plan)).collect()
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// Asserts that a catalog's plans switch exactly the features of `table`: each line names a feature
/// and the first plan that has it.
fn assert_features_from(catalog: &Catalog, table: &[(&str, &str)]) {
    let names: Vec<_> = catalog.definition().plans.iter().map(|plan| &plan.name).collect();
    let plans = compiled(catalog);
    for (feature, from) in table {
        let first = names.iter().position(|name| name.as_str() == *from).unwrap();
        for (rank, name) in names.iter().enumerate() {
            let on = plans[name.as_str()].feature(feature) == Some(&FeatureValue::Boolean(true));
            assert_eq!(on, rank >= first, "{feature} on {name}");
        }
    }
    let mut listed: Vec<_> = table.iter().map(|(feature, _)| *feature).collect();
    listed.sort_unstable();
    let mut all: Vec<_> =
        catalog.definition().features.iter().map(|feature| feature.name.as_str()).collect();
    all.sort_unstable();
    assert_eq!(listed, all);
}

#[test]
fn assistant_has_every_limit_of_the_matrix() {
    let catalog = shipped("assistant");
    let plans = compiled(&catalog);
    let order: Vec<_> =
        catalog.definition().plans.iter().map(|plan| plan.name.to_string()).collect();
    assert_eq!(order, ["free", "starter", "pro", "business", "enterprise"]);
    let counter = |period| (MeterKind::Counter, period);
    let level = (MeterKind::Level, Period::Lifetime);
    let fixed = (MeterKind::Static, Period::Lifetime);
    let unlimited = None;
    let matrix = [
        ("queries", counter(Period::Month), [100, 2_000, 10_000, 50_000].map(Some), unlimited),
        ("locations", level, [1, 1, 5, 25].map(Some), unlimited),
        ("conversation_days", fixed, [7, 30, 90, 365].map(Some), unlimited),
        ("api_calls", counter(Period::Day), [50, 500, 2_000, 10_000].map(Some), unlimited),
        ("team_members", level, [1, 3, 10, 50].map(Some), unlimited),
        ("custom_templates", level, [0, 5, 25, 100].map(Some), unlimited),
        ("integrations", level, [0, 2, 10, 50].map(Some), unlimited),
        ("tokens", counter(Period::Month), [None; 4], unlimited),
    ];
    for (meter, (kind, period), limited, enterprise) in matrix {
        let amounts = limited.into_iter().chain([enterprise]);
        for (plan, amount) in order.iter().zip(amounts) {
            let found = plans[plan].meter(meter).unwrap();
            assert_eq!(found.limit.amount, amount, "{meter} on {plan}");
            assert_eq!(found.limit.period, period, "{meter} on {plan}");
            assert_eq!(found.limit.enforcement, Enforcement::Hard, "{meter} on {plan}");
            assert_eq!(found.limit.on_outage, OutagePolicy::Deny, "{meter} on {plan}");
            assert_eq!(found.meter.kind, kind, "{meter}");
        }
    }
    assert!(plans.values().all(|plan| plan.meters.len() == matrix.len()));
}

#[test]
fn assistant_has_every_feature_of_the_matrix() {
    assert_features_from(
        &shipped("assistant"),
        &[
            ("basic_queries", "free"),
            ("conversation_history", "starter"),
            ("advanced_analytics", "pro"),
            ("batch_processing", "business"),
            ("custom_ai_training", "enterprise"),
            ("api_access", "pro"),
            ("webhooks", "business"),
            ("crm_integrations", "business"),
            ("white_label_branding", "enterprise"),
            ("custom_domains", "enterprise"),
            ("email_support", "starter"),
            ("phone_support", "pro"),
            ("priority_support", "business"),
            ("dedicated_manager", "enterprise"),
            ("sla_guarantees", "enterprise"),
            ("basic_dashboard", "free"),
            ("advanced_reports", "pro"),
            ("custom_reports", "business"),
            ("data_export", "business"),
            ("api_analytics", "enterprise"),
        ],
    );
}

#[test]
fn hosting_has_its_prices_rates_grace_and_trials() {
    let catalog = shipped("hosting");
    assert_eq!(catalog.definition().currency.as_str(), "USD");
    let required = |days| Some((days, PaymentMethod::Required));
    let table = [
        ("starter", "4.99", ("0.15", "0.05"), 0, required(7)),
        ("professional", "14.99", ("0.12", "0.04"), 0, required(14)),
        ("business", "39.99", ("0.10", "0.03"), 5, Some((30, PaymentMethod::NotRequired))),
        ("enterprise", "99.99", ("0.08", "0.02"), 20, None),
    ];
    let plans = compiled(&catalog);
    assert_eq!(plans.len(), table.len());
    for (name, monthly, (disk, bandwidth), grace, trial) in table {
        let plan = &plans[name];
        let written = &plan.definition.plan;
        assert_eq!(written.prices.as_ref().unwrap().monthly.unwrap().get(), decimal(monthly));
        assert_eq!(written.trial.map(|trial| (trial.days, trial.payment_method)), trial, "{name}");
        for (meter, rate) in [("disk", disk), ("bandwidth", bandwidth)] {
            let meter = plan.meter(meter).unwrap();
            let overage = meter.overage.as_ref().unwrap();
            assert_eq!(overage.rate.unwrap().get(), decimal(rate), "{name}");
            assert_eq!((meter.pricing_unit.name.as_str(), meter.pricing_unit.size), ("GB", GB));
            assert_eq!(meter.limit.grace, grace * GB, "{name}");
            assert!(matches!(meter.limit.enforcement, Enforcement::Soft { .. }), "{name}");
        }
        assert_eq!(plan.meter("requests").unwrap().limit.amount, None);
    }
    let contact_sales = plans["enterprise"].definition.plan.availability;
    assert_eq!(contact_sales, Availability::ContactSales);
}

#[test]
fn hosting_has_its_terms_codes_and_loyalty() {
    let catalog = shipped("hosting");
    let definition = catalog.definition();
    let commitments: Vec<_> = definition
        .commitments
        .iter()
        .map(|one| (one.months, one.discount_percent.get(), one.early_termination_fee.get()))
        .collect();
    let expected = [(12, "15", "100"), (24, "20", "240"), (36, "30", "360")];
    let expected = expected.map(|(months, off, fee)| (months, decimal(off), decimal(fee)));
    assert_eq!(commitments, expected);

    let codes: BTreeMap<_, _> =
        definition.promo_codes.iter().map(|promo| (promo.code.as_str(), promo)).collect();
    assert_eq!(codes.len(), 4);
    let black_friday = codes["BLACKFRIDAY2025"];
    assert_eq!(black_friday.percent.unwrap().get(), decimal("40"));
    assert_eq!(black_friday.from.unwrap().to_string(), "2025-11-28");
    assert_eq!(black_friday.through.unwrap().to_string(), "2025-12-01");
    assert_eq!(black_friday.max_uses, Some(1_000));
    let summer = codes["SUMMER2025"];
    assert_eq!(summer.free_months, Some(3));
    assert_eq!(summer.from.unwrap().to_string(), "2025-06-01");
    assert_eq!(summer.through.unwrap().to_string(), "2025-08-31");
    assert_eq!(codes["WELCOME10"].percent.unwrap().get(), decimal("10"));
    assert!(codes["WELCOME10"].new_customers_only);
    assert_eq!(codes["UPGRADE15"].percent.unwrap().get(), decimal("15"));
    assert!(codes["UPGRADE15"].upgrades_only);

    let referral = definition.referral.as_ref().unwrap();
    assert_eq!(referral.referrer_credit.get(), decimal("10"));
    assert_eq!(referral.referred_discount_percent.get(), decimal("10"));
    // JOHN3X7K.
    assert_eq!((referral.code_name_letters, referral.code_random_characters), (4, 4));

    let loyalty = definition.loyalty.as_ref().unwrap();
    assert_eq!(loyalty.percent_per_year.unwrap().get(), decimal("1"));
    assert_eq!(loyalty.max_percent.unwrap().get(), decimal("10"));
    let tiers: Vec<_> = loyalty
        .tiers
        .iter()
        .map(|tier| (tier.title.as_deref().unwrap(), tier.months, tier.percent.to_string()))
        .collect();
    let expected =
        [("Bronze", 6, "2"), ("Silver", 12, "5"), ("Gold", 24, "8"), ("Platinum", 36, "10")];
    assert_eq!(tiers, expected.map(|(title, months, percent)| (title, months, percent.to_owned())));
    let volume: Vec<_> =
        loyalty.volume.iter().map(|one| (one.tenants, one.percent.to_string())).collect();
    assert_eq!(volume, [(5, "10".to_owned()), (10, "15".to_owned())]);
}

#[test]
fn hosting_duns_by_policy_a_and_pools_disk_for_agencies() {
    use {DunningAction::*, DunningNotice::*};
    let catalog = shipped("hosting");
    let policy = catalog.plan("starter").unwrap().dunning.unwrap();
    let steps: Vec<_> =
        policy.steps.iter().map(|step| (step.day, step.actions.as_slice(), step.notice)).collect();
    let expected: [(u16, &[DunningAction], Option<DunningNotice>); 6] = [
        (1, &[], Some(PaymentFailed)),
        (3, &[Retry], Some(Reminder)),
        (7, &[Retry], Some(Warning)),
        (14, &[Retry], Some(SuspensionWarning)),
        (21, &[Suspend], None),
        (30, &[], Some(DeletionWarning)),
    ];
    assert_eq!(steps, expected);
    let pool = &catalog.definition().pools[0];
    assert_eq!((pool.size.get(), pool.max_members), (500 * GB, Some(20)));
    assert_eq!(pool.plans[0].as_str(), "enterprise");
}

#[test]
fn listings_has_its_prices_limits_trials_and_zone() {
    let catalog = shipped("listings");
    let definition = catalog.definition();
    assert_eq!(definition.currency.as_str(), "GBP");
    assert_eq!(definition.jobs.zone.as_str(), "Europe/London");
    assert_eq!(definition.dates.as_ref().unwrap().format, "DD/MM/YYYY HH:mm:ss");
    let plans = compiled(&catalog);
    let table = [
        ("basic", "19.99", "199.99", "39.89", (Some(5), Some(20), Some(0)), 7),
        ("premium", "49.99", "499.99", "99.89", (Some(25), Some(50), Some(3)), 14),
        ("enterprise", "99.99", "999.99", "199.89", (None, None, None), 30),
    ];
    for (name, monthly, yearly, saving, (listings, photos, featured), days) in table {
        let plan = &plans[name];
        let prices = plan.definition.plan.prices.as_ref().unwrap();
        assert_eq!(prices.monthly.unwrap().get(), decimal(monthly));
        assert_eq!(prices.per_year().unwrap(), decimal(yearly));
        assert_eq!(prices.yearly_saving().unwrap(), decimal(saving));
        let twelve_months = decimal(monthly) * Decimal::from(12);
        let percent = decimal(saving) * Decimal::ONE_HUNDRED / twelve_months;
        assert_eq!(percent.trunc_with_scale(1), decimal("16.6"), "{name}");
        assert_eq!(plan.definition.plan.trial.unwrap().days, days);
        let amount = |meter| plan.meter(meter).unwrap().limit.amount;
        assert_eq!(amount("listings"), listings);
        assert_eq!(amount("photos"), photos);
        assert_eq!(amount("featured_listings"), featured);
        assert!(plan.meter("photos").unwrap().limit.per_subject, "20 photos of each listing");
    }
}

#[test]
fn listings_duns_by_policy_b() {
    use DunningAction::*;
    let policy = shipped("listings").plan("basic").unwrap().dunning.unwrap();
    let steps: Vec<_> =
        policy.steps.iter().map(|step| (step.day, step.actions.as_slice())).collect();
    // Retries after 3, 5, 7 and 7 days; 3 days' grace; closed for good on day 32.
    let expected: [(u16, &[DunningAction]); 6] = [
        (3, &[Retry]),
        (8, &[Retry]),
        (15, &[Retry]),
        (22, &[Retry]),
        (25, &[Suspend]),
        (32, &[Close]),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn factory_has_its_prices_limits_addons_and_trial() {
    let catalog = shipped("factory");
    let plans = compiled(&catalog);
    let table = [
        ("starter", "49", "529.2", [Some(3), Some(1), Some(10 * GB)]),
        ("professional", "199", "2149.2", [Some(25), Some(5), Some(100 * GB)]),
        ("enterprise", "999", "10789.2", [None; 3]),
    ];
    for (name, monthly, yearly, limits) in table {
        let prices = plans[name].definition.plan.prices.as_ref().unwrap();
        assert_eq!(prices.monthly.unwrap().get(), decimal(monthly));
        assert_eq!(prices.per_year().unwrap(), decimal(yearly), "{name}");
        for (meter, amount) in ["users", "plants", "storage"].into_iter().zip(limits) {
            assert_eq!(plans[name].meter(meter).unwrap().limit.amount, amount, "{meter}");
        }
    }
    let addons: Vec<_> = catalog
        .definition()
        .addons
        .iter()
        .map(|addon| (addon.meter.as_str(), addon.adds.get(), addon.price.monthly.get()))
        .collect();
    let expected =
        [("users", 1, decimal("5")), ("plants", 1, decimal("25")), ("storage", GB, decimal("0.5"))];
    assert_eq!(addons, expected);
    let trials: Vec<_> =
        catalog.definition().plans.iter().filter_map(|plan| plan.trial.as_ref()).collect();
    assert_eq!(trials.len(), 1);
    assert_eq!((trials[0].days, trials[0].starts), (14, TrialStart::OnTenantCreation));
}

#[test]
fn factory_gates_nineteen_features() {
    let catalog = shipped("factory");
    assert_eq!(catalog.definition().features.len(), 19);
    let plans = compiled(&catalog);
    let has = |plan: &str, feature| plans[plan].feature(feature).is_some_and(FeatureValue::is_on);
    for feature in ["custom_fields", "workflows"] {
        assert!(
            !has("starter", feature) && has("professional", feature) && has("enterprise", feature)
        );
    }
    assert!(!has("professional", "white_labelling") && has("enterprise", "white_labelling"));
    assert_eq!(plans["enterprise"].features.len(), 19);
}

#[test]
fn mailer_meters_emails_responses_and_leads_by_the_month() {
    let catalog = shipped("mailer");
    for plan in compiled(&catalog).values() {
        for meter in ["emails_processed", "ai_responses", "leads_created"] {
            let meter = plan.meter(meter).unwrap();
            assert_eq!(meter.meter.kind, MeterKind::Counter);
            assert_eq!(meter.limit.period, Period::Month);
        }
    }
}

#[test]
fn a_stored_plan_compiles_to_the_same_plan_when_the_catalog_is_gone() {
    for name in ["assistant", "hosting", "listings", "factory", "mailer"] {
        let catalog = shipped(name);
        assert_eq!(Catalog::from_json(&catalog.to_json()).unwrap().hash(), catalog.hash());
        for plan in catalog.plans() {
            // As Postgres gives it back: keys in another order.
            let stored = super::canonical::sorted(&plan.to_json());
            let read = CompiledPlan::from_json(&stored).unwrap();
            assert_eq!(*read.definition, plan);
            assert_eq!(read.definition.hash(), plan.hash());
            for (position, meter) in read.meters.iter().enumerate() {
                assert_eq!(meter.index.get(), position);
                assert_eq!(read.meter_index(meter.meter.name.as_str()), Some(meter.index));
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(96))]

    /// Whatever is done to a file, it is accepted or every mistake has a place and a remedy.
    #[test]
    fn a_mangled_catalog_is_told_where_it_is_wrong(
        name in proptest::sample::select(vec!["assistant", "hosting", "listings", "mailer"]),
        at in 0.0..1.0f64,
        removed in 0usize..40,
        inserted in proptest::sample::select(vec![
            "", "-", ":", "{", "]", "9", "-1", "GB", "\n", "  ", "\u{e9}", "&a", "*a", "null", "1e400",
            "99999999999999999999999999999999999999999", "!!binary ", "\t", "<<", "|\n", "\u{0}",
        ]),
    ) {
        let path = format!("{}/deploy/catalogs/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let mut letters: Vec<char> = std::fs::read_to_string(&path).unwrap().chars().collect();
        let from = (at * letters.len() as f64) as usize;
        let to = (from + removed).min(letters.len());
        letters.splice(from..to, inserted.chars());
        let text: String = letters.into_iter().collect();
        for error in Catalog::parse(&path, &text).err().into_iter().flatten() {
            let lines = text.lines().count() as u64 + 1;
            proptest::prop_assert!((1..=lines).contains(&error.line), "{error}");
            proptest::prop_assert!(!error.problem.is_empty() && !error.remedy.is_empty(), "{error}");
        }
    }
}
