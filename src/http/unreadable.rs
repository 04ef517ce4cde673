//! What is wrong with a body that cannot be read, in words for who wrote it: serde speaks to who
//! wrote the program.

use std::{collections::BTreeMap, sync::LazyLock};

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};

use super::told::cut;
use crate::{
    domain::{catalog::error::nearest, invalid::Invalid},
    proto::{json::REMEDY_FOLLOWS, v1::FILE_DESCRIPTOR_SET},
};

/// How serde names what it met, and how people do.
const MET: [(&str, &str); 7] = [
    ("integer `", "a number (`"),
    ("floating point `", "a number (`"),
    ("boolean `", "a truth value (`"),
    ("string ", "text ("),
    ("sequence", "a list"),
    ("map", "an object"),
    ("null", "null"),
];
/// How serde names what it wants, and how people do.
const WANTED: [(&str, &str); 5] = [
    ("a string", "text"),
    ("a boolean", "true or false"),
    ("a sequence", "a list"),
    ("a map", "an object"),
    ("struct ", "an object"),
];

/// The problem with what stands at `path`, which is `.` for the whole message.
pub fn unreadable(path: &str, error: &serde_json::Error) -> Invalid {
    let told = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = told.strip_suffix(&place).unwrap_or(&told);
    // A field that the message does not have is called `?`.
    let field = proto_names(path.trim_end_matches('?').trim_end_matches('.'));
    if !error.is_data() {
        return Invalid::new(
            or_body(field),
            format!("is no JSON ({told})"),
            "send one JSON object",
        );
    }
    if let Some((name, known)) = named(what, "unknown field `") {
        // The names of both manners are listed; a field is told by its proto's.
        let known: Vec<_> = known.into_iter().filter(|name| !has_capitals(name)).collect();
        let field = match field.is_empty() || path.ends_with(name) {
            true => or_body(field),
            false => format!("{field}.{}", cut(name)),
        };
        let give = nearest(&cut(name), known.iter().copied());
        let give = give.map_or_else(|| one_of(&known), str::to_owned);
        return Invalid::new(field, "is no field of this message", format!("give {give}"));
    }
    if let Some((value, known)) = named(what, "unknown variant `") {
        let problem = format!("is {:?}, which it cannot be", cut(value));
        return Invalid::new(or_body(field), problem, format!("give {}", one_of(&known)));
    }
    if let Some(name) = quoted(what, "duplicate field `") {
        // The path is that of the field's message, or of the field itself.
        let field = if field.is_empty() { proto_names(name) } else { field };
        return Invalid::new(field, "is given twice", "give it once");
    }
    let (problem, give) = match what.split_once(REMEDY_FOLLOWS) {
        Some((problem, give)) => (problem.to_owned(), give.to_owned()),
        None => met(what),
    };
    Invalid::new(or_body(field), cut(&problem), format!("give {}", cut(&give)))
}

fn or_body(field: String) -> String {
    if field.is_empty() { "body".to_owned() } else { field }
}

fn has_capitals(name: &str) -> bool {
    // The values of enums are all capitals, the names of fields are none or camel's.
    name.chars().any(char::is_uppercase)
}

/// The name after `prefix`, and the names that are told to be expected.
fn named<'a>(what: &'a str, prefix: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let (name, expected) = what.strip_prefix(prefix)?.rsplit_once("`, expected ")?;
    // Every second piece between backticks is a name.
    Some((name, expected.split('`').skip(1).step_by(2).collect()))
}

fn quoted<'a>(what: &'a str, prefix: &str) -> Option<&'a str> {
    what.strip_prefix(prefix)?.strip_suffix('`')
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "nothing: it has no fields".to_owned(),
        [name] => (*name).to_owned(),
        names => format!("one of {}", names.join(", ")),
    }
}

/// The problem and what to give of `invalid type: A, expected B`.
fn met(what: &str) -> (String, String) {
    let types = what.strip_prefix("invalid type: ").or(what.strip_prefix("invalid value: "));
    let Some((met, wanted)) = types.and_then(|types| types.split_once(", expected ")) else {
        return (format!("cannot be read ({what})"), "what /openapi.json says of it".to_owned());
    };
    let found = MET.iter().find_map(|(serde, people)| Some((met.strip_prefix(serde)?, people)));
    let met = match found {
        Some((value, people)) if people.ends_with('`') => {
            format!("{}{})", people.trim_end_matches('`'), value.trim_end_matches('`'))
        }
        Some((value, people)) if people.ends_with('(') => format!("{people}{value})"),
        Some((_, people)) => (*people).to_owned(),
        None => met.to_owned(),
    };
    // Enums' readers list their values as Rust does.
    if let Some(list) = wanted.strip_prefix("expected one of: ") {
        let names: Vec<_> = list.split('"').skip(1).step_by(2).collect();
        return (format!("is {met}"), one_of(&names));
    }
    let known = WANTED.iter().find(|(serde, _)| wanted.starts_with(serde));
    (format!("is {met}"), known.map_or(wanted, |(_, people)| people).to_owned())
}

/// Each field's name in the proto by its name in JSON.
static PROTO_NAMES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    fn note(message: &DescriptorProto, names: &mut BTreeMap<String, String>) {
        let fields = message.field.iter();
        names.extend(fields.map(|it| (it.json_name().to_owned(), it.name().to_owned())));
        message.nested_type.iter().for_each(|nested| note(nested, names));
    }
    let mut names = BTreeMap::new();
    // The build wrote it; without it, fields are told as they are written.
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let messages = files.file.iter().flat_map(|file| &file.message_type);
    messages.for_each(|message| note(message, &mut names));
    names
});

/// `events[1].reservationTtl` as `events[1].reservation_ttl`: a field has one name in errors,
/// whichever manner of writing it was used.
fn proto_names(path: &str) -> String {
    let parts = path.split('.').map(|part| {
        let (name, index) = part.find('[').map_or((part, ""), |at| part.split_at(at));
        let name = PROTO_NAMES.get(name).map_or(name, String::as_str);
        format!("{name}{index}")
    });
    cut(&parts.collect::<Vec<_>>().join("."))
}
