//! The raw layers: defaults < file < environment < flags. Each value remembers where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::keys::{API_KEY_KEYS, KEYS, Key, MODEL_KEYS, nearest, variable};
use super::value::{Checked, check, from_text};
use crate::error::{Error, Result};

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A checked value and where it was set.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The value.
    pub value: Checked,
    /// Where it was set.
    pub origin: Origin,
}

/// Entries of one table, by key.
pub(super) type Entries = BTreeMap<&'static str, Entry>;

/// All layers, merged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layers {
    /// The plain keys.
    pub entries: Entries,
    /// `[models.NAME]`.
    pub models: BTreeMap<String, Entries>,
    /// `[[server.keys]]`, with the place of each.
    pub api_keys: Vec<(Entries, Origin)>,
    /// What was refused on the way, in the order it was met; the rest is read nevertheless.
    pub problems: Vec<Error>,
}

impl Layers {
    /// Puts the defaults in.
    ///
    /// # Errors
    /// Never for the keys as they are; a test holds that.
    pub fn set_defaults(&mut self) -> Result<()> {
        for key in KEYS.iter().filter(|k| !k.default.is_empty()) {
            let value = default_value(key)?;
            self.entries.insert(key.name, Entry { value, origin: Origin::Default });
        }
        Ok(())
    }

    /// Puts a configuration file in.
    ///
    /// # Errors
    /// Not TOML. Unknown keys, and values that their keys cannot have, join the problems; each names the file, the line
    /// and the fix.
    pub fn set_file(&mut self, path: &Path, text: &str) -> Result<()> {
        let table = DeTable::parse(text).map_err(|e| {
            let line = e.span().map_or(1, |s| line_of(text, s.start));
            let seen: String = text.lines().nth(line - 1).unwrap_or_default().trim().chars().take(80).collect();
            Error::usage(format!("{} line {line} is not valid TOML", path.display()))
                .because(format!("{}: {seen}", e.message().trim()))
                .hint("write each key once, as key = value with text in quotes: model = \"smollm2-135m\"")
        })?;
        let file = File { path, text, base: path.parent().unwrap_or(Path::new("")) };
        for (name, value) in table.get_ref() {
            let place = file.at(name.span().start);
            let set = match (name.get_ref().as_ref(), value.get_ref()) {
                ("models", DeValue::Table(models)) => {
                    self.set_models(&file, models);
                    Ok(())
                }
                ("models", _) => Err(no_table(&place, "models", "[models.NAME]", MODEL_KEYS)),
                (section, DeValue::Table(items)) if is_section(section) => {
                    self.set_section(&file, section, items);
                    Ok(())
                }
                (section, _) if is_section(section) => Err(no_table(&place, section, &format!("[{section}]"), &[])),
                (name, value) => set_entry(&mut self.entries, KEYS, "", (name, value), (&file, place)),
            };
            self.problems.extend(set.err());
        }
        Ok(())
    }

    fn set_section(&mut self, file: &File<'_>, section: &str, items: &DeTable<'_>) {
        for (name, value) in items {
            let place = file.at(name.span().start);
            let set = match (name.get_ref().as_ref(), value.get_ref()) {
                ("keys", DeValue::Array(keys)) if section == "server" => {
                    for item in keys {
                        let place = file.at(item.span().start);
                        let DeValue::Table(table) = item.get_ref() else {
                            self.problems.push(no_keys(&place));
                            continue;
                        };
                        let entries = read_table((file, API_KEY_KEYS), "server.keys.", table, &mut self.problems);
                        self.api_keys.push((entries, place));
                    }
                    Ok(())
                }
                ("keys", _) if section == "server" => Err(no_keys(&place)),
                (name, value) => {
                    set_entry(&mut self.entries, KEYS, &format!("{section}."), (name, value), (file, place))
                }
            };
            self.problems.extend(set.err());
        }
    }

    fn set_models(&mut self, file: &File<'_>, models: &DeTable<'_>) {
        for (name, value) in models {
            let place = file.at(name.span().start);
            let DeValue::Table(table) = value.get_ref() else {
                let name = format!("models.{}", name.get_ref());
                self.problems.push(no_table(&place, &name, &format!("[{name}]"), MODEL_KEYS));
                continue;
            };
            let shown = format!("models.{}.", name.get_ref());
            let entries = read_table((file, MODEL_KEYS), &shown, table, &mut self.problems);
            self.models.insert(name.get_ref().to_string(), entries);
        }
    }

    /// Puts the environment's `TOKENWORKS_` variables in. Unknown ones, and values that their keys cannot have, join the
    /// problems.
    pub fn set_environment(&mut self, variables: &BTreeMap<String, String>) {
        for (name, text) in variables.iter().filter(|(name, _)| !is_foreign(name)) {
            let Some(key) = KEYS.iter().find(|k| variable(k.name) == *name) else {
                let known: Vec<String> = KEYS.iter().map(|k| variable(k.name)).collect();
                let error = Error::usage(format!("unknown environment variable {name}"));
                self.problems.push(match nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => error.hint(format!("did you mean {near}? otherwise unset {name}")),
                    None => error.hint(format!("unset {name}; `tokenworks config show` lists the settings")),
                });
                continue;
            };
            let set = self.set_text(key, text, Origin::Variable(name.clone()));
            self.problems.extend(set.err());
        }
    }

    /// Puts a flag in.
    ///
    /// # Errors
    /// A value that its key cannot have.
    pub fn set_flag(&mut self, flag: &'static str, name: &str, text: &str) -> Result<()> {
        let key = KEYS
            .iter()
            .find(|k| k.name == name)
            .ok_or_else(|| Error::failure(format!("{flag} sets no known key ({name})")))?;
        self.set_text(key, text, Origin::Flag(flag))
    }

    fn set_text(&mut self, key: &'static Key, text: &str, origin: Origin) -> Result<()> {
        let value = check(key.kind, &from_text(key.kind, text), Path::new("")).map_err(|e| {
            // Outside of TOML texts stand without quotes, and lists without brackets.
            let example = key.example.trim_matches(['[', ']']).replace('"', "");
            let hint = match &origin {
                Origin::Flag(flag) => format!("for example: {flag} {example}"),
                _ => format!("it sets {}; for example: {}={example}; or unset it", key.name, variable(key.name)),
            };
            Error::usage(format!("{origin}: {e}")).hint(hint)
        })?;
        self.entries.insert(key.name, Entry { value, origin });
        Ok(())
    }
}

/// The default of a key that has one.
fn default_value(key: &Key) -> Result<Checked> {
    let broken = |e: String| Error::failure(format!("the default of {} is broken", key.name)).because(e);
    let table: toml::Table =
        format!("x = {}", key.default).parse().map_err(|e: toml::de::Error| broken(e.to_string()))?;
    let value = table.get("x").ok_or_else(|| broken("no value".to_owned()))?;
    check(key.kind, value, Path::new("")).map_err(broken)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
    base: &'a Path,
}

impl File<'_> {
    fn at(&self, byte: usize) -> Origin {
        Origin::File(self.path.to_owned(), line_of(self.text, byte))
    }
}

fn line_of(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|b| *b == b'\n').count() + 1
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|k| k.name.split_once('.').is_some_and(|(section, _)| section == name))
}

fn read_table(
    (file, keys): (&File<'_>, &'static [Key]),
    prefix: &str,
    table: &DeTable<'_>,
    problems: &mut Vec<Error>,
) -> Entries {
    let mut entries = Entries::new();
    for (name, value) in table {
        let place = file.at(name.span().start);
        // Inside these tables the keys are listed by their last part only.
        let set = set_named(&mut entries, keys, (name.get_ref(), prefix), value.get_ref(), (file, place));
        problems.extend(set.err());
    }
    entries
}

fn set_entry(
    entries: &mut Entries,
    keys: &'static [Key],
    prefix: &str,
    (name, value): (&str, &DeValue<'_>),
    at: (&File<'_>, Origin),
) -> Result<()> {
    set_named(entries, keys, (&format!("{prefix}{name}"), ""), value, at)
}

/// Sets `keys[name]`; `shown` goes before the name in messages.
fn set_named(
    entries: &mut Entries,
    keys: &'static [Key],
    (name, shown): (&str, &str),
    value: &DeValue<'_>,
    (file, place): (&File<'_>, Origin),
) -> Result<()> {
    let Some(key) = keys.iter().find(|k| k.name == name) else {
        return Err(unknown_key(keys, (name, shown), &place));
    };
    let value = check(key.kind, &plain(value), file.base)
        .map_err(|e| Error::usage(format!("{place}: {shown}{name}: {e}")).hint(example(key, shown)))?;
    entries.insert(key.name, Entry { value, origin: place });
    Ok(())
}

/// A line that its key would take, and the table it stands in.
fn example(key: &Key, shown: &str) -> String {
    let (section, name) = match (key.name.rsplit_once('.'), shown.trim_end_matches('.')) {
        (Some((section, name)), _) => (format!(" under [{section}]"), name),
        (None, "") => (String::new(), key.name),
        (None, "server.keys") => (" under [[server.keys]]".to_owned(), key.name),
        (None, table) => (format!(" under [{table}]"), key.name),
    };
    format!("for example: {name} = {}{section}", key.example)
}

/// `name` is no table; `keys` are those of it, or else those of its section.
fn no_table(place: &Origin, name: &str, head: &str, keys: &'static [Key]) -> Error {
    let inside = |key: &'static Key| key.name.strip_prefix(name)?.strip_prefix('.').map(|rest| (rest, key.example));
    let first = keys.first().map(|k| (k.name, k.example)).or_else(|| KEYS.iter().find_map(inside));
    let (key, value) = first.unwrap_or_default();
    Error::usage(format!("{place}: {name} must be a table"))
        .hint(format!("write a line {head} and its keys under it, for example: {key} = {value}"))
}

fn no_keys(place: &Origin) -> Error {
    Error::usage(format!("{place}: server.keys must be tables"))
        .hint("write [[server.keys]] with name and hash under it; `tokenworks keys new NAME` prints such an entry")
}

fn unknown_key(keys: &'static [Key], (name, shown): (&str, &str), place: &Origin) -> Error {
    let error = Error::usage(format!("{place}: unknown key {shown}{name}"));
    let last = name.rsplit('.').next().unwrap_or(name);
    let near = nearest(name, keys.iter().map(|k| k.name).chain(["models", "server", "engine", "log"]))
        // The right name in the wrong table is a frequent slip.
        .or_else(|| keys.iter().map(|k| k.name).find(|k| k.rsplit('.').next() == Some(last)));
    match near {
        Some(near) => error.hint(format!("did you mean {shown}{near}?")),
        None => {
            let names: Vec<&str> = keys.iter().map(|k| k.name).collect();
            error.hint(format!("remove it; the keys here are: {}", names.join(", ")))
        }
    }
}

/// The value without its places; numbers that TOML allows and we cannot hold stay text, which no key accepts.
fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(s) => Value::String(s.to_string()),
        DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix())
            .map_or_else(|_| Value::String(i.as_str().to_owned()), Value::Integer),
        DeValue::Float(f) => f.as_str().parse().map_or_else(|_| Value::String(f.as_str().to_owned()), Value::Float),
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Datetime(d) => Value::Datetime(*d),
        DeValue::Array(items) => Value::Array(items.iter().map(|i| plain(i.get_ref())).collect()),
        DeValue::Table(items) => {
            Value::Table(items.iter().map(|(name, item)| (name.get_ref().to_string(), plain(item.get_ref()))).collect())
        }
    }
}

/// Variables that start with our prefix and are not ours: those of the tests, and those Kubernetes sets in every pod
/// beside a service named `tokenworks`.
fn is_foreign(name: &str) -> bool {
    name.starts_with("TOKENWORKS_TEST_")
        || name.starts_with("TOKENWORKS_SERVICE_")
        || name == "TOKENWORKS_PORT"
        || name.starts_with("TOKENWORKS_PORT_")
        || name == CONFIG_VARIABLE
}

/// Names the configuration file, like `--config`.
pub const CONFIG_VARIABLE: &str = "TOKENWORKS_CONFIG";

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Layers> {
        let mut layers = Layers::default();
        layers.set_defaults()?;
        layers.set_file(Path::new("/etc/tokenworks.toml"), text)?;
        layers.problems.first().cloned().map_or(Ok(layers), Err)
    }

    #[test]
    fn later_layers_win_and_say_where_they_come_from() {
        let mut layers = file("[server]\nport = 1\nhost = \"::1\"\n").unwrap();
        assert_eq!(layers.entries["server.port"].origin, Origin::File("/etc/tokenworks.toml".into(), 2));
        let environment = BTreeMap::from([("TOKENWORKS_SERVER_PORT".to_owned(), "2".to_owned())]);
        layers.set_environment(&environment);
        assert_eq!(layers.entries["server.port"].value, Checked::Whole(2));
        layers.set_flag("--port", "server.port", "3").unwrap();
        assert_eq!(layers.entries["server.port"], Entry { value: Checked::Whole(3), origin: Origin::Flag("--port") });
        assert_eq!(layers.entries["server.host"].value, Checked::Text("::1".into()));
        assert_eq!(layers.entries["log.format"].origin, Origin::Default);
    }

    #[test]
    fn errors_name_file_line_key_and_fix() {
        for (text, what, hint) in [
            ("\n[server]\nprot = 1", "line 3: unknown key server.prot", "did you mean server.port?"),
            ("port = 1", "line 1: unknown key port", "did you mean server.port?"),
            ("[sever]\nport = 1", "line 1: unknown key sever", "did you mean server?"),
            (
                "[server]\nport = \"x\"",
                "line 2: server.port: expected a whole number from 0 to 65535, found \"x\"",
                "for example: port = 8080 under [server]",
            ),
            ("[models.a]\nsorce = \"x\"", "line 2: unknown key models.a.sorce", "did you mean models.a.source?"),
            ("models.a = 1", "line 1: models.a must be a table", "[models.a]"),
            ("[[server.keys]]\nnmae = \"x\"", "line 2: unknown key server.keys.nmae", "did you mean server.keys.name?"),
            ("[server]\nkeys = [1]", "line 2: server.keys must be tables", "[[server.keys]]"),
            ("a = ", "line 1 is not valid TOML", "key = value"),
            (
                "[engine]\nkv_memory = \"lots\"",
                "line 2: engine.kv_memory: expected a size such as \"512MiB\"",
                "kv_memory = \"512MiB\" under [engine]",
            ),
            ("[log]\nlevel = \"loud\"", "log.level: expected one of off, error", "level = \"info\" under [log]"),
            ("threads = [4]", "line 1: threads: expected a whole number from 1 to 1024, found a list", "threads = 4"),
            ("[models.a]\ncontext_len = 1", "models.a.context_len: expected", "context_len = 2048 under [models.a]"),
            ("[[server.keys]]\nname = 1", "server.keys.name: expected text, found 1", "under [[server.keys]]"),
            ("server = 1", "line 1: server must be a table", "[server] and its keys under it, for example: host ="),
            ("models = 1", "line 1: models must be a table", "[models.NAME]"),
            ("[[models.a]]\nsource = \"x\"", "line 1: models.a must be a table", "source = "),
            ("[server]\nkeys = \"x\"", "line 2: server.keys must be tables", "keys new"),
            ("[server]\nport = 99999999999999999999", "line 2: server.port: expected a whole number", "8080"),
            ("threads = 1\nthreads = 2", "line 2 is not valid TOML", "each key once"),
        ] {
            let error = file(text).unwrap_err();
            assert_eq!(error.kind, crate::error::Kind::Usage);
            assert!(error.what.starts_with("/etc/tokenworks.toml"), "{error:?}");
            assert!(error.what.contains(what), "{text}: {error:?}");
            assert!(error.hint.clone().unwrap_or_default().contains(hint), "{text}: {error:?}");
        }
    }

    #[test]
    fn unknown_variables_are_refused_and_foreign_ones_ignored() {
        let set = |name: &str, text: &str| {
            let mut layers = Layers::default();
            layers.set_environment(&BTreeMap::from([(name.to_owned(), text.to_owned())]));
            layers.problems.first().cloned().map_or(Ok(layers), Err)
        };
        let error = set("TOKENWORKS_SERVER_PROT", "1").unwrap_err();
        assert!(error.hint.unwrap().contains("TOKENWORKS_SERVER_PORT"));
        let error = set("TOKENWORKS_SERVER_PORT", "abc").unwrap_err();
        assert!(error.what.contains("variable TOKENWORKS_SERVER_PORT: expected a whole number"), "{error:?}");
        assert!(error.hint.unwrap().contains("sets server.port; for example: TOKENWORKS_SERVER_PORT=8080"));
        for name in ["TOKENWORKS_PORT", "TOKENWORKS_PORT_80_TCP", "TOKENWORKS_SERVICE_HOST", "TOKENWORKS_TEST_MODELS"] {
            assert_eq!(set(name, "tcp://10.0.0.1:80"), Ok(Layers::default()), "{name}");
        }
        let layers = set("TOKENWORKS_SERVER_CORS_ORIGINS", "http://a, http://b").unwrap();
        assert_eq!(
            layers.entries["server.cors_origins"].value,
            Checked::List(vec!["http://a".into(), "http://b".into()])
        );
    }

    #[test]
    fn models_and_keys() {
        let layers = file(
            "[models.mine]\nsource = \"a.gguf\"\nchat_template_file = \"t.jinja\"\n\
             [[server.keys]]\nname = \"team\"\nhash = \"x\"\n",
        )
        .unwrap();
        assert_eq!(layers.models["mine"]["source"].value, Checked::Text("a.gguf".into()));
        assert_eq!(layers.models["mine"]["chat_template_file"].value, Checked::Path("/etc/t.jinja".into()));
        assert_eq!(layers.api_keys.len(), 1);
    }
}
