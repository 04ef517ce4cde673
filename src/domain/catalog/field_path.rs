//! Where a value stands in a file: as the checks know it, and as people read it.

use super::node::{Content, Node, Place};

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

/// The way from the top of a file to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldPath(Vec<Step>);

impl FieldPath {
    /// The field `key` of this value.
    #[must_use]
    pub(super) fn key(&self, key: impl Into<String>) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.into()));
        Self(steps)
    }

    /// The item `index` of this list, from 0.
    #[must_use]
    pub(super) fn item(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Item(index));
        Self(steps)
    }

    /// Counts the items of lists from `first` on instead of from 0.
    pub(super) fn renumber_items(&mut self, first: usize) {
        for step in &mut self.0 {
            if let Step::Item(index) = step {
                *index = index.saturating_sub(first);
            }
        }
    }

    /// The place of the value in the file, or of the nearest value around it that is written
    /// there, and the path with list items called by their names.
    pub(super) fn locate(&self, root: &Node) -> (Place, String) {
        let mut place = root.place;
        let mut shown = String::new();
        let mut node = Some(root);
        for step in &self.0 {
            node = match step {
                Step::Key(key) => {
                    if !shown.is_empty() {
                        shown.push('.');
                    }
                    shown.push_str(key);
                    node.and_then(|node| node.get(key))
                }
                Step::Item(index) => {
                    let item = node.and_then(|node| node.item(*index));
                    let name = node.and_then(|list| own_name(list, *index));
                    shown.push('[');
                    shown.push_str(&name.unwrap_or_else(|| index.to_string()));
                    shown.push(']');
                    item
                }
            };
            place = node.map_or(place, |node| node.place);
        }
        (place, shown)
    }
}

/// Longest list whose items are called by their names: whether a name is the only one takes a look
/// at all.
const NAMED_ITEMS_MAX: usize = 1_000;

/// What the item at `index` calls itself, unless another item of the list says the same.
fn own_name(list: &Node, index: usize) -> Option<String> {
    let Content::List(items) = &list.content else { return None };
    if items.len() > NAMED_ITEMS_MAX {
        return None;
    }
    let name = |item: &Node| {
        ["name", "code", "id"].iter().find_map(|key| item.get(key)?.text().map(str::to_owned))
    };
    let own = name(items.get(index)?)?;
    let alone = items.iter().filter(|item| name(item).as_ref() == Some(&own)).count() == 1;
    alone.then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_called_by_their_names_while_these_are_unique() {
        let root =
            Node::parse("plans:\n- {name: a, x: 1}\n- {name: b}\n- {name: c}\n- {name: c}\n")
                .unwrap();
        let plans = FieldPath::default().key("plans");
        let (place, shown) = plans.item(0).key("x").locate(&root);
        assert_eq!((place.line, shown.as_str()), (2, "plans[a].x"));
        assert_eq!(plans.item(3).locate(&root).1, "plans[3]");
        let (place, shown) = plans.item(1).key("missing").locate(&root);
        assert_eq!((place.line, shown.as_str()), (3, "plans[b].missing"));
    }
}
