//! The layers, as `src/lib.rs` lists them: a comment `// L<number>: …` before each.

/// A top-level module and the layer that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub module: String,
    pub level: u32,
}

/// Reads the list out of `lib.rs`.
pub fn of(lib: &str) -> Vec<Layer> {
    let mut level = None;
    let mut layers = Vec::new();
    for line in lib.lines() {
        if let Some(rest) = line.strip_prefix("// L") {
            let digits = rest.split(':').next().unwrap();
            level = Some(digits.parse().unwrap_or_else(|_| panic!("lib.rs: {line}")));
        } else if let Some(module) = line.strip_prefix("pub mod ") {
            let module = module.trim_end_matches(';').to_owned();
            let level = level.unwrap_or_else(|| panic!("lib.rs: {module} is in no layer"));
            layers.push(Layer { module, level });
        }
    }
    layers
}

#[test]
fn a_module_belongs_to_the_layer_of_the_comment_above_it() {
    let layers = of("// L0: types.\npub mod clock;\n\n// L1: machines.\npub mod leases;\n");
    let expected = [("clock", 0), ("leases", 1)];
    assert_eq!(layers, expected.map(|(module, level)| Layer { module: module.into(), level }));
}
