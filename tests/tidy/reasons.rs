//! Every reason that a caller can be told is documented, and every documented one exists.

use std::{collections::BTreeSet, fs, path::Path};

use super::source::Module;

const DOCUMENT: &str = "docs/reasons.md";
const PROTOS: &str = "proto/tollgate/v1";
/// What an answer's reasons begin with in the protos.
const ENUMS: [&str; 6] = [
    "QUOTA_REASON_",
    "RATE_LIMIT_REASON_",
    "FEATURE_REASON_",
    "EMERGENCY_REASON_",
    "DENIED_BY_",
    "DECIDED_BY_",
];
/// Where failed calls get their reasons.
const FACES: [&str; 3] = ["api", "grpc", "http"];
/// Names in the faces that are none of a reason: a variable of the build, and gRPC's own codes, which
/// the document's tables name.
const OTHER_NAMES: [&str; 6] = [
    "CARGO_PKG_VERSION",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
];

/// The problems of all reasons, one line each.
pub fn check(root: &Path, modules: &[Module]) -> Vec<String> {
    let mut protos = String::new();
    for entry in fs::read_dir(root.join(PROTOS)).unwrap() {
        protos.push_str(&fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let is_of_face = |module: &&Module| FACES.contains(&module.path[0].as_str());
    let is_served = |module: &&Module| module.path.last().is_none_or(|name| name != "tests");
    let served = modules.iter().filter(is_of_face).filter(is_served);
    let code: String =
        served.filter_map(|module| module.text.split("#[cfg(test)]").next()).collect();
    compare(&protos, &code, &fs::read_to_string(root.join(DOCUMENT)).unwrap())
}

fn compare(protos: &str, code: &str, document: &str) -> Vec<String> {
    let mut told = in_enums(protos);
    told.extend(between(code, '"'));
    let documented = between(document, '`');
    let missing = told.difference(&documented).filter(|name| !OTHER_NAMES.contains(name));
    let gone = documented.difference(&told);
    missing
        .map(|name| format!("{DOCUMENT}: has nothing on {name}"))
        .chain(gone.map(|name| format!("{DOCUMENT}: there is no {name}")))
        .collect()
}

fn in_enums(protos: &str) -> BTreeSet<&str> {
    let values = protos.lines().filter_map(|line| line.split_once(" = "));
    values
        .map(|(name, _)| name.trim())
        .filter(|name| ENUMS.iter().any(|start| name.starts_with(start)))
        .filter(|name| !name.ends_with("_UNSPECIFIED"))
        .collect()
}

/// What stands between two `quote`s and is written like a reason.
fn between(text: &str, quote: char) -> BTreeSet<&str> {
    let is_reason = |part: &&str| {
        part.len() >= 4
            && part.starts_with(|first: char| first.is_ascii_uppercase())
            && !part.ends_with('_')
            && part.bytes().all(|byte| byte == b'_' || byte.is_ascii_uppercase())
    };
    text.split(quote).filter(is_reason).collect()
}

#[test]
fn a_reason_without_a_word_and_a_word_without_a_reason_are_found() {
    let protos = "  QUOTA_REASON_UNSPECIFIED = 0;\n  QUOTA_REASON_NEW = 1;\n  MODE_CHECK = 1;\n";
    let code = "new(Code::NotFound, \"UNKNOWN_THING\", \"x\"); \"ROLE\"";
    let problems = compare(protos, code, "| `ROLE` | `QUOTA_REASON_OLD` | NOT_FOUND |");
    assert_eq!(
        problems,
        [
            "docs/reasons.md: has nothing on QUOTA_REASON_NEW",
            "docs/reasons.md: has nothing on UNKNOWN_THING",
            "docs/reasons.md: there is no QUOTA_REASON_OLD"
        ]
    );
}
