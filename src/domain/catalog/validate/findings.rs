//! Gathers what is wrong, with the wording that all parts share.

use std::collections::BTreeSet;

use crate::domain::{
    catalog::{decimal::Price, error::did_you_mean, field_path::FieldPath, finding::Finding},
    invalid::Invalid,
    money::Currency,
};

/// All that was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub all: Vec<Finding>,
}

impl Findings {
    /// Records one finding.
    pub(super) fn add(
        &mut self,
        path: FieldPath,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.all.push(Finding {
            path,
            key_place: None,
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    /// Records what a type said of a value.
    pub(super) fn add_invalid(&mut self, path: FieldPath, invalid: Invalid) {
        self.add(path, invalid.problem, invalid.remedy);
    }

    /// Names of a list must differ; the later one is wrong.
    pub(super) fn unique<'a>(
        &mut self,
        list: &FieldPath,
        field: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.into_iter().enumerate() {
            if !seen.insert(name) {
                self.add(
                    list.item(index).key(field),
                    format!("{name:?} is already taken"),
                    format!("give each its own {field}, or remove this one"),
                );
            }
        }
    }

    /// `name` must be one of `known`; says so and returns false when it is not.
    pub(super) fn known<'a>(
        &mut self,
        path: FieldPath,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str> + Clone,
    ) -> bool {
        if known.clone().into_iter().any(|one| one == name) {
            return true;
        }
        let article = if what.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
        self.add(
            path,
            format!("{name:?} is not {article} {what} of this catalog"),
            did_you_mean(name, known),
        );
        false
    }

    /// A price has no more digits than its currency.
    pub(super) fn price(&mut self, path: FieldPath, price: Option<Price>, currency: Currency) {
        let Some(price) = price else { return };
        let decimals = price.get().normalize().scale();
        if decimals > currency.exponent() {
            self.add(
                path,
                format!("{price} has {decimals} digits after the point"),
                format!("{currency} has {}; round it", currency.exponent()),
            );
        }
    }

    /// A count that must be at least 1.
    pub(super) fn at_least_one(&mut self, path: FieldPath, count: u64) {
        if count == 0 {
            self.add(path, "is 0", "give at least 1");
        }
    }

    /// The numbers under `field` of a list's items must grow.
    pub(super) fn ascending<T: PartialOrd>(
        &mut self,
        list: &FieldPath,
        field: &str,
        numbers: &[T],
    ) {
        for (index, pair) in numbers.windows(2).enumerate() {
            if pair[0] >= pair[1] {
                self.add(
                    list.item(index + 1).key(field),
                    "is not larger than the one before",
                    "put them in ascending order, each once",
                );
            }
        }
    }

    /// Like [`Findings::ascending`], for lists of plain numbers.
    pub(super) fn ascending_items<T: PartialOrd>(&mut self, list: &FieldPath, numbers: &[T]) {
        for (index, pair) in numbers.windows(2).enumerate() {
            if pair[0] >= pair[1] {
                self.add(
                    list.item(index + 1),
                    "is not larger than the one before",
                    "put them in ascending order, each once",
                );
            }
        }
    }
}
