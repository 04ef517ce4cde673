//! Reading a catalog: from a file as people write it, or as the ledger stores it.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    canonical::ContentHash,
    definition::CatalogDefinition,
    error::CatalogError,
    finding::located,
    meters::MeterDef,
    node::{Content, Node},
    plan_definition::PlanDefinition,
    schema, structure, succession,
    tenants::{TenantDef, TenantsFile},
    validate,
};
use crate::domain::{ids::CatalogName, invalid::Invalid, tenant::Tenant};

/// Largest file, in bytes: more than a thousand times what a real catalog needs, and enough for half a
/// million tenants.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// A catalog that has been checked.
#[derive(Clone, Debug)]
pub struct Catalog {
    definition: CatalogDefinition,
    tenants: Vec<TenantDef>,
    source: Option<Arc<Source>>,
}

/// The file that a catalog was read from, to tell places in it.
#[derive(Debug)]
struct Source {
    file_name: String,
    root: Node,
}

impl Catalog {
    /// Reads and checks the text of a file. `file_name` is what errors call it; they come in the
    /// order of the lines. A file of a wrong shape is not checked any further.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Vec<CatalogError>> {
        let (root, mut definition): (_, CatalogDefinition) = read(file_name, text)?;
        let findings = validate::catalog(&definition);
        if !findings.is_empty() {
            return Err(located(file_name, &root, findings));
        }
        let tenants = std::mem::take(&mut definition.tenants);
        let source = Arc::new(Source { file_name: file_name.to_owned(), root });
        Ok(Self { definition, tenants, source: Some(source) })
    }

    /// Adds the tenants of a file of their own (`catalog: NAME`, `tenants: […]`).
    pub fn add_tenants(&mut self, file_name: &str, text: &str) -> Result<(), Vec<CatalogError>> {
        let (root, file): (_, TenantsFile) = read(file_name, text)?;
        if file.catalog != self.definition.catalog {
            let place = root.get("catalog").map(|node| node.place).unwrap_or_default();
            return Err(vec![CatalogError {
                file: file_name.to_owned(),
                line: place.line,
                column: place.column,
                field: "catalog".to_owned(),
                problem: format!("is {}, not {}", file.catalog, self.definition.catalog),
                remedy: "give the catalog whose plans the tenants are on".to_owned(),
            }]);
        }
        let mut all = self.tenants.clone();
        let before = all.len();
        all.extend(file.tenants);
        let mut findings = validate::tenants_of(&self.definition, &all);
        // Findings number the tenants of both files through; those of the first were sound.
        for finding in &mut findings {
            finding.path.renumber_items(before);
        }
        if !findings.is_empty() {
            return Err(located(file_name, &root, findings));
        }
        self.tenants = all;
        Ok(())
    }

    /// Reads a catalog as the ledger stores it.
    pub fn from_json(json: &Value) -> Result<Self, Invalid> {
        let definition = serde_json::from_value(json.clone()).map_err(|error| {
            Invalid::new(
                "catalog",
                error.to_string(),
                "run the version of tollgate that wrote it, or apply the catalog's file again",
            )
        })?;
        Ok(Self { definition, tenants: Vec::new(), source: None })
    }

    /// The catalog as the ledger stores it: without tenants.
    pub fn to_json(&self) -> Value {
        // Every field serialises to JSON: names, numbers, and maps with text keys.
        serde_json::to_value(&self.definition).unwrap_or_default()
    }

    /// Equal exactly when two catalogs mean the same; tenants do not count.
    pub fn hash(&self) -> ContentHash {
        ContentHash::of(&self.to_json())
    }

    /// Refuses meters that mean something else than one of `before`, which is every meter that any
    /// stored version of the catalog and its plans has had.
    pub fn check_meters_keep_their_meaning<'a>(
        &self,
        before: impl IntoIterator<Item = &'a MeterDef>,
    ) -> Result<(), Vec<CatalogError>> {
        let findings = succession::redefined_meters(before, &self.definition);
        match &self.source {
            _ if findings.is_empty() => Ok(()),
            Some(source) => Err(located(&source.file_name, &source.root, findings)),
            None => Err(located(self.name().as_str(), &Node::nowhere(), findings)),
        }
    }

    /// The catalog's name.
    pub fn name(&self) -> &CatalogName {
        &self.definition.catalog
    }

    /// All that it says.
    pub fn definition(&self) -> &CatalogDefinition {
        &self.definition
    }

    /// Every plan with what it uses, the lowest first.
    pub fn plans(&self) -> impl Iterator<Item = PlanDefinition> {
        self.definition.plans.iter().map(|plan| PlanDefinition::of(&self.definition, plan))
    }

    /// One plan with what it uses.
    pub fn plan(&self, name: &str) -> Option<PlanDefinition> {
        let plan = self.definition.plans.iter().find(|plan| plan.name.as_str() == name)?;
        Some(PlanDefinition::of(&self.definition, plan))
    }

    /// The tenants that its files name, for a sidecar that runs alone.
    pub fn tenants(&self) -> impl Iterator<Item = Tenant> {
        self.tenants.iter().map(|tenant| tenant.tenant(&self.definition.catalog))
    }
}

/// Reads a file into its type; the shape is checked, the meaning not yet.
fn read<T: DeserializeOwned + schemars::JsonSchema>(
    file_name: &str,
    text: &str,
) -> Result<(Node, T), Vec<CatalogError>> {
    let error = |line, column, problem: String, remedy: &str| {
        vec![CatalogError {
            file: file_name.to_owned(),
            line,
            column,
            field: String::new(),
            problem,
            remedy: remedy.to_owned(),
        }]
    };
    if text.len() > FILE_BYTES_MAX {
        let problem = format!("has {} bytes", text.len());
        return Err(error(0, 0, problem, &format!("keep it below {FILE_BYTES_MAX}")));
    }
    let root = Node::parse(text).map_err(|(place, message)| {
        error(
            place.line,
            place.column,
            format!("cannot be read as YAML: {message}"),
            "mend the file there; `tollgate catalog validate` checks it again",
        )
    })?;
    if matches!(root.content, Content::Null) {
        let remedy = "write a catalog; docs/catalog.md begins with the smallest one";
        return Err(error(0, 0, "the file is empty".to_owned(), remedy));
    }
    let value = structure::check(&root, &schema::of::<T>())
        .map_err(|problems| located(file_name, &root, problems))?;
    // What the schema let pass the types take; should they ever disagree, the file is refused.
    let read = serde_json::from_value(value).map_err(|problem| {
        error(0, 0, problem.to_string(), "compare the file with catalog.schema.json")
    })?;
    Ok((root, read))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = "\
catalog: shop
currency: USD
meters:
  - { name: calls, kind: counter, unit: call }
plans:
  - { name: small, prices: { monthly: 9 }, limits: { calls: 100 } }
tenants:
  - { id: acme, plan: small }
";

    fn shop() -> Catalog {
        Catalog::parse("shop.yaml", SHOP).unwrap()
    }

    #[test]
    fn a_tenant_of_a_file_is_found_the_same_after_a_restart() {
        let (before, after) = (shop(), shop());
        let (before, after) = (before.tenants().next().unwrap(), after.tenants().next().unwrap());
        assert_eq!(before, after);
        assert_eq!(before.account.as_str(), "acme");
        assert_eq!(before.subscription.plan.plan.as_str(), "small");
        let anchor = before.subscription.schedule.anchor;
        assert_eq!(anchor.to_string(), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn tenants_can_stand_in_a_file_of_their_own() {
        let mut catalog = shop();
        let text = "catalog: shop\ntenants:\n  - { id: globex, account: g, plan: small, \
                    zone: Europe/London, anchor: 2026-01-31T00:00:00Z, interval: yearly, \
                    test_clock: 2026-02-28T12:00:00Z }\n";
        catalog.add_tenants("tenants.yaml", text).unwrap();
        let globex = catalog.tenants().nth(1).unwrap();
        assert_eq!(globex.account.as_str(), "g");
        assert_eq!(globex.test_clock.unwrap().to_string(), "2026-02-28T12:00:00Z");
        let schedule = &globex.subscription.schedule;
        assert_eq!(schedule.zone.iana_name(), Some("Europe/London"));
    }

    #[test]
    fn a_tenant_named_in_both_files_is_told_in_the_second() {
        let mut catalog = shop();
        let text = "catalog: shop\ntenants:\n  - { id: globex, plan: small }\n  - { id: acme, plan: smal }\n";
        let errors = catalog.add_tenants("tenants.yaml", text).unwrap_err();
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "tenants.yaml:4:11: tenants[acme].id: \"acme\" is already taken; give each its own \
                 id, or remove this one",
                "tenants.yaml:4:23: tenants[acme].plan: \"smal\" is not a plan of this catalog; did \
                 you mean small?",
            ]
        );
        assert_eq!(catalog.tenants().count(), 1);
    }

    #[test]
    fn tenants_do_not_count_as_a_change_of_the_catalog() {
        let without = SHOP.split("tenants:").next().unwrap();
        assert_eq!(Catalog::parse("shop.yaml", without).unwrap().hash(), shop().hash());
    }

    #[test]
    fn every_catalog_in_the_documentation_is_accepted() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/catalog.md");
        let page = std::fs::read_to_string(path).unwrap();
        let blocks: Vec<_> = page.split("```yaml\n").skip(1).collect();
        let blocks = blocks.iter().filter_map(|rest| rest.split("```").next());
        let (mut catalogs, mut fragments) = (0, 0);
        for block in blocks {
            if block.starts_with("catalog:") && block.contains("meters:") {
                Catalog::parse("docs/catalog.md", block).unwrap();
                catalogs += 1;
            } else {
                let fragment = Node::parse(block).unwrap();
                if fragment.get("one rate").is_some() {
                    continue;
                }
                let problems = structure::check(&fragment, &schema::of::<CatalogDefinition>());
                let problems = located("docs/catalog.md", &fragment, problems.unwrap_err());
                let unfit: Vec<_> = problems
                    .into_iter()
                    // A fragment lacks the rest of the catalog, and the units of its meters.
                    .filter(|error| {
                        error.problem != "is missing" && !error.problem.contains("meter is unknown")
                    })
                    .collect();
                assert!(unfit.is_empty(), "{unfit:?}");
                fragments += 1;
            }
        }
        assert!(catalogs >= 1 && fragments >= 5, "{catalogs} {fragments}");
    }
}
