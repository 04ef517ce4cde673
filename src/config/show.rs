//! Shows every setting: as a TOML file that documents itself, or as JSON for programs.

use serde_json::{Value, json};

use super::{
    load::{Loaded, Origin},
    reference::{self, Setting},
};

/// Where comments wrap.
const COLUMNS: usize = 96;

/// A TOML file with every setting, its documentation and its names. What is a default is commented
/// out, so that the file can be used as it is.
pub fn toml(loaded: &Loaded) -> String {
    let values = effective(loaded);
    let mut text = String::from(
        "# Every setting of Tollgate with its value now; lines that only repeat the default are\n\
         # commented out. Flags win over the environment, which wins over a file (--config FILE).\n",
    );
    for section in reference::sections() {
        text.push_str(&format!("\n# {}\n[{}]\n", section.description, section.name));
        for setting in &section.settings {
            text.push('\n');
            wrap(&setting.description, &mut text);
            text.push_str(&format!("# --{}  {}\n", setting.flag(), setting.variable()));
            text.push_str(&assignment(setting, &values, loaded.origins.get(&setting.path)));
        }
    }
    text
}

/// The same as JSON: one object per setting.
pub fn json(loaded: &Loaded) -> Value {
    let values = effective(loaded);
    let settings = reference::settings().map(|setting| {
        let origin = loaded.origins.get(&setting.path).unwrap_or(&Origin::Default);
        json!({
            "setting": setting.path,
            "value": value_at(&values, setting),
            "from": origin.to_string(),
            "default": setting.default,
            "kind": setting.kind.name(),
            "optional": setting.is_optional,
            "flag": format!("--{}", setting.flag()),
            "variable": setting.variable(),
            "description": setting.description,
        })
    });
    Value::Array(settings.collect())
}

fn effective(loaded: &Loaded) -> Value {
    // Plain data with string keys always becomes JSON.
    serde_json::to_value(&loaded.settings).unwrap_or_default()
}

fn value_at(values: &Value, setting: &Setting) -> Value {
    let value = setting.path.split('.').fold(values, |inner, name| &inner[name]);
    match value.as_str() {
        Some(text) => Value::from(without_password(text)),
        None => value.clone(),
    }
}

fn assignment(setting: &Setting, values: &Value, origin: Option<&Origin>) -> String {
    let name = setting.path.rsplit('.').next().unwrap_or_default();
    // A JSON scalar is a TOML scalar, but for null, which TOML leaves out.
    let value = match value_at(values, setting) {
        Value::Null => "\"\"".to_owned(),
        value => value.to_string(),
    };
    match origin {
        Some(origin) => {
            format!("# from {origin}; default: {}\n{name} = {value}\n", setting.default)
        }
        None => format!("# {name} = {value}\n"),
    }
}

fn wrap(text: &str, into: &mut String) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS {
            into.push_str(&line);
            into.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    into.push_str(&line);
    into.push('\n');
}

/// Hides the passwords of a URL: before the host, however badly it is written, and in parameters.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let hidden = match rest.rsplit_once('@') {
        // A password that is not encoded may hold whatever else ends a part of a URL.
        Some((credentials, host)) => match credentials.split_once(':') {
            Some((user, _password)) => format!("{scheme}://{user}:***@{host}"),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    };
    let Some((place, parameters)) = hidden.split_once('?') else { return hidden };
    let parameters = parameters.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, _)) if name.to_lowercase().contains("pass") => format!("{name}=***"),
        _ => parameter.to_owned(),
    });
    format!("{place}?{}", parameters.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::load::{Given, load},
        *,
    };

    fn loaded(flags: &[(&str, &str)]) -> Loaded {
        let flags = flags.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
        load(&Given { flags, ..Given::default() }).unwrap()
    }

    #[test]
    fn a_password_in_a_url_is_never_shown() {
        let url = "postgres://me:s3cr:t@db:5432/tollgate?sslmode=require";
        let loaded = loaded(&[("ledger.url", url)]);
        for text in [toml(&loaded), json(&loaded).to_string()] {
            assert!(!text.contains("s3cr"), "{text}");
            assert!(text.contains("postgres://me:***@db:5432/tollgate?sslmode=require"), "{text}");
        }
        for (given, shown) in [
            ("redis+unix:///run/redis.sock?db=1", "redis+unix:///run/redis.sock?db=1"),
            ("redis+unix:///redis.sock?pass=s3cr&db=1", "redis+unix:///redis.sock?pass=***&db=1"),
            ("postgres://db/x?user=me&password=s3cr", "postgres://db/x?user=me&password=***"),
            ("postgres://me:s/3?c#r@db/x", "postgres://me:***@db/x"),
            ("redis://:s3cr@db", "redis://:***@db"),
            ("127.0.0.1:7421", "127.0.0.1:7421"),
        ] {
            assert_eq!(without_password(given), shown);
        }
    }

    #[test]
    fn what_is_shown_is_a_file_that_gives_the_same_settings() {
        let before = loaded(&[("grpc.drain_s", "7"), ("log.filter", "debug")]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.toml");
        std::fs::write(&file, toml(&before)).unwrap();
        let after = load(&Given { file: Some(file), ..Given::default() }).unwrap();
        assert_eq!(effective(&after), effective(&before));
    }

    #[test]
    fn every_line_that_is_commented_out_would_be_accepted() {
        let documented = toml(&loaded(&[]));
        let assignments = documented.lines().map(|line| {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let is_assignment = reference::settings().any(|setting| {
                let name = setting.path.rsplit('.').next().unwrap();
                bare.starts_with(&format!("{name} = "))
            });
            if is_assignment { bare } else { line }
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.toml");
        std::fs::write(&file, assignments.collect::<Vec<_>>().join("\n")).unwrap();
        let again = load(&Given { file: Some(file), ..Given::default() }).unwrap();
        assert_eq!(effective(&again), effective(&loaded(&[])));
        assert!(again.origins.len() > 30);
    }
}
