//! Where records end around a place in a journal, for events that are asked for by it.

use super::event::InJournal;
use crate::journal::{position::Position, reader::Entry, record::Record};

/// What the journals have of what was asked for.
pub(super) struct InJournals {
    pub(super) records: Vec<InJournal>,
    pub(super) around: Around,
}

/// Where records end around a place, of the run's journal that was read.
#[derive(Debug, Default)]
pub(super) struct Around {
    before: Option<Position>,
    after: Option<Position>,
    /// A record ends there that holds no usage.
    other: bool,
}

impl Around {
    pub(super) fn add(&mut self, place: Position, entry: &Entry) {
        let is_usage = matches!(entry.record, Record::Usage(_));
        if entry.position == place {
            self.other |= !is_usage;
        } else if is_usage && entry.position < place {
            self.before = self.before.max(Some(entry.position));
        } else if is_usage {
            self.after = Some(self.after.map_or(entry.position, |it| it.min(entry.position)));
        }
    }

    /// What the journal says of a place where it has no usage; `None` where it was not read.
    pub(super) fn why(&self) -> Option<String> {
        let near = match (self.before, self.after) {
            (Some(before), Some(after)) => format!("; the nearest end at {before} and {after}"),
            (Some(near), None) | (None, Some(near)) => format!("; the nearest ends at {near}"),
            (None, None) if self.other => String::new(),
            (None, None) => return None,
        };
        Some(match self.other {
            true => format!("the record that ends there holds no usage{near}"),
            false => {
                format!("its journal, as far as it is left, has no record that ends there{near}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_place_where_no_record_ends_is_told_with_the_nearest_that_do() {
        let at = |offset| Position { segment: 1, offset };
        let mut around = Around::default();
        assert_eq!(around.why(), None, "nothing was read");
        for offset in [100, 200, 400] {
            around.add(at(250), &Entry { position: at(offset), record: Record::Usage(vec![]) });
        }
        let told = around.why().unwrap();
        assert!(told.contains("no record that ends there"), "{told}");
        assert!(told.ends_with("the nearest end at 1:200 and 1:400"), "{told}");
    }
}
