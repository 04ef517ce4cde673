//! Keeps the house in order: what may import what, how long a file may be, what a module may be
//! called, and what may not be left lying about. Each rule is shown to fail on a planted mistake.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

mod files;
mod imports;
mod layers;
mod metrics;
mod reasons;
mod rules;
mod source;

use std::path::Path;

use rules::House;

#[test]
fn the_house_is_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let house = House::read(root);
    assert!(house.modules.len() > 20, "src was not found: {} modules", house.modules.len());
    let mut problems = rules::check(&house);
    problems.extend(files::check(root));
    problems.extend(metrics::check(root, &house.modules));
    problems.extend(reasons::check(root, &house.modules));
    problems.sort();
    assert!(problems.is_empty(), "\n\n{}\n", problems.join("\n"));
}
