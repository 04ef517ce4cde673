//! Catalog files, and files of tenants beside them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tollgate::domain::catalog::{
    Catalog, compiled_catalog::CompiledCatalog, compiled_plan::CompiledPlan, error::CatalogError,
    plan_definition::PlanDefinition,
};
use tollgate_fuzz::{Answer, Target, memory};

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

/// Files of a few kB that stand for far more: aliases of aliases, one list named often, a mapping
/// merged into many, and lists without an end.
fn bombs() -> Vec<(&'static str, String)> {
    let laughs =
        (1..=30).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            format!("{text}a{level}: &a{level} [{below}]\n")
        });
    let chain = (1..=3_000).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
        format!("{text}a{level}: &a{level} [*a{}]\n", level - 1)
    });
    let often = format!(
        "big: &big [{}]\nmany: [{}]\n",
        vec!["word"; 2_000].join(", "),
        vec!["*big"; 2_000].join(", ")
    );
    let entries: String = (0..500).map(|number| format!("  key{number}: word\n")).collect();
    let merges: String = (0..500).map(|number| format!("m{number}: {{<<: *base}}\n")).collect();
    vec![
        ("aliases of aliases", laughs),
        ("a chain of aliases", chain),
        ("one list often", often),
        ("one mapping merged often", format!("base: &base\n{entries}{merges}")),
        ("lists in lists", "[".repeat(100_000)),
        ("mappings in mappings", "{a: ".repeat(50_000)),
        ("itself", "a: &a [*a]\n".to_owned()),
        ("steps without an end", (0..3_000).map(|depth| " ".repeat(depth) + "a:\n").collect()),
    ]
}

#[test]
fn files_that_stand_for_far_more_are_refused_fast_and_cost_little() {
    // As busy machines need; each takes milliseconds.
    const TIME_MAX: Duration = Duration::from_secs(20);
    let assistant = String::from_utf8(shipped().swap_remove(0)).unwrap();
    for (name, text) in bombs() {
        for text in [text.clone(), format!("{assistant}\n{text}")] {
            let began = Instant::now();
            let (errors, bytes) = memory::peak_of(|| Catalog::parse("fuzz", &text).unwrap_err());
            assert!(!refused(&errors).is_empty());
            let mut catalog = Catalog::parse("assistant", &assistant).unwrap();
            let (errors, more) =
                memory::peak_of(|| catalog.add_tenants("fuzz", &text).unwrap_err());
            assert!(!refused(&errors).is_empty());
            let (base, each) = MEMORY_MAX;
            assert!(bytes.max(more) <= base + each * text.len(), "{name}: {bytes}, {more} bytes");
            assert!(began.elapsed() < TIME_MAX, "{name}: {:?}", began.elapsed());
            println!("{name}: {} bytes become {bytes} and {more}", text.len());
        }
    }
}
