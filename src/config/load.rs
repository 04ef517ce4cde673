//! Puts settings together from their sources.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Profile, Provider,
    error::Actual,
    providers::{Format, Serialized, Toml},
    value::{Dict, Value},
};

use super::{
    reference::{self, Kind, Setting, VARIABLE_PREFIX},
    settings::Settings,
};
use crate::domain::invalid::Invalid;

/// Variables with our prefix that are read elsewhere: the settings file, where the client commands
/// find a sidecar and with which token, and who uses the operator's tools.
pub const OTHER_VARIABLES: [&str; 4] =
    ["TOLLGATE_CONFIG", "TOLLGATE_ENDPOINT", "TOLLGATE_ACTOR", "TOLLGATE_TOKEN"];
/// How alike a name must be to be suggested, from 0 to 1 (Jaro-Winkler).
const SIMILARITY_MIN: f64 = 0.8;

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(String),
}

/// What was given, source by source.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub file: Option<PathBuf>,
    /// The process's environment; what does not start with our prefix is left alone.
    pub variables: Vec<(String, String)>,
    /// Path of the setting, and its value.
    pub flags: Vec<(String, String)>,
}

/// Settings that hold, and where each value came from that is not a default.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub origins: BTreeMap<String, Origin>,
}

/// All that is wrong with the settings that were given.
#[derive(Debug, thiserror::Error)]
pub struct SettingsError {
    pub problems: Vec<Problem>,
}

/// One setting that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub invalid: Invalid,
    pub origin: Origin,
}

/// Reads all sources and checks the whole.
pub fn load(given: &Given) -> Result<Loaded, SettingsError> {
    let mut sources = Sources::default();
    if let Some(file) = &given.file {
        sources.read_file(file);
    }
    sources.read_variables(&given.variables);
    for (path, text) in &given.flags {
        if let Some(setting) = reference::find(path) {
            sources.set_text(setting, text, Origin::Flag(format!("--{}", setting.flag())));
        }
    }
    sources.finish()
}

#[derive(Default)]
struct Sources {
    values: BTreeMap<String, Value>,
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
}

impl Sources {
    fn read_file(&mut self, file: &Path) {
        let origin = Origin::File(file.to_owned());
        let sections = match Toml::file_exact(file).data() {
            Ok(mut profiles) => profiles.remove(&Profile::Default).unwrap_or_default(),
            Err(error) => {
                let remedy = "give a readable TOML file; `tollgate config` prints one";
                let problem = format!("cannot be read ({})", on_one_line(&error.to_string()));
                let invalid = Invalid::new("config", problem, remedy);
                return self.problems.push(Problem { invalid, origin });
            }
        };
        for (section, value) in sections {
            match value {
                Value::Dict(_, fields) => self.read_section(&section, fields, &origin),
                _ => self.refuse_unknown(&section, &origin),
            }
        }
    }

    fn read_section(&mut self, section: &str, fields: Dict, origin: &Origin) {
        for (field, value) in fields {
            let path = format!("{section}.{field}");
            match (reference::find(&path), value.as_str()) {
                // TOML has no null.
                (Some(setting), Some("")) => self.set_text(setting, "", origin.clone()),
                (Some(_), _) => self.set(path, value, origin.clone()),
                (None, _) => self.refuse_unknown(&path, origin),
            }
        }
    }

    fn read_variables(&mut self, variables: &[(String, String)]) {
        for (name, text) in variables {
            let is_ours = name.starts_with(VARIABLE_PREFIX)
                && !OTHER_VARIABLES.contains(&name.as_str())
                && !is_kubernetes_link(name, text);
            if !is_ours {
                continue;
            }
            let origin = Origin::Variable(name.clone());
            match reference::settings().find(|setting| setting.variable() == *name) {
                Some(setting) => self.set_text(setting, text, origin),
                None => {
                    let path = name[VARIABLE_PREFIX.len()..].to_lowercase().replacen('_', ".", 1);
                    self.refuse_unknown(&path, &origin);
                }
            }
        }
    }

    fn refuse_unknown(&mut self, path: &str, origin: &Origin) {
        let nearest = reference::settings()
            .map(|setting| (strsim::jaro_winkler(path, &setting.path), setting))
            .filter(|(similarity, _)| *similarity > SIMILARITY_MIN)
            .max_by(|(one, _), (other, _)| one.total_cmp(other));
        let remedy = match nearest {
            Some((_, setting)) => format!("did you mean {}?", setting.path),
            None => "`tollgate config` lists all settings".to_owned(),
        };
        let invalid = Invalid::new(path, "is not a setting", remedy);
        self.problems.push(Problem { invalid, origin: origin.clone() });
    }

    /// What environment and flags give is text; the setting's kind says how to read it. What cannot
    /// be read stays text, and is refused with the rest.
    fn set_text(&mut self, setting: &Setting, text: &str, origin: Origin) {
        let parsed = match setting.kind {
            _ if text.is_empty() && setting.is_optional => None,
            Kind::Text => Some(Value::from(text)),
            Kind::WholeNumber => Some(text.parse::<i64>().map_or(text.into(), Value::from)),
            Kind::Number => Some(text.parse::<f64>().map_or(text.into(), Value::from)),
            Kind::YesNo => Some(text.parse::<bool>().map_or(text.into(), Value::from)),
        };
        let nothing = || Value::Empty(figment::value::Tag::Default, figment::value::Empty::None);
        self.set(setting.path.clone(), parsed.unwrap_or_else(nothing), origin);
    }

    fn set(&mut self, path: String, value: Value, origin: Origin) {
        self.origins.insert(path.clone(), origin);
        self.values.insert(path, value);
    }

    fn finish(mut self) -> Result<Loaded, SettingsError> {
        let settings = self.extract();
        let problems = settings.problems().into_iter().map(|invalid| Problem {
            origin: self.origins.get(&invalid.field).cloned().unwrap_or(Origin::Default),
            invalid,
        });
        self.problems.extend(problems);
        if self.problems.is_empty() {
            Ok(Loaded { settings, origins: self.origins })
        } else {
            Err(SettingsError { problems: self.problems })
        }
    }

    /// The settings without the values that cannot be read, each of which becomes a problem: one
    /// start shows all that is wrong.
    fn extract(&mut self) -> Settings {
        loop {
            let defaults = Figment::from(Serialized::defaults(Settings::default()));
            let figment = self.values.iter().fold(defaults, |figment, (path, value)| {
                figment.merge(Serialized::default(path, value.clone()))
            });
            let errors = match figment.extract::<Settings>() {
                Ok(settings) => return settings,
                Err(errors) => errors,
            };
            for error in errors {
                let path = error.path.join(".");
                let origin = self.origins.get(&path).cloned().unwrap_or(Origin::Default);
                let invalid = Invalid::new(&path, problem_of(&error), remedy_for(&path));
                self.problems.push(Problem { invalid, origin });
                if self.values.remove(&path).is_none() {
                    // Nothing that was given is at fault, so leaving more out cannot help.
                    return Settings::default();
                }
            }
        }
    }
}

/// Kubernetes describes a service named `tollgate…` to every pod in variables that look like ours.
fn is_kubernetes_link(name: &str, text: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || text.starts_with("tcp://")
        || text.starts_with("udp://")
        || ["_TCP_PROTO", "_TCP_PORT", "_TCP_ADDR", "_UDP_PROTO", "_UDP_PORT", "_UDP_ADDR"]
            .iter()
            .any(|ending| name.ends_with(ending))
}

fn problem_of(error: &figment::Error) -> String {
    use figment::error::Kind as Is;
    match &error.kind {
        Is::InvalidType(actual, _) | Is::InvalidValue(actual, _) => {
            format!("cannot be {}", value_of(actual))
        }
        Is::UnknownVariant(name, known) => format!("is {name:?}, not one of {}", known.join(", ")),
        other => format!("cannot be read ({other})"),
    }
}

/// A value that was given, as it was written; figment would name its type in Rust's words.
fn value_of(actual: &Actual) -> String {
    match actual {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

/// The first and the last line of what a parser says; between them it draws the place.
fn on_one_line(text: &str) -> String {
    let is_drawing = |line: &str| {
        line.split_once('|')
            .is_some_and(|(head, _)| head.trim().bytes().all(|byte| byte.is_ascii_digit()))
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_drawing(line));
    lines.collect::<Vec<_>>().join(", ")
}

fn remedy_for(path: &str) -> String {
    match reference::find(path) {
        Some(setting) => {
            let example = match &setting.default {
                serde_json::Value::String(text) if !text.is_empty() => format!(" such as {text}"),
                serde_json::Value::Number(number) => format!(" such as {number}"),
                _ => String::new(),
            };
            format!("give {}{example}: {}", setting.kind.name(), setting.description)
        }
        None => "`tollgate config` lists all settings".to_owned(),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(file) => write!(f, "the file {}", file.display()),
            Self::Variable(name) => write!(f, "the environment variable {name}"),
            Self::Flag(name) => write!(f, "the flag {name}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Invalid { field, problem, remedy } = &self.invalid;
        write!(f, "{field} (from {}): {problem}; {remedy}", self.origin)
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrong settings, nothing was started")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> Result<Loaded, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.toml");
        std::fs::write(&file, text).unwrap();
        load(&Given { file: Some(file), ..Given::default() })
    }

    fn from_variables(variables: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
        let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        load(&Given { variables: variables.iter().map(own).collect(), ..Given::default() })
    }

    fn problem(result: Result<Loaded, SettingsError>) -> String {
        let error = result.map(|loaded| loaded.origins).unwrap_err();
        assert_eq!(error.problems.len(), 1, "{error}");
        error.problems[0].to_string()
    }

    #[test]
    fn a_later_source_wins_and_each_value_knows_where_it_came_from() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.toml");
        let text = "[grpc]\nconnections_max = 1\ndrain_s = 2\npreface_s = 3\n";
        std::fs::write(&file, text).unwrap();
        let loaded = load(&Given {
            file: Some(file.clone()),
            variables: vec![
                ("TOLLGATE_GRPC_DRAIN_S".into(), "20".into()),
                ("TOLLGATE_GRPC_PREFACE_S".into(), "30".into()),
                ("PATH".into(), "/bin".into()),
            ],
            flags: vec![("grpc.preface_s".into(), "300".into())],
        })
        .unwrap();
        let grpc = &loaded.settings.grpc;
        assert_eq!((grpc.connections_max, grpc.drain_s, grpc.preface_s), (1, 20, 300));
        assert_eq!(loaded.origins["grpc.connections_max"], Origin::File(file));
        assert_eq!(loaded.origins["grpc.preface_s"], Origin::Flag("--grpc-preface-s".into()));
    }

    #[test]
    fn a_value_of_the_wrong_kind_names_setting_source_problem_and_remedy() {
        let said = problem(from_variables(&[("TOLLGATE_GRPC_DRAIN_S", "soon")]));
        for part in
            ["grpc.drain_s", "TOLLGATE_GRPC_DRAIN_S", "\"soon\"", "a whole number", "seconds"]
        {
            assert!(said.contains(part), "{part} in {said}");
        }
        let said = problem(from_variables(&[("TOLLGATE_GRPC_LISTEN", "nonsense")]));
        assert!(said.contains("such as 127.0.0.1:7421"), "{said}");
        let said = problem(from_variables(&[("TOLLGATE_GRPC_DRAIN_S", "-1")]));
        assert!(said.contains("cannot be -1;"), "{said}");
        let said = problem(from_file("[http]\nlisten = \"nowhere\"\n"));
        assert!(said.contains("http.listen") && said.contains("tollgate.toml"), "{said}");
        let said = problem(from_file("[enforcement]\ndurability = \"maybe\"\n"));
        assert!(said.contains("\"maybe\"") && said.contains("sync"), "{said}");
        let said = problem(from_variables(&[("TOLLGATE_HTTP_CONNECTIONS_MAX", "-1")]));
        assert!(said.contains("http.connections_max"), "{said}");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let error = from_variables(&[
            ("TOLLGATE_GRPC_DRAIN_S", "soon"),
            ("TOLLGATE_HTTP_LISTEN", "nowhere"),
            ("TOLLGATE_HTTP_HEAD_WAIT_S", "0"),
            ("TOLLGATE_SPEED", "3"),
        ]);
        let problems = error.map(|loaded| loaded.origins).unwrap_err().problems;
        let fields: Vec<_> =
            problems.iter().map(|problem| problem.invalid.field.as_str()).collect();
        assert_eq!(fields, ["speed", "grpc.drain_s", "http.listen", "http.head_wait_s"]);
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_by_its_section() {
        let said = problem(from_variables(&[("TOLLGATE_JOURNAL_SEGMENT_BYTES", "1")]));
        assert!(said.contains("journal.segment_bytes"), "{said}");
        assert!(said.contains("TOLLGATE_JOURNAL_SEGMENT_BYTES"), "{said}");
    }

    #[test]
    fn what_is_no_setting_is_refused_with_the_likely_name() {
        let said = problem(from_file("[grpc]\nlisen = \"127.0.0.1:1\"\n"));
        assert!(
            said.contains("grpc.lisen") && said.contains("did you mean grpc.listen?"),
            "{said}"
        );
        let said = problem(from_variables(&[("TOLLGATE_LEDGER_URI", "x")]));
        assert!(said.contains("did you mean ledger.url?"), "{said}");
        assert!(problem(from_file("speed = 3\n")).contains("speed"));
        let said = problem(from_file("[[grpc]\n"));
        assert!(said.contains("line 1") && !said.contains('\n'), "{said}");
    }

    #[test]
    fn what_kubernetes_says_of_a_service_named_tollgate_is_no_setting() {
        let loaded = from_variables(&[
            ("TOLLGATE_SERVICE_HOST", "10.0.0.1"),
            ("TOLLGATE_SERVICE_PORT_GRPC", "7421"),
            ("TOLLGATE_PORT", "tcp://10.0.0.1:7421"),
            ("TOLLGATE_PORT_7421_TCP_ADDR", "10.0.0.1"),
            ("TOLLGATE_CONFIG", "x.toml"),
        ]);
        assert!(loaded.unwrap().origins.is_empty());
    }

    #[test]
    fn an_empty_variable_empties_an_optional_setting() {
        let loaded = from_variables(&[("TOLLGATE_GRPC_LISTEN", "")]).unwrap();
        assert_eq!(loaded.settings.grpc.listen, None);
    }
}
