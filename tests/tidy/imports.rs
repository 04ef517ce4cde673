//! What a file refers to: its `use` lines, and the paths it spells out in full. What stands under
//! `#[cfg(test)]` does not count.

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::source::ModulePath;

/// One reference from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// In full, from the crate's root (`["leases", "cell", "Cell"]`); for another crate, its name
    /// and what follows.
    pub to: Vec<String>,
    /// Whether `to` starts with another crate.
    pub is_external: bool,
    pub line: usize,
    /// Whether it hands on what it names (`pub use`).
    pub is_reexport: bool,
}

/// The references in `text`, the file of `module`. `children` are the modules declared in it.
pub fn of(text: &str, module: &ModulePath) -> Vec<Import> {
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{module:?}: {error}"));
    let children = file.items.iter().filter_map(|item| match item {
        Item::Mod(child) => Some(child.ident.to_string()),
        _ => None,
    });
    let mut reader =
        Reader { scope: module.clone(), children: children.collect(), imports: Vec::new() };
    reader.visit_file(&file);
    reader.imports
}

struct Reader {
    /// The module that paths are read in; deeper than the file's inside `mod x { … }`.
    scope: ModulePath,
    children: Vec<String>,
    imports: Vec<Import>,
}

impl Reader {
    fn note(&mut self, path: Vec<String>, line: usize, is_reexport: bool) {
        if let Some((to, is_external)) = self.resolve(path) {
            self.imports.push(Import { to, is_external, line, is_reexport });
        }
    }

    /// The path from the crate's root; `None` for what is local.
    fn resolve(&self, path: Vec<String>) -> Option<(Vec<String>, bool)> {
        let mut rest = path.as_slice();
        let mut base = match rest.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.scope.clone(),
            first if self.children.iter().any(|child| child == first) => {
                return Some(([self.scope.clone(), path].concat(), false));
            }
            _ => return Some((path, true)),
        };
        while let Some(first) = rest.first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                _ => break,
            }
            rest = &rest[1..];
        }
        base.extend_from_slice(rest);
        Some((base, false))
    }

    fn note_tree(&mut self, tree: &UseTree, before: &[String], line: usize, is_reexport: bool) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => {
                self.note_tree(&path.tree, &with(path.ident.to_string()), line, is_reexport);
            }
            UseTree::Name(name) if name.ident == "self" => {
                self.note(before.to_vec(), line, is_reexport);
            }
            UseTree::Name(name) => self.note(with(name.ident.to_string()), line, is_reexport),
            UseTree::Rename(name) => self.note(with(name.ident.to_string()), line, is_reexport),
            UseTree::Glob(_) => self.note(with("*".into()), line, is_reexport),
            UseTree::Group(group) => {
                for item in &group.items {
                    self.note_tree(item, before, line, is_reexport);
                }
            }
        }
    }

    /// Paths inside of a macro's brackets: `crate::a::b`, `sqlx::query`.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 || path.is_empty() {
                        self.note_long(std::mem::take(&mut path), line);
                        line = name.span().start().line;
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                _ => colons = 0,
            }
        }
        self.note_long(path, line);
    }

    /// A single name is a local or a keyword argument, not a reference to a module.
    fn note_long(&mut self, path: Vec<String>, line: usize) {
        if path.len() > 1 {
            self.note(path, line, false);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_reexport = !matches!(item.vis, syn::Visibility::Inherited);
        self.note_tree(&item.tree, &[], item.span().start().line, is_reexport);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.scope.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.scope.pop();
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        if let syn::ImplItem::Fn(function) = item
            && is_for_tests(&function.attrs)
        {
            return;
        }
        visit::visit_impl_item(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note_long(names, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.note_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, bool)> {
        let module = vec!["leases".to_owned(), "cell".to_owned()];
        of(text, &module).into_iter().map(|i| (i.to.join("::"), i.is_external)).collect()
    }

    #[test]
    fn groups_renames_and_supers_are_read_in_full() {
        let text = "use crate::{domain::{ids::RunId, money as m}, api::*};\nuse super::key::Key;";
        let expected = ["domain::ids::RunId", "domain::money", "api::*", "leases::key::Key"];
        assert_eq!(found(text), expected.map(|path| (path.to_owned(), false)));
    }

    #[test]
    fn paths_that_are_spelled_out_count_also_inside_of_macros() {
        let text =
            "fn f() -> crate::api::A { println!(\"{}\", sqlx::query(x)); redis::cmd(\"A\") }";
        let found = found(text);
        for expected in [("api::A", false), ("sqlx::query", true), ("redis::cmd", true)] {
            assert!(found.contains(&(expected.0.to_owned(), expected.1)), "{found:?}");
        }
    }

    #[test]
    fn what_stands_under_cfg_test_does_not_count() {
        let text =
            "#[cfg(test)] mod tests { use crate::api::A; }\n#[test] fn t() { crate::b::c() }";
        assert_eq!(found(text), []);
    }

    #[test]
    fn a_child_module_is_not_taken_for_the_crate_of_its_name() {
        let text = "mod redis;\npub use redis::Redis;";
        assert_eq!(found(text), [("leases::cell::redis::Redis".to_owned(), false)]);
    }
}
