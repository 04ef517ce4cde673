//! Every metric is documented, and every documented metric exists.

use std::{collections::BTreeSet, fs, path::Path};

use super::source::Module;

const DOCUMENT: &str = "docs/metrics.md";
const PREFIX: &str = "tollgate_";
/// Names in the code that are none of a metric: a channel and the roles of Postgres, a file of
/// descriptors.
const OTHER_NAMES: [&str; 5] = [
    "tollgate_changes",
    "tollgate_descriptor",
    "tollgate_service",
    "tollgate_tenant",
    "tollgate_tenant_writer",
];
/// Metrics that only a test has.
const TEST_PREFIX: &str = "tollgate_test_";

/// The problems of all metrics, one line each.
pub fn check(root: &Path, modules: &[Module]) -> Vec<String> {
    let code: String = modules.iter().map(|module| module.text.as_str()).collect();
    compare(&code, &fs::read_to_string(root.join(DOCUMENT)).unwrap())
}

fn compare(code: &str, document: &str) -> Vec<String> {
    let (used, documented) = (names(code, '"'), names(document, '`'));
    let not_documented = used
        .difference(&documented)
        .filter(|name| !OTHER_NAMES.contains(name) && !name.starts_with(TEST_PREFIX))
        .map(|name| format!("{DOCUMENT}: has nothing on {name}"));
    let gone = documented.difference(&used).map(|name| format!("{DOCUMENT}: there is no {name}"));
    not_documented.chain(gone).collect()
}

/// The names that stand between two `quote`s.
fn names(text: &str, quote: char) -> BTreeSet<&str> {
    let is_name = |part: &&str| {
        part.starts_with(PREFIX)
            && part.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())
    };
    text.split(quote).filter(is_name).collect()
}

#[test]
fn a_metric_without_a_word_and_a_word_without_a_metric_are_found() {
    let code = "counter!(\"tollgate_a_total\"); gauge!(\"tollgate_b\"); \"tollgate_test_c\"";
    let problems = compare(code, "| `tollgate_b`, `tollgate_d_total` | `label` |");
    assert_eq!(
        problems,
        [
            "docs/metrics.md: has nothing on tollgate_a_total",
            "docs/metrics.md: there is no tollgate_d_total"
        ]
    );
}
