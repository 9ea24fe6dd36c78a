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
    /// `true` or `false`.
    Bool,
    /// A number of seconds in these bounds.
    Seconds(f64, f64),
    /// Bytes: a whole number, or text such as `512MiB`.
    Size,
    /// A list of texts (in the environment: separated by commas).
    List,
    /// A table of names and paths.
    Paths,
    /// What is logged: a level, and others for single parts.
    Filter,
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
    /// A value as TOML, shown when a wrong one was given.
    pub example: &'static str,
    /// What it does, in one line.
    pub meaning: &'static str,
}

/// A key with a default, which is its example too.
const fn set(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default, example: default, meaning }
}

/// A key without a default.
const fn unset(name: &'static str, kind: Kind, example: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default: "", example, meaning }
}

/// An empty list; its example is not.
const fn list(name: &'static str, example: &'static str, meaning: &'static str) -> Key {
    Key { name, kind: Kind::List, default: "[]", example, meaning }
}

const MAX: i64 = 1 << 31;
const TEMPLATE: &str = "\"{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}assistant:\"";
const HASH: &str = "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"";

/// All keys outside of `[models.NAME]` and `[[server.keys]]`.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    set("model", Kind::Text, "\"smollm2-135m\"", "the model used when a command names none"),
    unset("cache_dir", Kind::Path, "\"/srv/tokenworks/cache\"", "where fetched models live (default: your cache folder)"),
    unset("data_dir", Kind::Path, "\"/srv/tokenworks/data\"", "where data that cannot be fetched again lives (default: your data folder)"),
    unset("threads", Kind::Whole(1, 1024), "4", "compute threads (default: one for each processor)"),
    set("server.host", Kind::Text, "\"127.0.0.1\"", "address to listen on"),
    set("server.port", Kind::Whole(0, 65535), "8080", "port to listen on; 0 takes a free one"),
    list("server.cors_origins", "[\"https://app.example.com\"]", "web origins that may call the API from a browser"),
    unset("server.tls_certificate", Kind::Path, "\"server.pem\"", "PEM file with the certificate chain; turns TLS on"),
    unset("server.tls_key", Kind::Path, "\"server.key\"", "PEM file with the certificate's private key"),
    set("server.body_limit", Kind::Size, "\"8MiB\"", "largest request body"),
    set("server.max_connections", Kind::Whole(1, 1 << 20), "1024", "connections held at once; one address gets half. While more than half are taken, those without a request for 2 s are closed"),
    set("server.max_requests", Kind::Whole(1, 1 << 20), "512", "requests worked on at once; more are answered 503"),
    unset("server.key_secret_file", Kind::Path, "\"/srv/tokenworks/key-secret\"", "file with the secret keys are hashed under (default: in data_dir)"),
    set("server.drain_seconds", Kind::Seconds(0.0, 3600.0), "30", "how long running requests may go on after SIGTERM; closing what is left takes up to 2 s more"),
    set("server.reader_idle_seconds", Kind::Seconds(0.1, 3600.0), "30", "a client that reads nothing for so long is cut off"),
    set("server.console", Kind::Bool, "true", "whether the console is served at /"),
    unset("engine.memory", Kind::Size, "\"24GiB\"", "memory for the weights and KV caches of all models together (default: what is free at the start)"),
    unset("engine.unload_idle_seconds", Kind::Seconds(0.1, 31_536_000.0), "900", "a model without requests for so long is unloaded; the next request loads it again (default: never)"),
    unset("engine.kv_memory", Kind::Size, "\"512MiB\"", "memory for the KV cache (default: by arithmetic from model and free memory)"),
    set("engine.kv_type", Kind::Choice(&["f16", "q8_0"]), "\"f16\"", "how keys and values are kept; q8_0 takes about half the memory, and answers differ a little"),
    unset("engine.context_len", Kind::Whole(32, MAX), "2048", "longest prompt and answer together (default: the model's own)"),
    set("engine.max_running", Kind::Whole(1, 4096), "64", "sequences computed together"),
    set("engine.max_waiting", Kind::Whole(1, 1 << 20), "256", "requests that may wait; more are answered 429"),
    unset("engine.prefill_chunk", Kind::Whole(1, 65536), "256", "most prompt tokens computed in one step (default: 256; of a mixture 512, since each expert sees only some of them)"),
    set("engine.itl_goal_ms", Kind::Whole(1, 60_000), "60", "longest wait of a running answer for its next token; prompts of others fill a step up to it"),
    set("engine.speculation", Kind::Choice(&["auto", "off"]), "\"auto\"", "whether answers that repeat text are guessed ahead where that is faster; they are the same either way"),
    unset("books.postgres_file", Kind::Path, "\"/srv/tokenworks/postgres-url\"", "file with the connection string of a PostgreSQL database that keeps the ledger (default: books.db in data_dir keeps it)"),
    set("books.writer", Kind::Whole(0, 65535), "0", "number of this server among those that share a PostgreSQL ledger; each has its own"),
    set("books.currency", Kind::Text, "\"USD\"", "currency of all prices and amounts; fixed once the books are begun"),
    set("books.seller", Kind::Text, "\"Tokenworks plant\"", "who issues the invoices"),
    unset("books.webhook_url", Kind::Text, "\"https://hooks.example.com/tokenworks\"", "where budget alerts are sent; http only to loopback (default: they are logged and listed only)"),
    unset("books.webhook_secret_file", Kind::Path, "\"/srv/tokenworks/webhook-secret\"", "file with the secret webhooks are signed with (default: in data_dir; made when missing)"),
    unset("plant.sheet_file", Kind::Path, "\"/srv/tokenworks/plant.toml\"", "file with the plant sheet: equipment, power, tariff, staff (default: an example sheet, labelled as one)"),
    set("plant.powercap_root", Kind::Path, "\"/sys/class/powercap\"", "folder of the processors' energy counters; where they cannot be read, energy is estimated from the sheet's watts"),
    unset("slo.ttft_ms", Kind::Whole(1, 86_400_000), "1000", "objective: longest time to the first token; requests that meet all objectives are the goodput of `tokenworks report --statement`"),
    unset("slo.tpot_ms", Kind::Whole(1, 86_400_000), "100", "objective: longest mean time per output token after the first"),
    unset("slo.e2e_ms", Kind::Whole(1, 86_400_000), "30000", "objective: longest time to the end of an answer"),
    set("traces.enabled", Kind::Bool, "true", "whether the last requests are kept as they went, for `/admin/v1/requests` and the console, in traces.sqlite in data_dir"),
    set("traces.keep", Kind::Whole(1, 100_000), "10000", "requests that are kept, the newest ones"),
    set("traces.keep_days", Kind::Whole(1, 3650), "7", "days for which they are kept at most; prompts and answers that a project stores go with them"),
    set("log.level", Kind::Filter, "\"info\"", "off, error, warn, info, debug or trace, also for single parts: info,server=debug"),
    set("log.format", Kind::Choice(&["text", "json"]), "\"text\"", "how logs are written to standard error"),
];

/// The keys of `[models.NAME]`.
#[rustfmt::skip]
pub const MODEL_KEYS: &[Key] = &[
    unset("source", Kind::Text, "\"hf:owner/repo/model-Q4_0.gguf\"", "where the model comes from: a built-in name, hf:owner/repo/file or a path"),
    list("aliases", "[\"small\"]", "other names the API answers to"),
    unset("chat_template", Kind::Text, TEMPLATE, "a chat template in place of the model's own (Jinja)"),
    unset("chat_template_file", Kind::Path, "\"chat.jinja\"", "a file with such a template"),
    unset("context_len", Kind::Whole(32, MAX), "2048", "longest prompt and answer together"),
    unset("kv_memory", Kind::Size, "\"512MiB\"", "memory for this model's KV cache"),
    unset("kv_type", Kind::Choice(&["f16", "q8_0"]), "\"q8_0\"", "how this model's keys and values are kept"),
    unset("load", Kind::Choice(&["start", "demand"]), "\"demand\"", "\"start\": `serve` loads it at its start; \"demand\": `serve` offers it and loads it when it is asked for (default: only if the command line names it)"),
    set("pinned", Kind::Bool, "false", "never unloaded but by command"),
    unset("adapters", Kind::Paths, "{ legal = \"adapters/legal\" }", "LoRA adapters that are loaded with the model, by name: folders of PEFT or GGUF files; requests choose one as NAME:ADAPTER"),
    unset("draft_model", Kind::Text, "\"hf:owner/repo/small-Q4_0.gguf\"", "a small model of the same vocabulary that guesses ahead while engine.speculation is auto: a name, hf:owner/repo/file or a path"),
];

/// The keys of each `[[server.keys]]`.
#[rustfmt::skip]
pub const API_KEY_KEYS: &[Key] = &[
    unset("name", Kind::Text, "\"team-a\"", "shown in logs and usage records"),
    unset("hash", Kind::Text, HASH, "the hashed key, as `tokenworks keys new NAME` prints it"),
    set("max_priority", Kind::Whole(-1_000_000, 1_000_000), "0", "highest priority its requests may ask for; 0 for callers without a key"),
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
    fn every_variable_is_unique() {
        let mut variables: Vec<String> = KEYS.iter().map(|k| variable(k.name)).collect();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), KEYS.len());
    }

    #[test]
    fn the_configuration_page_holds_exactly_these_keys() {
        let page = include_str!("../../../../docs/configuration.md");
        let mut expected = String::new();
        for keys in [KEYS, MODEL_KEYS, API_KEY_KEYS] {
            expected.push_str("| key | default | meaning |\n|---|---|---|\n");
            for Key { name, default, meaning, .. } in keys {
                let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
                expected.push_str(&format!("| `{name}` | {default} | {meaning} |\n"));
            }
        }
        let tables: String = page.lines().filter(|l| l.starts_with('|')).map(|l| format!("{l}\n")).collect();
        assert_eq!(tables, expected, "docs/configuration.md must hold these tables");
    }
}
