//! Catalog files, and files of tenants beside them.

use std::path::Path;

use tollgate::domain::catalog::{
    Catalog, compiled_catalog::CompiledCatalog, compiled_plan::CompiledPlan, error::CatalogError,
    plan_definition::PlanDefinition,
};
use tollgate_fuzz::{Answer, Target};

/// A catalog of 10 kB becomes 1 MB of tree, definition and errors.
const MEMORY_MAX: (usize, usize) = (32 << 20, 4 << 10);

fn shipped() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/catalogs");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Every error says what is wrong and what to do.
fn refused(errors: &[CatalogError]) -> Answer {
    let first = errors.first().expect("a refusal has a reason");
    for error in errors {
        assert!(!error.problem.is_empty() && !error.remedy.is_empty(), "{error:?}");
        assert!(!error.problem.contains('\n'), "{error:?}");
    }
    // Which field, without the names and numbers in it.
    let field: String = first.field.split('[').next().unwrap_or_default().to_owned();
    let words: Vec<_> = first.problem.split(' ').filter(|word| word.is_ascii()).take(3).collect();
    format!("{field}: {}", words.join(" "))
}

/// A catalog that was accepted means the same once it was stored, and each of its plans can be
/// enforced.
fn accepted(catalog: &Catalog) -> Answer {
    let stored = catalog.to_json();
    let read = Catalog::from_json(&stored).expect("what is stored is read again");
    assert_eq!(read.to_json(), stored);
    assert_eq!(read.hash(), catalog.hash());
    let mut plans = 0;
    for plan in catalog.plans() {
        let json = plan.to_json();
        let again = PlanDefinition::from_json(&json).expect("a plan is read again");
        assert_eq!(again.to_json(), json);
        CompiledPlan::from_json(&json).expect("a checked plan can be enforced");
        plans += 1;
    }
    CompiledCatalog::compile(catalog).expect("a checked catalog can be enforced");
    let tenants = catalog.tenants().count();
    format!("accepted with {} plans, {} tenants", plans.min(3), tenants.min(2))
}

#[test]
fn catalog_files() {
    let target =
        Target { name: "catalog", inputs: 600, bytes_max: 64 << 10, memory_max: MEMORY_MAX };
    target.run(shipped(), |input| match Catalog::parse("fuzz", &String::from_utf8_lossy(input)) {
        Ok(catalog) => accepted(&catalog),
        Err(errors) => refused(&errors),
    });
}

#[test]
fn tenants_files() {
    let assistant = String::from_utf8(shipped().swap_remove(0)).unwrap();
    let assistant = Catalog::parse("assistant", &assistant).unwrap();
    let target =
        Target { name: "tenants", inputs: 600, bytes_max: 64 << 10, memory_max: MEMORY_MAX };
    target.run(vec![], |input| {
        let mut catalog = assistant.clone();
        match catalog.add_tenants("fuzz", &String::from_utf8_lossy(input)) {
            Ok(()) => format!("accepted, {}", catalog.tenants().count().min(5)),
            Err(errors) => refused(&errors),
        }
    });
}
