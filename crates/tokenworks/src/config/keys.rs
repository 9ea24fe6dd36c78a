//! Every key of the configuration: its name, what it may be, its default and its meaning.

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A file or folder; relative ones count from the file that names them, or from the working folder.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number in these bounds.
    Whole(i64, i64),
    /// A number of seconds in these bounds.
    Seconds(f64, f64),
    /// Bytes: a whole number, or text such as `512MiB`.
    Size,
    /// A list of texts (in the environment: separated by commas).
    List,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Its default as TOML; empty when it has none.
    pub default: &'static str,
    /// What it does, in one line.
    pub meaning: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning }
}

const MAX: i64 = 1 << 31;

/// All keys outside of `[models.NAME]` and `[[server.keys]]`.
pub const KEYS: &[Key] = &[
    key("model", Kind::Text, "\"smollm2-135m\"", "the model used when a command names none"),
    key("cache_dir", Kind::Path, "", "where fetched models live (default: your cache folder)"),
    key("data_dir", Kind::Path, "", "where data that cannot be fetched again lives (default: your data folder)"),
    key("threads", Kind::Whole(1, 1024), "", "compute threads (default: one for each processor)"),
    key("server.host", Kind::Text, "\"127.0.0.1\"", "address to listen on"),
    key("server.port", Kind::Whole(0, 65535), "8080", "port to listen on; 0 takes a free one"),
    key("server.cors_origins", Kind::List, "[]", "web origins that may call the API from a browser"),
    key("server.tls_certificate", Kind::Path, "", "PEM file with the certificate chain; turns TLS on"),
    key("server.tls_key", Kind::Path, "", "PEM file with the certificate's private key"),
    key("server.body_limit", Kind::Size, "\"8MiB\"", "largest request body"),
    key("server.max_connections", Kind::Whole(1, 1 << 20), "1024", "connections held at once"),
    key("server.max_requests", Kind::Whole(1, 1 << 20), "512", "requests worked on at once; more are answered 503"),
    key("server.key_secret_file", Kind::Path, "", "file with the secret keys are hashed under (default: in data_dir)"),
    key("server.drain_seconds", Kind::Seconds(0.0, 3600.0), "30", "how long running requests may go on after SIGTERM"),
    key(
        "server.reader_idle_seconds",
        Kind::Seconds(0.1, 3600.0),
        "30",
        "a client that reads nothing for so long is cut off",
    ),
    key(
        "engine.kv_memory",
        Kind::Size,
        "",
        "memory for the KV cache (default: by arithmetic from model and free memory)",
    ),
    key(
        "engine.context_len",
        Kind::Whole(32, MAX),
        "",
        "longest prompt and answer together (default: the model's own)",
    ),
    key("engine.max_running", Kind::Whole(1, 4096), "64", "sequences computed together"),
    key("engine.max_waiting", Kind::Whole(1, 1 << 20), "256", "requests that may wait; more are answered 429"),
    key("engine.prefill_chunk", Kind::Whole(1, 65536), "256", "prompt tokens computed in one step"),
    key(
        "log.level",
        Kind::Text,
        "\"info\"",
        "error, warn, info, debug or trace, also for single parts: info,server=debug",
    ),
    key("log.format", Kind::Choice(&["text", "json"]), "\"text\"", "how logs are written to standard error"),
];

/// The keys of `[models.NAME]`.
pub(super) const MODEL_KEYS: &[Key] = &[
    key("source", Kind::Text, "", "where the model comes from: a built-in name, hf:owner/repo/file or a path"),
    key("aliases", Kind::List, "[]", "other names the API answers to"),
    key("chat_template", Kind::Text, "", "a chat template in place of the model's own (Jinja)"),
    key("chat_template_file", Kind::Path, "", "a file with such a template"),
    key("context_len", Kind::Whole(32, MAX), "", "longest prompt and answer together"),
    key("kv_memory", Kind::Size, "", "memory for this model's KV cache"),
];

/// The keys of each `[[server.keys]]`.
pub(super) const API_KEY_KEYS: &[Key] = &[
    key("name", Kind::Text, "", "shown in logs and usage records"),
    key("hash", Kind::Text, "", "the hashed key, as `tokenworks keys new NAME` prints it"),
    key("max_priority", Kind::Whole(-1_000_000, 1_000_000), "0", "highest priority its requests may ask for"),
];

/// The environment variable that sets a key.
#[must_use]
pub fn variable(name: &str) -> String {
    format!("TOKENWORKS_{}", name.replace('.', "_").to_uppercase())
}

/// The candidate nearest to `word`, if any is near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.chars().count().div_ceil(3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|c| (distance(word, c), c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// How many letters must be inserted, dropped or replaced to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            let value = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            row[j] = left;
            left = value;
            diagonal = above;
        }
        row[b.len()] = left;
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expect) in [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("port", "prot", 2), ("port", "port", 0)] {
            assert_eq!(distance(a, b), expect, "{a} {b}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn nearest_key() {
        let names = || KEYS.iter().map(|k| k.name);
        assert_eq!(nearest("server.prot", names()), Some("server.port"));
        assert_eq!(nearest("engine.kv_mem", names()), Some("engine.kv_memory"));
        assert_eq!(nearest("zzz", names()), None);
    }

    #[test]
    fn every_default_is_of_its_kind_and_every_variable_is_unique() {
        let mut variables: Vec<String> = KEYS.iter().map(|k| variable(k.name)).collect();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), KEYS.len());
    }
}
