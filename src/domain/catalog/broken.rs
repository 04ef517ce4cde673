//! Broken catalogs, and what exactly is said of each.

use super::Catalog;

/// A sound catalog that each case breaks by replacing one piece of text.
const SOUND: &str = "\
catalog: shop
currency: USD
meters:
  - { name: calls, kind: counter, unit: call, period: day }
  - name: traffic
    kind: counter
    unit: byte
    units: { GB: 1000000000 }
    display_unit: GB
    group_by: [region]
  - { name: seats, kind: level, unit: seat }
  - { name: days, kind: static, unit: day }
features:
  - { name: export }
  - { name: tier, type: enum, values: [low, high] }
rates:
  - { name: api }
operations:
  - { name: call, features: [export], rates: [api], meters: [calls] }
plans:
  - name: small
    prices: { monthly: 9.99 }
    trial: { days: 14, payment_method: required }
    limits:
      calls: 100
      traffic: { limit: 10 GB, enforcement: soft, hard_cap: 20 GB, grace: 1 GB, overage: 0.05 }
      seats: 3
      days: 7
    features: { export: true, tier: low }
    rate_limits: { api: [{ requests: 5, per: second }] }
dunning:
  - { name: a, steps: [{ day: 1, notice: reminder }, { day: 3, actions: [close] }] }
promo_codes:
  - { code: HELLO, percent: 10 }
";

/// Text to replace, replacement, and all that is said of the outcome.
const CASES: &[(&str, &str, &[&str])] = &[
    // Not YAML at all.
    (
        "currency: USD",
        "currency: [USD",
        &[
            "shop.yaml:3:7: cannot be read as YAML: illegal placement of ':' indicator; mend the file there; `tollgate catalog validate` checks it again",
        ],
    ),
    (
        "currency: USD",
        "currency: USD\ncurrency: EUR",
        &[
            "shop.yaml:3:1: cannot be read as YAML: duplicate mapping key: currency not allowed here; mend the file there; `tollgate catalog validate` checks it again",
        ],
    ),
    // Shape.
    (
        "currency: USD",
        "curency: USD",
        &[
            "shop.yaml:1:1: currency: is missing; add it: What all its prices are in",
            "shop.yaml:2:1: curency: is not a field here; did you mean currency?",
        ],
    ),
    (
        "currency: USD",
        "currency: usd",
        &[
            "shop.yaml:2:11: currency: \"usd\" is not a currency code; use three upper-case letters of ISO 4217, such as USD",
        ],
    ),
    (
        "currency: USD",
        "currency: 840",
        &[
            "shop.yaml:2:11: currency: is the number 840; use three upper-case letters of ISO 4217, such as USD",
        ],
    ),
    (
        "currency: USD",
        "currency:",
        &["shop.yaml:2:9: currency: is empty; give a value or remove the line"],
    ),
    (
        "name: calls, kind: counter",
        "name: Calls, kind: count",
        &[
            "shop.yaml:4:13: meters[Calls].name: \"Calls\" contains the capital letter 'C'; use a lower-case letter, then lower-case letters, digits, '_', '-' or '.'",
            "shop.yaml:4:26: meters[Calls].kind: is \"count\", not one of counter, level, static; did you mean counter?",
        ],
    ),
    (
        "unit: seat }",
        "unit: seat, colour: red }",
        &[
            "shop.yaml:11:45: meters[seats].colour: is not a field here; use one of name, title, kind, aggregation, unit, units, display_unit, pricing_unit, period, subject, distinct_property, group_by, event_retention_days, billed_on",
        ],
    ),
    (
        "      calls: 100",
        "      calls: { period: fortnight }",
        &[
            "shop.yaml:25:14: plans[small].limits.calls.limit: is missing; add it: Units per period that the plan includes; -1 = unlimited",
            "shop.yaml:25:24: plans[small].limits.calls.period: \"fortnight\" is not a period; use minute, hour, day, month, billing_cycle, lifetime or interval_<n>s",
        ],
    ),
    (
        "      calls: 100",
        "      calls: many",
        &[
            "shop.yaml:25:14: plans[small].limits.calls: \"many\" is not a quantity; write a whole number of the meter's base unit, or a figure and a unit such as 500 GB",
        ],
    ),
    (
        "      calls: 100",
        "      calls: 1.5",
        &[
            "shop.yaml:25:14: plans[small].limits.calls: is the number 1.5; give a whole number, a figure with a unit, or -1 for unlimited",
        ],
    ),
    (
        "      calls: 100",
        "      calls: -5",
        &[
            "shop.yaml:25:14: plans[small].limits.calls: is negative (-5); give an amount of 0 or more, or -1 for unlimited",
        ],
    ),
    (
        "      calls: 100",
        "      calls: 9007199254740992",
        &[
            "shop.yaml:25:14: plans[small].limits.calls: is out of range (9007199254740992); give at most 2^53 - 1 = 9007199254740991; meter in a larger base unit if need be",
        ],
    ),
    (
        "      calls: 100",
        "      calls: 99999999999999999999",
        &[
            "shop.yaml:25:14: plans[small].limits.calls: is out of range (99999999999999999999); give at most 2^53 - 1 = 9007199254740991; meter in a larger base unit if need be",
        ],
    ),
    (
        "      calls: 100",
        "      calls: [1]",
        &[
            "shop.yaml:25:14: plans[small].limits.calls: is a list; give a whole number, a figure with a unit, or -1 for unlimited",
        ],
    ),
    (
        "limit: 10 GB",
        "limit: 10 TB",
        &[
            "shop.yaml:26:25: plans[small].limits.traffic.limit: \"10 TB\" names the unit \"TB\", which the meter does not have; use one of GB, byte",
        ],
    ),
    (
        "limit: 10 GB",
        "limit: 0.0000000001 GB",
        &[
            "shop.yaml:26:25: plans[small].limits.traffic.limit: \"0.0000000001 GB\" is not a whole number of the meter's base unit; round it to a whole number of the base unit",
        ],
    ),
    (
        "limit: 10 GB",
        "limit: 99999999999 GB",
        &[
            "shop.yaml:26:25: plans[small].limits.traffic.limit: is out of range (99999999999000000000); give at most 2^53 - 1 = 9007199254740991; meter in a larger base unit if need be",
        ],
    ),
    (
        "grace: 1 GB",
        "grace: -1",
        &[
            "shop.yaml:26:75: plans[small].limits.traffic.grace: is negative (-1); give an amount of 0 or more",
        ],
    ),
    (
        "overage: 0.05",
        "overage: -0.05",
        &[
            "shop.yaml:26:90: plans[small].limits.traffic.overage: is negative (-0.05); give a figure of 0 or more",
        ],
    ),
    (
        "overage: 0.05",
        "overage: 5 cents",
        &[
            "shop.yaml:26:90: plans[small].limits.traffic.overage: \"5 cents\" is not a decimal number; write it with digits and a point, without signs or separators, such as 19.99",
        ],
    ),
    (
        "overage: 0.05",
        "overage: 0.0000000000001",
        &[
            "shop.yaml:26:90: plans[small].limits.traffic.overage: 0.0000000000001 has 13 digits after the decimal point; use at most 12",
        ],
    ),
    (
        "overage: 0.05",
        "overage: 1e-3",
        &[
            "shop.yaml:26:90: plans[small].limits.traffic.overage: \"1e-3\" is not a decimal number; write it with digits and a point, without signs or separators, such as 19.99",
        ],
    ),
    (
        "monthly: 9.99",
        "monthly: free",
        &[
            "shop.yaml:22:24: plans[small].prices.monthly: \"free\" is not a decimal number; write it with digits and a point, without signs or separators, such as 19.99",
        ],
    ),
    (
        "days: 14",
        "days: -14",
        &[
            "shop.yaml:23:20: plans[small].trial.days: is negative (-14); give a number of 0 or more",
        ],
    ),
    (
        "days: 14",
        "days: 70000",
        &[
            "shop.yaml:23:20: plans[small].trial.days: is out of range (70000); give a number from 0 to 65535",
        ],
    ),
    (
        "payment_method: required",
        "payment_method: true",
        &[
            "shop.yaml:23:40: plans[small].trial.payment_method: is the boolean true; use one of required, not_required",
        ],
    ),
    (
        "percent: 10",
        "percent: 101",
        &[
            "shop.yaml:34:29: promo_codes[HELLO].percent: 101 is more than 100; give a percentage from 0 to 100",
        ],
    ),
    (
        "code: HELLO, percent: 10",
        "code: HELLO, percent: 10, from: 1.6.2025",
        &[
            "shop.yaml:34:39: promo_codes[HELLO].from: \"1.6.2025\" is not a day; write it as YYYY-MM-DD",
        ],
    ),
    (
        "plans:\n  - name: small",
        "plans:\n  - title: 5",
        &[
            "shop.yaml:21:5: plans[0].name: is missing; add it",
            "shop.yaml:21:12: plans[0].title: is the number 5; put it in quotes",
        ],
    ),
    // Meaning.
    (
        "currency: USD",
        "currency: UDS",
        &["shop.yaml:2:11: currency: \"UDS\" is not a currency in use; did you mean USD?"],
    ),
    (
        "name: seats, kind",
        "name: calls, kind",
        &[
            "shop.yaml:11:13: meters[2].name: \"calls\" is already taken; give each its own name, or remove this one",
            "shop.yaml:27:14: plans[small].limits.seats: \"seats\" is not a meter of this catalog; use one of calls, traffic, calls, days",
        ],
    ),
    (
        "      seats: 3",
        "      seets: 3",
        &[
            "shop.yaml:27:14: plans[small].limits.seets: \"seets\" is not a meter of this catalog; did you mean seats?",
        ],
    ),
    (
        "export: true",
        "exports: true",
        &[
            "shop.yaml:29:26: plans[small].features.exports: \"exports\" is not a feature of this catalog; did you mean export?",
        ],
    ),
    (
        "export: true",
        "export: 1",
        &["shop.yaml:29:25: plans[small].features.export: 1 is not a boolean; use true or false"],
    ),
    (
        "tier: low",
        "tier: medium",
        &[
            "shop.yaml:29:37: plans[small].features.tier: \"medium\" is not one of the feature's values; use one of low, high",
        ],
    ),
    (
        "monthly: 9.99",
        "monthly: 9.999",
        &[
            "shop.yaml:22:24: plans[small].prices.monthly: 9.999 has 3 digits after the point; USD has 2; round it",
        ],
    ),
    (
        "currency: USD",
        "currency: JPY",
        &[
            "shop.yaml:22:24: plans[small].prices.monthly: 9.99 has 2 digits after the point; JPY has 0; round it",
        ],
    ),
    (
        "hard_cap: 20 GB",
        "hard_cap: 5 GB",
        &[
            "shop.yaml:26:61: plans[small].limits.traffic.hard_cap: is 5000000000, below the limit of 10000000000; give the cap from zero, the limit included",
        ],
    ),
    (
        "enforcement: soft, ",
        "",
        &[
            "shop.yaml:26:42: plans[small].limits.traffic.hard_cap: stands on a hard limit, which nothing is admitted beyond; add enforcement: soft, or remove it",
            "shop.yaml:26:56: plans[small].limits.traffic.grace: stands on a hard limit, which nothing is admitted beyond; add enforcement: soft, or remove it",
            "shop.yaml:26:71: plans[small].limits.traffic.overage: stands on a hard limit, which nothing is admitted beyond; add enforcement: soft, or remove it",
        ],
    ),
    (
        "limit: 10 GB",
        "limit: -1",
        &[
            "shop.yaml:26:58: plans[small].limits.traffic.hard_cap: stands on an unlimited meter, which nothing is beyond; remove it, or give a limit",
            "shop.yaml:26:72: plans[small].limits.traffic.grace: stands on an unlimited meter, which nothing is beyond; remove it, or give a limit",
            "shop.yaml:26:87: plans[small].limits.traffic.overage: stands on an unlimited meter, which nothing is beyond; remove it, or give a limit",
        ],
    ),
    (
        "overage: 0.05",
        "overage: { rate: 0.05, per: MB }",
        &[
            "shop.yaml:26:109: plans[small].limits.traffic.overage.per: \"MB\" is not a unit of the meter traffic; use one of byte, GB",
        ],
    ),
    (
        "overage: 0.05",
        "overage: { rate: 0.05, package: { size: 1, price: 1 } }",
        &[
            "shop.yaml:26:113: plans[small].limits.traffic.overage.package: is one price of several (rate, package); keep one of them",
        ],
    ),
    (
        "overage: 0.05",
        "overage: { graduated: [{ rate: 1 }, { up_to: 5, rate: 1 }] }",
        &[
            "shop.yaml:26:104: plans[small].limits.traffic.overage.graduated[0].up_to: is missing on a tier that others follow; give the last unit of this tier",
            "shop.yaml:26:126: plans[small].limits.traffic.overage.graduated[1].up_to: ends the last tier, so that more usage has no price; remove it from the last tier",
        ],
    ),
    (
        "overage: 0.05",
        "overage: { by_property: { property: model, rates: { a: 1 } } }",
        &[
            "shop.yaml:26:90: plans[small].limits.traffic.overage: names no price; give one of rate, graduated, volume, package",
            "shop.yaml:26:105: plans[small].limits.traffic.overage.by_property: needs a plain rate for all other values; add rate, or remove it",
            "shop.yaml:26:117: plans[small].limits.traffic.overage.by_property.property: \"model\" is not what the meter traffic groups by; add it to the meter's group_by",
        ],
    ),
    (
        "      seats: 3",
        "      seats: { limit: 3, period: day, per_subject: true }",
        &[
            "shop.yaml:27:34: plans[small].limits.seats.period: is on a meter that never starts again; remove it, or make the meter a counter",
            "shop.yaml:27:52: plans[small].limits.seats.per_subject: needs to know what a subject of seats is; add `subject` to the meter, such as subject: listing",
        ],
    ),
    (
        "      days: 7",
        "      days: { limit: 7, enforcement: soft }",
        &[
            "shop.yaml:28:38: plans[small].limits.days.enforcement: is soft on a static meter, which is only read; remove it",
        ],
    ),
    (
        "display_unit: GB",
        "display_unit: TB",
        &[
            "shop.yaml:9:19: meters[traffic].display_unit: \"TB\" is not a unit of the meter traffic; use one of byte, GB",
        ],
    ),
    (
        "kind: counter, unit: call",
        "kind: counter, aggregation: distinct_count, unit: call",
        &[
            "shop.yaml:4:5: meters[calls].distinct_property: is missing; name the property whose distinct values are counted",
        ],
    ),
    (
        "rates: [api]",
        "rates: [web]",
        &[
            "shop.yaml:19:47: operations[call].rates[0]: \"web\" is not a rate of this catalog; use one of api",
        ],
    ),
    (
        "meters: [calls]",
        "meters: [days, cals]",
        &[
            "shop.yaml:19:62: operations[call].meters[0].meter: is static: nothing can be taken from it; remove it",
            "shop.yaml:19:68: operations[call].meters[1].meter: \"cals\" is not a meter of this catalog; did you mean calls?",
        ],
    ),
    (
        "requests: 5",
        "requests: 0",
        &["shop.yaml:30:38: plans[small].rate_limits.api[0].requests: is 0; give at least 1"],
    ),
    (
        "{ day: 3, actions: [close] }",
        "{ day: 1 }",
        &[
            "shop.yaml:32:54: dunning[a].steps[1]: does nothing; give actions, a notice or both",
            "shop.yaml:32:61: dunning[a].steps[1].day: is not larger than the one before; put them in ascending order, each once",
        ],
    ),
    (
        "code: HELLO, percent: 10",
        "code: hello",
        &[
            "shop.yaml:34:5: promo_codes[hello]: does not say what it gives, or says it more than once; give exactly one of percent, amount, free_months",
            "shop.yaml:34:13: promo_codes[hello].code: \"hello\" is not a code; use 3 to 32 upper-case letters and digits",
        ],
    ),
    (
        "promo_codes:",
        "tenants:\n  - { id: a, plan: large }\n  - { id: a, plan: small }\npromo_codes:",
        &[
            "shop.yaml:34:20: tenants[0].plan: \"large\" is not a plan of this catalog; use one of small",
            "shop.yaml:35:11: tenants[1].id: \"a\" is already taken; give each its own id, or remove this one",
        ],
    ),
    (
        "export: true",
        "export: yes",
        &[
            "shop.yaml:29:25: plans[small].features.export: \"yes\" is not a boolean; use true or false",
        ],
    ),
    (
        "currency: USD",
        "currency: USD\nzone: Mars/Olympus",
        &[
            "shop.yaml:3:7: zone: \"Mars/Olympus\" is not a known time zone; use an IANA name such as UTC or Europe/London",
        ],
    ),
    (
        "code: HELLO, percent: 10",
        "code: HELLO, free_months: 1, from: 2025-06-01, through: 2025-05-01, plans: [smal]",
        &[
            "shop.yaml:34:63: promo_codes[HELLO].through: 2025-05-01 is before the first day, 2025-06-01; give the last day on which the code can be entered",
            "shop.yaml:34:83: promo_codes[HELLO].plans[0]: \"smal\" is not a plan of this catalog; did you mean small?",
        ],
    ),
    // Everything at once, in the order of the lines.
    (
        "      seats: 3\n      days: 7\n    features: { export: true, tier: low }\n",
        "      seats: { limit: 5, grace: 1 }\n    dunning: b\n    features: { tier: mid, exprt: true }\n",
        &[
            "shop.yaml:27:33: plans[small].limits.seats.grace: stands on a hard limit, which nothing is admitted beyond; add enforcement: soft, or remove it",
            "shop.yaml:28:14: plans[small].dunning: \"b\" is not a dunning policy of this catalog; use one of a",
            "shop.yaml:29:23: plans[small].features.tier: \"mid\" is not one of the feature's values; use one of low, high",
            "shop.yaml:29:35: plans[small].features.exprt: \"exprt\" is not a feature of this catalog; did you mean export?",
        ],
    ),
];

#[test]
fn the_sound_catalog_is_accepted() {
    Catalog::parse("shop.yaml", SOUND).unwrap();
}

#[test]
fn an_empty_file_is_told_to_be_empty() {
    let errors = Catalog::parse("shop.yaml", "# nothing\n").unwrap_err();
    assert!(errors[0].to_string().starts_with("shop.yaml: the file is empty; write"), "{errors:?}");
}

#[test]
fn a_broken_catalog_names_file_line_field_and_remedy() {
    for (piece, replacement, expected) in CASES {
        assert_eq!(SOUND.matches(piece).count(), 1, "{piece:?} is not there once");
        let text = SOUND.replacen(piece, replacement, 1);
        let errors = Catalog::parse("shop.yaml", &text).unwrap_err();
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told, *expected, "{piece:?} replaced by {replacement:?}");
    }
}
