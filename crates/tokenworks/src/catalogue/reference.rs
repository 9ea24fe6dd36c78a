//! What a model is called on the command line: a built-in name, `hf:owner/repo/file` or a path.

use std::path::{Path, PathBuf};

use formats::ShardName;

use super::builtin::{self, BUILTINS, Builtin};
use crate::config::{Settings, nearest};
use crate::error::{Error, Result};

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A built-in model.
    Builtin(&'static Builtin),
    /// A file on the hub.
    Hub {
        /// `owner/repo`.
        repo: String,
        /// Path of the file inside.
        file: String,
    },
    /// A file or folder here.
    Path(PathBuf),
}

/// A model as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// The name clients use.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
}

impl ModelRef {
    /// Reads a name from the command line; `[models.NAME]` of the configuration goes first.
    ///
    /// # Errors
    /// Not a known name, not a legal `hf:` name, not a path.
    pub fn parse(name: &str, settings: &Settings) -> Result<Self> {
        let own = settings.models.get(name);
        let configured = own.and_then(|m| m.source.as_deref());
        let source = parse_source(configured.unwrap_or(name), settings).map_err(|e| match (own, configured) {
            (None, _) => e,
            (Some(_), Some(_)) => Error { what: format!("models.{name}.source: {}", e.what), ..e },
            (Some(_), None) => Error::usage(format!("models.{name} has no source, and no model is known by this name"))
                .hint(format!("add source = \"hf:owner/repo/model-Q4_0.gguf\" (or a path) under [models.{name}]")),
        })?;
        let name = match &source {
            _ if settings.models.contains_key(name) => name.to_owned(),
            Source::Builtin(builtin) => builtin.name.to_owned(),
            Source::Hub { file, .. } => stem(file),
            Source::Path(path) => path_name(path),
        };
        Ok(Self { name, source })
    }
}

fn parse_source(text: &str, settings: &Settings) -> Result<Source> {
    if let Some(builtin) = builtin::find(text) {
        return Ok(Source::Builtin(builtin));
    }
    if let Some(rest) = text.strip_prefix("hf:") {
        return parse_hub(text, rest);
    }
    let path = PathBuf::from(text);
    if text.contains(['/', '\\']) || text.ends_with(".gguf") || path.exists() {
        return Ok(Source::Path(path));
    }
    let own = || settings.models.keys().map(String::as_str).filter(|name| builtin::find(name).is_none());
    let names = || BUILTINS.iter().map(|b| b.name).chain(own());
    let error = Error::usage(format!("unknown model \"{text}\""));
    Err(match nearest(text, names()) {
        Some(near) => error.hint(format!("did you mean {near}? `tokenworks models` lists the names")),
        None => error.hint(format!(
            "use one of {}, hf:owner/repo/file.gguf, or the path of a GGUF file or a model's folder",
            names().collect::<Vec<_>>().join(", ")
        )),
    })
}

/// `owner/repo/path/of/file`. Only plain characters and no `..`: the parts become folders here and a web address there.
fn parse_hub(whole: &str, rest: &str) -> Result<Source> {
    let refuse = |cause: String| {
        Error::usage(format!("\"{whole}\" is no model on the hub")).because(cause).hint("write hf:owner/repo/file.gguf")
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let [owner, repo, file @ ..] = parts.as_slice() else {
        return Err(refuse("expected owner, repository and file".to_owned()));
    };
    if file.is_empty() {
        return Err(refuse("it names no file".to_owned()));
    }
    for part in &parts {
        let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+=@,()".contains(c));
        if part.is_empty() || part.starts_with("..") || *part == "." || !plain {
            return Err(refuse(format!("the part \"{part}\" is not allowed")));
        }
    }
    Ok(Source::Hub { repo: format!("{owner}/{repo}"), file: file.join("/") })
}

/// What a file or folder is called.
fn path_name(path: &Path) -> String {
    // `.` and `..` have no name, but the folders that they are have.
    let whole = match path.file_name() {
        Some(_) => None,
        None => path.canonicalize().ok(),
    };
    let name = whole.as_deref().unwrap_or(path).file_name().unwrap_or(path.as_os_str());
    stem(&name.to_string_lossy())
}

/// The last part of a path without `.gguf` and the number of a shard.
fn stem(path: &str) -> String {
    let last = path.rsplit(['/', '\\']).next().unwrap_or(path);
    match ShardName::parse(last, "gguf") {
        Some(shard) => shard.prefix.to_owned(),
        None => last.strip_suffix(".gguf").unwrap_or(last).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::environment::Environment;

    fn settings() -> Settings {
        config::load(None, &Environment::default(), &[]).unwrap().settings
    }

    fn parse(name: &str) -> Result<ModelRef> {
        ModelRef::parse(name, &settings())
    }

    #[test]
    fn names_hubs_and_paths() {
        assert!(matches!(parse("smollm2-135m").unwrap().source, Source::Builtin(_)));
        let hub = parse("hf:owner/repo/sub/file-Q4_0.gguf").unwrap();
        assert_eq!(hub.name, "file-Q4_0");
        assert_eq!(hub.source, Source::Hub { repo: "owner/repo".into(), file: "sub/file-Q4_0.gguf".into() });
        let path = parse("some/where/m.gguf").unwrap();
        assert_eq!((path.name.as_str(), path.source), ("m", Source::Path("some/where/m.gguf".into())));
        for (path, name) in [
            ("some/m-00002-of-00003.gguf", "m"),
            ("hf:owner/repo/m-00001-of-00003.gguf", "m"),
            ("some/where", "where"),
            ("some/where/", "where"),
            ("some/where/.", "where"),
        ] {
            assert_eq!(parse(path).unwrap().name, name, "{path}");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(parse("./").unwrap().name, here.file_name().unwrap().to_string_lossy());
    }

    #[test]
    fn path_tricks_are_refused() {
        for name in [
            "hf:owner/repo",
            "hf:owner",
            "hf:",
            "hf:owner/repo/",
            "hf:../repo/file",
            "hf:owner/../file",
            "hf:owner/repo/../../x",
            "hf:owner/repo/a//b",
            "hf:owner/repo/./b",
            "hf:owner/repo/a?b",
            "hf:owner/repo/a%2e%2e",
            "hf:owner/repo/a\\b",
            "hf:owner/repo/a\u{0}b",
            "hf:/etc/passwd/x",
        ] {
            let error = parse(name).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{name}");
            assert!(error.what.contains("no model on the hub"), "{name}");
        }
    }

    #[test]
    fn unknown_names_suggest() {
        assert!(parse("smollm2-135").unwrap_err().hint.unwrap().contains("smollm2-135m"));
        assert!(parse("zzzzzzzzzzz").unwrap_err().hint.unwrap().contains("hf:owner/repo"));
        // A built-in model with settings of its own is named once.
        let mut settings = settings();
        settings.models.insert("smollm2-135m".into(), crate::config::ModelSettings::default());
        let hint = ModelRef::parse("zzzzzzzzzzz", &settings).unwrap_err().hint.unwrap();
        assert_eq!(hint.matches("smollm2-135m").count(), 1, "{hint}");
    }
}
