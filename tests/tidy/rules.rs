//! What may refer to what.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs,
    path::Path,
};

use super::{
    imports::{self, Import},
    layers::{self, Layer},
    source::{self, Module, ModulePath},
};

/// The only users of a crate: everyone else asks them.
const CRATE_OWNERS: [(&str, &str); 4] =
    [("redis", "store"), ("deadpool_redis", "store"), ("sqlx", "ledger"), ("jiff_sqlx", "ledger")];

/// Everything that the rules look at.
pub struct House {
    pub layers: Vec<Layer>,
    pub modules: Vec<Module>,
}

impl House {
    /// Reads `src` below `root`.
    pub fn read(root: &Path) -> Self {
        let lib = fs::read_to_string(root.join("src/lib.rs")).unwrap();
        Self { layers: layers::of(&lib), modules: source::modules(root) }
    }
}

/// The problems of a house, one line each.
pub fn check(house: &House) -> Vec<String> {
    let references = References::of(house);
    let mut problems = Vec::new();
    for (module, imports) in house.modules.iter().zip(&references.by_module) {
        for import in imports {
            let problem = if import.is_external {
                crate_problem(module, import)
            } else {
                layer_problem(&house.layers, module, import)
            };
            if let Some(problem) = problem {
                problems.push(format!("{}:{}: {problem}", module.file, import.line));
            }
        }
    }
    problems.extend(cycles(house, &references));
    problems
}

fn crate_problem(module: &Module, import: &Import) -> Option<String> {
    let (name, owner) = CRATE_OWNERS.iter().find(|(name, _)| import.to[0] == *name)?;
    (module.path[0] != *owner).then(|| format!("uses {name}, which only src/{owner} may"))
}

fn layer_problem(layers: &[Layer], module: &Module, import: &Import) -> Option<String> {
    let level_of = |name: &str| layers.iter().find(|l| l.module == name).map(|l| l.level);
    let (from, to) = (module.path[0].as_str(), import.to.first()?.as_str());
    if from == to {
        return None;
    }
    let from_level = level_of(from).unwrap_or_else(|| panic!("lib.rs does not list {from}"));
    // What is no module is an item of lib.rs itself.
    let to_level = level_of(to)?;
    let path = import.to.join("::");
    // Types may use types; from the machines up, neighbours do not know each other.
    match to_level {
        _ if to_level > from_level => {
            Some(format!("imports up, from {from} (L{from_level}) to crate::{path} (L{to_level})"))
        }
        _ if to_level == from_level && from_level > 0 => {
            Some(format!("imports sideways, from {from} to crate::{path} (both L{to_level})"))
        }
        _ => None,
    }
}

/// Every module's references, those to what a module hands on led to where it comes from.
struct References {
    by_module: Vec<Vec<Import>>,
}

impl References {
    fn of(house: &House) -> Self {
        let read: Vec<Vec<Import>> =
            house.modules.iter().map(|module| imports::of(&module.text, &module.path)).collect();
        let mut handed_on: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for (module, imports) in house.modules.iter().zip(&read) {
            for import in imports.iter().filter(|i| i.is_reexport && !i.is_external) {
                let name = import.to.last().unwrap().clone();
                let path = [module.path.clone(), vec![name]].concat();
                // A module that hands on its own child under the same path leads nowhere new.
                if path != import.to {
                    handed_on.insert(path, import.to.clone());
                }
            }
        }
        let lead = |mut import: Import| {
            for _ in 0..8 {
                let Some(origin) = handed_on.get(&import.to) else { break };
                import.to = origin.clone();
            }
            import
        };
        let by_module =
            read.into_iter().map(|imports| imports.into_iter().map(lead).collect()).collect();
        Self { by_module }
    }
}

/// Files that refer to each other in a circle. A module that hands on what its children hold does
/// not refer to them.
fn cycles(house: &House, references: &References) -> Vec<String> {
    let index: BTreeMap<&ModulePath, usize> =
        house.modules.iter().enumerate().map(|(at, module)| (&module.path, at)).collect();
    let edges: Vec<BTreeSet<usize>> = references
        .by_module
        .iter()
        .enumerate()
        .map(|(from, imports)| {
            let used = imports.iter().filter(|i| !i.is_external && !i.is_reexport);
            used.filter_map(|i| file_of(&index, &i.to)).filter(|to| *to != from).collect()
        })
        .collect();
    let mut found = BTreeSet::new();
    for start in 0..edges.len() {
        if let Some(circle) = circle_from(start, &edges) {
            found.insert(circle);
        }
    }
    let describe = |circle: &Vec<usize>| {
        let mut files: Vec<_> = circle.iter().map(|at| house.modules[*at].file.as_str()).collect();
        files.push(files[0]);
        format!("files in a circle: {}", files.join(" → "))
    };
    found.iter().map(describe).collect()
}

/// The file whose module is the longest beginning of `path`.
fn file_of(index: &BTreeMap<&ModulePath, usize>, path: &[String]) -> Option<usize> {
    (1..=path.len()).rev().find_map(|length| index.get(&path[..length].to_vec()).copied())
}

/// The shortest way from `start` back to itself, turned so that the smallest file comes first.
fn circle_from(start: usize, edges: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for &next in &edges[at] {
            if next == start {
                let mut circle = vec![at];
                while *circle.last().unwrap() != start {
                    circle.push(came_from[circle.last().unwrap()]);
                }
                circle.reverse();
                let smallest = circle.iter().position(|f| f == circle.iter().min().unwrap());
                circle.rotate_left(smallest.unwrap());
                return Some(circle);
            }
            if let Entry::Vacant(vacant) = came_from.entry(next) {
                vacant.insert(at);
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "// L0: types.\npub mod clock;\npub mod domain;\n// L1: machines.\n\
                       pub mod journal;\npub mod leases;\n// L2: stores.\npub mod ledger;\n\
                       pub mod store;\n// L3: engine.\npub mod enforcement;\npub mod jobs;\n";

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let modules = files.iter().map(|(path, text)| Module {
            path: path.split("::").map(str::to_owned).collect(),
            file: format!("src/{}.rs", path.replace("::", "/")),
            text: (*text).to_owned(),
        });
        check(&House { layers: layers::of(LIB), modules: modules.collect() })
    }

    #[test]
    fn an_import_that_goes_down_is_fine() {
        assert_eq!(problems(&[("leases", "use crate::domain::ids;")]), [] as [String; 0]);
        assert_eq!(problems(&[("domain", "use crate::clock::Clock;")]), [] as [String; 0]);
    }

    #[test]
    fn an_import_that_goes_up_is_found() {
        let found = problems(&[("leases", "\nuse crate::enforcement::Engine;")]);
        assert_eq!(
            found,
            ["src/leases.rs:2: imports up, from leases (L1) to crate::enforcement::Engine (L3)"]
        );
    }

    #[test]
    fn an_import_that_goes_sideways_is_found() {
        for (from, to) in [("leases", "journal"), ("store", "ledger"), ("jobs", "enforcement")] {
            let found = problems(&[(from, &format!("use crate::{to}::Thing;"))]);
            assert!(found[0].contains("sideways"), "{found:?}");
        }
    }

    #[test]
    fn a_circle_of_files_is_found_once_and_named() {
        let found = problems(&[
            ("leases::a", "use super::b::B;"),
            ("leases::b", "use crate::leases::c::C;"),
            ("leases::c", "fn f() { super::a::make() }"),
        ]);
        let circle = "src/leases/a.rs → src/leases/b.rs → src/leases/c.rs → src/leases/a.rs";
        assert_eq!(found, [format!("files in a circle: {circle}")]);
    }

    #[test]
    fn a_circle_through_a_handed_on_name_is_found() {
        let found = problems(&[
            ("leases", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("leases::a", "use super::B;"),
            ("leases::b", "use super::A;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        let facade_alone = problems(&[
            ("leases", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("leases::a", "use super::B;"),
            ("leases::b", ""),
        ]);
        assert_eq!(facade_alone, [] as [String; 0]);
    }

    #[test]
    fn a_parent_and_a_child_that_use_each_other_are_a_circle() {
        let found = problems(&[
            ("leases", "mod a; use a::A; pub struct B(A);"),
            ("leases::a", "use super::B; pub struct A;"),
        ]);
        assert_eq!(found, ["files in a circle: src/leases.rs → src/leases/a.rs → src/leases.rs"]);
    }

    #[test]
    fn redis_and_sqlx_outside_of_their_rooms_are_found() {
        let found = problems(&[
            ("store::connection", "use redis::Client;"),
            ("enforcement::refill", "fn f() { redis::cmd(\"GET\"); }"),
            ("store::epochs", "use sqlx::PgPool;"),
        ]);
        assert_eq!(
            found,
            [
                "src/enforcement/refill.rs:1: uses redis, which only src/store may",
                "src/store/epochs.rs:1: uses sqlx, which only src/ledger may",
            ]
        );
    }
}
