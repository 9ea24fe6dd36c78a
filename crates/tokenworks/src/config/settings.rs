//! The checked settings that the commands work with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use economics::Currency;
use metering::Objectives;
use model::{KvType, ModelConfig};

use super::layers::{Entries, Entry, Layers, Origin};
use super::names::{adapter_name_problem, model_name_problem};
use super::value::Checked;
use crate::environment::Folders;
use crate::error::{Error, Result};
use crate::webhook;

/// Everything the program can be told, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The model used when a command names none.
    pub model: String,
    /// Where fetched models live.
    pub cache_dir: PathBuf,
    /// Where data that cannot be fetched again lives.
    pub data_dir: PathBuf,
    /// Compute threads.
    pub threads: usize,
    /// HTTP.
    pub server: ServerSettings,
    /// The engine.
    pub engine: EngineSettings,
    /// The books.
    pub books: BooksSettings,
    /// The plant.
    pub plant: PlantSettings,
    /// What requests shall keep to.
    pub objectives: Objectives,
    /// What is kept of the last requests; `None`: nothing.
    pub traces: Option<traces::Settings>,
    /// Logs.
    pub log: LogSettings,
    /// Settings of single models, by the name used on the command line.
    pub models: BTreeMap<String, ModelSettings>,
}

/// HTTP.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Name or address to listen on.
    pub host: String,
    /// Port; 0 = any free one.
    pub port: u16,
    /// Web origins that may call the API from a browser.
    pub cors_origins: Vec<String>,
    /// Certificate and key files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Largest request body in bytes.
    pub body_limit: usize,
    /// Connections held at once.
    pub max_connections: usize,
    /// Requests worked on at once.
    pub max_requests: u32,
    /// How long running requests may go on after SIGTERM.
    pub drain: Duration,
    /// A client that reads nothing for so long is cut off.
    pub reader_idle: Duration,
    /// Whether the console is served.
    pub console: bool,
    /// Who may call.
    pub keys: Vec<ApiKey>,
    /// File with the secret that keys are hashed under.
    pub key_secret_file: PathBuf,
}

/// Who may call.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Shown in logs and usage records.
    pub name: String,
    /// The hashed key.
    pub hash: String,
    /// The highest priority its requests may ask for.
    pub max_priority: i32,
}

/// The engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Memory for the weights and KV caches of all models in bytes; `None` = what is free at the start.
    pub memory: Option<u64>,
    /// A model without requests for so long is unloaded; `None` = never.
    pub unload_idle: Option<Duration>,
    /// Memory for the KV cache in bytes; `None` = by arithmetic.
    pub kv_memory: Option<u64>,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// Longest prompt and answer together; `None` = the model's own.
    pub context_len: Option<usize>,
    /// Sequences computed together.
    pub max_running: usize,
    /// Requests that may wait.
    pub max_waiting: usize,
    /// Most prompt tokens computed in one step; `None` = by the model, as the method of this name tells.
    pub prefill_chunk: Option<usize>,
    /// How long running answers should wait for their next token at most.
    pub itl_goal: Duration,
    /// Guess tokens ahead where that pays.
    pub speculation: bool,
}

impl EngineSettings {
    /// Most prompt tokens of a model computed in one step. Experts see only some of a step's tokens, and each reads its weights
    /// anew: a mixture wants more of them together.
    #[must_use]
    pub fn prefill_chunk(&self, model: &ModelConfig) -> usize {
        self.prefill_chunk.unwrap_or(if model.experts.is_some() { 512 } else { 256 })
    }
}

/// The books.
#[derive(Clone, Debug)]
pub struct BooksSettings {
    /// File with the connection string of the database that keeps the ledger; `None` = a file of this server keeps it.
    pub postgres_file: Option<PathBuf>,
    /// Number of this server among those that share the ledger.
    pub writer: u32,
    /// Currency of all prices and amounts.
    pub currency: Currency,
    /// Who issues the invoices.
    pub seller: String,
    /// Where budget alerts are sent; checked.
    pub webhook_url: Option<String>,
    /// File with the secret that webhooks are signed with.
    pub webhook_secret_file: PathBuf,
}

/// The plant.
#[derive(Clone, Debug)]
pub struct PlantSettings {
    /// The file of its sheet; `None` = an example.
    pub sheet_file: Option<PathBuf>,
    /// Where energy counters are.
    pub powercap_root: PathBuf,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A filter, e.g. `info` or `info,server=debug`.
    pub level: String,
    /// As JSON lines.
    pub json: bool,
}

/// One model.
#[derive(Clone, Debug, Default)]
pub struct ModelSettings {
    /// Where it comes from; `None` = its name says it.
    pub source: Option<String>,
    /// Other names the API answers to.
    pub aliases: Vec<String>,
    /// A chat template in place of the model's own.
    pub chat_template: Option<TemplateSource>,
    /// Longest prompt and answer together.
    pub context_len: Option<usize>,
    /// Memory for its KV cache in bytes.
    pub kv_memory: Option<u64>,
    /// How its keys and values are kept; `None` = like all.
    pub kv_type: Option<KvType>,
    /// When `serve` loads it; `None` = only if the command line names it.
    pub load: Option<LoadTime>,
    /// Never unloaded but by command.
    pub pinned: bool,
    /// The model that guesses ahead for it.
    pub draft_model: Option<String>,
    /// Where its adapters are, by name.
    pub adapters: BTreeMap<String, PathBuf>,
}

/// When `serve` loads a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadTime {
    /// Before it takes requests.
    Start,
    /// When the model is asked for.
    Demand,
}

impl ModelSettings {
    /// How its keys and values are kept, by its own word or the engine's.
    #[must_use]
    pub fn kv_type(&self, engine: &EngineSettings) -> KvType {
        self.kv_type.unwrap_or(engine.kv_type)
    }
}

/// Where a configured template stands.
#[derive(Clone, Debug)]
pub enum TemplateSource {
    /// In the configuration.
    Inline(String),
    /// In a file.
    File(PathBuf),
}

impl Settings {
    /// Checks the merged layers.
    ///
    /// # Errors
    /// Values that contradict each other or cannot work here; names key and fix.
    pub fn from_layers(layers: &Layers, folders: &Folders) -> Result<Self> {
        let table = Table { entries: &layers.entries, prefix: "" };
        let mut models = BTreeMap::new();
        for (name, entries) in &layers.models {
            if let Some(problem) = model_name_problem(name) {
                return Err(Error::usage(format!("[models.\"{}\"]: {problem}", name.escape_debug()))
                    .hint("give it another name, for example [models.small]"));
            }
            let prefix = format!("models.{name}.");
            let mut own = model_settings(&Table { entries, prefix: &prefix })?;
            // A flag is meant for whatever is started with it.
            let by_flag = |key| layers.entries.get(key).is_some_and(|entry| matches!(entry.origin, Origin::Flag(_)));
            own.kv_type = own.kv_type.filter(|_| !by_flag("engine.kv_type"));
            own.kv_memory = own.kv_memory.filter(|_| !by_flag("engine.kv_memory"));
            models.insert(name.clone(), own);
        }
        let data_dir = table.path("data_dir")?.unwrap_or_else(|| folders.data.clone());
        Ok(Self {
            model: table.text("model")?.unwrap_or_default(),
            cache_dir: table.path("cache_dir")?.unwrap_or_else(|| folders.cache.clone()),
            threads: table
                .size("threads")?
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get)),
            server: server_settings(&table, layers, &data_dir)?,
            books: books_settings(&table, &data_dir)?,
            plant: PlantSettings {
                sheet_file: table.path("plant.sheet_file")?,
                powercap_root: table.path("plant.powercap_root")?.unwrap_or_default(),
            },
            objectives: Objectives {
                ttft_ns: table.milliseconds("slo.ttft_ms")?,
                tpot_ns: table.milliseconds("slo.tpot_ms")?,
                e2e_ns: table.milliseconds("slo.e2e_ms")?,
            },
            data_dir,
            engine: EngineSettings {
                memory: table.bytes("engine.memory")?,
                unload_idle: table
                    .get("engine.unload_idle_seconds")
                    .map(|_| table.seconds("engine.unload_idle_seconds"))
                    .transpose()?,
                kv_memory: table.bytes("engine.kv_memory")?,
                kv_type: table.kv_type("engine.kv_type")?.unwrap_or_default(),
                context_len: table.size("engine.context_len")?,
                max_running: table.required_number("engine.max_running")?,
                max_waiting: table.required_number("engine.max_waiting")?,
                prefill_chunk: table.size("engine.prefill_chunk")?,
                itl_goal: Duration::from_millis(table.required_number("engine.itl_goal_ms")?),
                speculation: table.text("engine.speculation")?.as_deref() == Some("auto"),
            },
            traces: if table.truth("traces.enabled")? {
                let (keep, keep_days) =
                    (table.required_number("traces.keep")?, table.required_number("traces.keep_days")?);
                Some(traces::Settings { keep, keep_days })
            } else {
                None
            },
            log: LogSettings {
                level: table.text("log.level")?.unwrap_or_default(),
                json: table.text("log.format")?.as_deref() == Some("json"),
            },
            models,
        })
    }
}

fn server_settings(table: &Table<'_>, layers: &Layers, data_dir: &Path) -> Result<ServerSettings> {
    let host = table.text("server.host")?.unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = table.required_number("server.port")?;
    let tls = match (table.path("server.tls_certificate")?, table.path("server.tls_key")?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (certificate, _) => {
            let (set, missing, example) = if certificate.is_some() {
                ("server.tls_certificate", "server.tls_key", "tls_key = \"server.key\"")
            } else {
                ("server.tls_key", "server.tls_certificate", "tls_certificate = \"server.pem\"")
            };
            return Err(Error::usage(format!("{} is set without {missing}", table.place(set)))
                .hint(format!("add {example} under [server], or remove {set}")));
        }
    };
    let keys = layers.api_keys.iter().map(|(entries, place)| api_key(entries, place)).collect::<Result<Vec<_>>>()?;
    for (i, key) in keys.iter().enumerate() {
        if keys.iter().take(i).any(|k| k.name == key.name) {
            return Err(Error::usage(format!("server.keys has the name \"{}\" twice", key.name))
                .hint("give each its own name, for example name = \"team-b\": usage is recorded under it"));
        }
    }
    let cors_origins = table.list("server.cors_origins")?;
    if cors_origins.iter().any(|origin| origin == "*") {
        return Err(Error::usage(format!("{} holds \"*\", which is no origin", table.place("server.cors_origins")))
            .because("any web page could then call this server from the browsers of its visitors")
            .hint("name the pages that may: cors_origins = [\"https://app.example.com\"] under [server]"));
    }
    Ok(ServerSettings {
        host,
        port,
        cors_origins,
        tls,
        body_limit: table.bytes("server.body_limit")?.and_then(|b| usize::try_from(b).ok()).unwrap_or(8 << 20),
        max_connections: table.required_number("server.max_connections")?,
        max_requests: table.required_number("server.max_requests")?,
        drain: table.seconds("server.drain_seconds")?,
        reader_idle: table.seconds("server.reader_idle_seconds")?,
        console: table.truth("server.console")?,
        keys,
        key_secret_file: table.path("server.key_secret_file")?.unwrap_or_else(|| data_dir.join("key-secret")),
    })
}

fn books_settings(table: &Table<'_>, data_dir: &Path) -> Result<BooksSettings> {
    let code = table.text("books.currency")?.unwrap_or_default();
    let currency = Currency::of(&code).map_err(|e| {
        Error::usage(format!("{}: \"{code}\" is no currency", table.place("books.currency")))
            .because(e)
            .hint("write its three letters, for example currency = \"EUR\" under [books]")
    })?;
    let webhook_url = table.text("books.webhook_url")?;
    if let Some(url) = &webhook_url {
        webhook::check_url(url).map_err(|e| {
            Error::usage(format!("{} cannot be used", table.place("books.webhook_url")))
                .because(e)
                .hint("for example webhook_url = \"https://hooks.example.com/tokenworks\" under [books]")
        })?;
    }
    Ok(BooksSettings {
        postgres_file: table.path("books.postgres_file")?,
        writer: table.required_number("books.writer")?,
        currency,
        seller: table.text("books.seller")?.unwrap_or_default(),
        webhook_url,
        webhook_secret_file: table
            .path("books.webhook_secret_file")?
            .unwrap_or_else(|| data_dir.join("webhook-secret")),
    })
}

fn api_key(entries: &Entries, place: &Origin) -> Result<ApiKey> {
    let table = Table { entries, prefix: "server.keys." };
    let needed = |name: &str, value: Option<String>| {
        value.ok_or_else(|| {
            Error::usage(format!("{place}: a key in server.keys has no {name}"))
                .hint("`tokenworks keys new NAME` prints a whole entry to paste")
        })
    };
    let hash = needed("hash", table.text("hash")?)?;
    if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::usage(format!("{}: not the hash of a key", table.place("hash")))
            .because("expected 64 hexadecimal digits")
            .hint("never put the key itself here; `tokenworks keys new NAME` prints the hash"));
    }
    Ok(ApiKey {
        name: needed("name", table.text("name")?)?,
        hash: hash.to_ascii_lowercase(),
        max_priority: table.whole("max_priority")?.and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
    })
}

fn model_settings(table: &Table<'_>) -> Result<ModelSettings> {
    let chat_template = match (table.text("chat_template")?, table.path("chat_template_file")?) {
        (Some(_), Some(_)) => {
            return Err(Error::usage(format!("{} and chat_template are both set", table.place("chat_template_file")))
                .hint("keep one of them, for example chat_template_file = \"chat.jinja\""));
        }
        (Some(text), None) => Some(TemplateSource::Inline(text)),
        (None, Some(path)) => Some(TemplateSource::File(path)),
        (None, None) => None,
    };
    let aliases = table.list("aliases")?;
    if let Some(problem) = aliases.iter().find_map(|alias| model_name_problem(alias)) {
        return Err(
            Error::usage(format!("{}: {problem}", table.place("aliases"))).hint("for example: aliases = [\"small\"]")
        );
    }
    Ok(ModelSettings {
        source: table.reference("source")?,
        aliases,
        chat_template,
        context_len: table.size("context_len")?,
        kv_memory: table.bytes("kv_memory")?,
        kv_type: table.kv_type("kv_type")?,
        load: table.text("load")?.map(|word| if word == "demand" { LoadTime::Demand } else { LoadTime::Start }),
        pinned: table.truth("pinned")?,
        draft_model: table.reference("draft_model")?,
        adapters: table.paths("adapters")?,
    })
}

/// Typed access to checked entries. A value of another type would be a slip in the table of keys.
struct Table<'a> {
    entries: &'a Entries,
    prefix: &'a str,
}

impl Table<'_> {
    fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    fn place(&self, name: &str) -> String {
        let origin = self.get(name).map_or(Origin::Default, |e| e.origin.clone());
        format!("{origin}: {}{name}", self.prefix)
    }

    fn wrong(&self, name: &str) -> Error {
        Error::failure(format!("{} is kept with the wrong type", self.place(name)))
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        match self.get(name).map(|e| &e.value) {
            None => Ok(None),
            Some(Checked::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(name)),
        }
    }

    fn kv_type(&self, name: &str) -> Result<Option<KvType>> {
        self.text(name)?.map(|text| KvType::from_name(&text).ok_or_else(|| self.wrong(name))).transpose()
    }

    fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        match self.get(name).map(|e| &e.value) {
            None => Ok(None),
            Some(Checked::Path(path)) => Ok(Some(path.clone())),
            Some(_) => Err(self.wrong(name)),
        }
    }

    fn paths(&self, name: &str) -> Result<BTreeMap<String, PathBuf>> {
        match self.get(name).map(|e| &e.value) {
            None => Ok(BTreeMap::new()),
            Some(Checked::Paths(paths)) => match paths.keys().find_map(|own| adapter_name_problem(own)) {
                None => Ok(paths.clone()),
                Some(problem) => Err(Error::usage(format!("{}: {problem}", self.place(name)))
                    .hint("for example: adapters.legal = \"adapters/legal\"")),
            },
            Some(_) => Err(self.wrong(name)),
        }
    }

    fn whole(&self, name: &str) -> Result<Option<i64>> {
        match self.get(name).map(|e| &e.value) {
            None => Ok(None),
            Some(Checked::Whole(n)) => Ok(Some(*n)),
            Some(_) => Err(self.wrong(name)),
        }
    }

    fn size(&self, name: &str) -> Result<Option<usize>> {
        self.whole(name)?.map(|n| usize::try_from(n).map_err(|e| self.wrong(name).because(e))).transpose()
    }

    /// A number of milliseconds, in nanoseconds.
    fn milliseconds(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.whole(name)?.and_then(|ms| u64::try_from(ms).ok()).map(|ms| ms.saturating_mul(1_000_000)))
    }

    fn required_number<T: TryFrom<i64>>(&self, name: &str) -> Result<T> {
        self.whole(name)?.and_then(|n| T::try_from(n).ok()).ok_or_else(|| self.wrong(name))
    }

    fn bytes(&self, name: &str) -> Result<Option<u64>> {
        match self.get(name).map(|e| &e.value) {
            None => Ok(None),
            Some(Checked::Size(n)) => Ok(Some(*n)),
            Some(_) => Err(self.wrong(name)),
        }
    }

    fn seconds(&self, name: &str) -> Result<Duration> {
        match self.get(name).map(|e| &e.value) {
            Some(Checked::Seconds(s)) => Duration::try_from_secs_f64(*s).map_err(|e| self.wrong(name).because(e)),
            _ => Err(self.wrong(name)),
        }
    }

    fn truth(&self, name: &str) -> Result<bool> {
        match self.get(name).map(|e| &e.value) {
            None => Ok(false),
            Some(Checked::Bool(truth)) => Ok(*truth),
            Some(_) => Err(self.wrong(name)),
        }
    }

    fn list(&self, name: &str) -> Result<Vec<String>> {
        match self.get(name).map(|e| &e.value) {
            None => Ok(Vec::new()),
            Some(Checked::List(items)) => Ok(items.clone()),
            Some(_) => Err(self.wrong(name)),
        }
    }

    /// What a model is called; a relative path counts from the file that names it.
    fn reference(&self, name: &str) -> Result<Option<String>> {
        let Some(source) = self.text(name)? else { return Ok(None) };
        let is_path = source.starts_with('.') || (source.ends_with(".gguf") && !source.starts_with("hf:"));
        match self.get(name).map(|e| &e.origin) {
            Some(Origin::File(file, _)) if is_path => {
                let path = file.parent().map_or_else(|| PathBuf::from(&source), |folder| folder.join(&source));
                Ok(Some(path.to_string_lossy().into_owned()))
            }
            _ => Ok(Some(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_adapters_play_no_tricks() {
        for text in [
            "[models.\"../m\"]\npinned = true",
            "[models.\"\"]\npinned = true",
            "[models.m]\naliases = [\"s\", \"a b\"]",
        ] {
            let refused = settings(text).unwrap_err();
            assert!(refused.what.contains("is no name for a model"), "{refused}");
        }
        let text = "[models.m.adapters]\nlegal = \"l\"\n[models.n]\nadapters.x = \"/x.gguf\"\n";
        let found = settings(text).unwrap();
        assert_eq!(found.models["m"].adapters["legal"], PathBuf::from("/etc/l"));
        assert_eq!(found.models["n"].adapters["x"], PathBuf::from("/x.gguf"));
        let refused = settings("[models.m]\nadapters.\"../x\" = \"l\"").unwrap_err();
        assert!(refused.what.contains("no name for an adapter"), "{refused}");
    }

    fn settings(text: &str) -> Result<Settings> {
        with_flags(text, &[])
    }

    fn with_flags(text: &str, flags: &[(&'static str, &'static str, &str)]) -> Result<Settings> {
        let mut layers = Layers::default();
        layers.set_defaults()?;
        layers.set_file(Path::new("/etc/t.toml"), text)?;
        for (flag, key, value) in flags {
            layers.set_flag(flag, key, value)?;
        }
        assert_eq!(layers.problems, []);
        let folders = Folders { cache: "/c".into(), data: "/d".into(), config: "/f".into() };
        Settings::from_layers(&layers, &folders)
    }

    #[test]
    fn defaults_are_whole() {
        let s = settings("").unwrap();
        assert_eq!((s.server.host.as_str(), s.server.port), ("127.0.0.1", 8080));
        assert_eq!(s.model, "smollm2-135m");
        assert_eq!((s.cache_dir, s.data_dir), ("/c".into(), "/d".into()));
        assert_eq!(s.server.body_limit, 8 << 20);
        assert_eq!(s.server.drain, Duration::from_secs(30));
        assert_eq!((s.engine.itl_goal, s.engine.speculation), (Duration::from_millis(60), true));
        assert_eq!(s.engine.itl_goal, engine::EngineConfig::default().itl_goal, "one default, told in two places");
        assert!(!settings("[engine]\nspeculation = \"off\"").unwrap().engine.speculation);
        assert_eq!(s.engine.kv_type, KvType::F16);
        let own = settings("[engine]\nkv_type = \"q8_0\"\n[models.a]\n[models.b]\nkv_type = \"f16\"").unwrap();
        assert_eq!(["a", "b"].map(|name| own.models[name].kv_type(&own.engine)), [KvType::Q8_0, KvType::F16]);
        let flags = [("--kv-type", "engine.kv_type", "q8_0"), ("--kv-memory", "engine.kv_memory", "2MiB")];
        let own = with_flags("[models.b]\nkv_type = \"f16\"\nkv_memory = \"1MiB\"", &flags).unwrap();
        let model = &own.models["b"];
        assert_eq!(
            (model.kv_type(&own.engine), model.kv_memory.or(own.engine.kv_memory)),
            (KvType::Q8_0, Some(2 << 20))
        );
        assert!(s.threads >= 1 && s.server.keys.is_empty() && s.server.tls.is_none());
    }

    #[test]
    fn contradictions_are_refused() {
        let hash = "0".repeat(64);
        for (text, what) in [
            ("[server]\ntls_key = \"k\"".to_owned(), "without server.tls_certificate"),
            ("[server]\ntls_certificate = \"k\"".to_owned(), "without server.tls_key"),
            ("[server]\ncors_origins = [\"*\"]".to_owned(), "server.cors_origins holds \"*\""),
            ("[[server.keys]]\nname = \"a\"".to_owned(), "has no hash"),
            ("[[server.keys]]\nhash = \"sk-plain\"\nname = \"a\"".to_owned(), "not the hash of a key"),
            (format!("[[server.keys]]\nhash = \"{hash}\""), "has no name"),
            (
                format!("[[server.keys]]\nname=\"a\"\nhash = \"{hash}\"\n[[server.keys]]\nname=\"a\"\nhash=\"{hash}\""),
                "the name \"a\" twice",
            ),
            ("[books]\nwebhook_url = \"http://example.com/\"".to_owned(), "books.webhook_url cannot be used"),
            ("[models.m]\nchat_template = \"x\"\nchat_template_file = \"y\"".to_owned(), "both set"),
        ] {
            let error = settings(&text).unwrap_err();
            assert!(error.what.contains(what), "{text}: {error:?}");
            assert!(error.hint.is_some(), "{error:?}");
        }
    }

    #[test]
    fn sources_count_from_the_file() {
        let s = settings(
            "[models.m]\nsource = \"a/m.gguf\"\ndraft_model = \"b.gguf\"\n[models.h]\nsource = \"hf:o/r/m.gguf\"",
        )
        .unwrap();
        assert_eq!(s.models["m"].source.as_deref(), Some("/etc/a/m.gguf"));
        assert_eq!(s.models["m"].draft_model.as_deref(), Some("/etc/b.gguf"));
        assert_eq!(s.models["h"].source.as_deref(), Some("hf:o/r/m.gguf"));
    }

    #[test]
    fn models_that_come_and_go() {
        let s = settings("").unwrap();
        assert_eq!((s.engine.memory, s.engine.unload_idle), (None, None));
        let text = "[engine]\nmemory = \"2GiB\"\nunload_idle_seconds = 1.5\n[models.a]\n[models.b]\nload = \"demand\"\n\
                    pinned = true\n[models.c]\nload = \"start\"";
        let s = settings(text).unwrap();
        assert_eq!((s.engine.memory, s.engine.unload_idle), (Some(2 << 30), Some(Duration::from_millis(1500))));
        let own = ["a", "b", "c"].map(|name| (s.models[name].load, s.models[name].pinned));
        assert_eq!(own, [(None, false), (Some(LoadTime::Demand), true), (Some(LoadTime::Start), false)]);
    }

    #[test]
    fn an_address_in_brackets() {
        assert_eq!(settings("[server]\nhost = \"[::1]\"").unwrap().server.host, "::1");
    }
}
