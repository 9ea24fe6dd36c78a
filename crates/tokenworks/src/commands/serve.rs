//! `serve`: models over the OpenAI API, until SIGTERM or Ctrl-C.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use economics::Books;
use history::History;
use metering::Meter;
use serde_json::json;
use server::{ConfigError, KeyConfig, Limits, Plant, Server, ServerConfig, ServerError, TlsFiles};
use traces::Traces;

use super::Context;
use super::answer::runtime;
use super::keys::existing_secret;
use crate::assembly::{self, ENGINE_END, Facts};
use crate::books;
use crate::catalogue::ModelRef;
use crate::cli;
use crate::config::{LoadTime, Settings};
use crate::desk;
use crate::error::{Error, Result, chain};
use crate::fleet::{Fleet, Offer, Works};
use crate::memory;
use crate::output::{bytes, grouped};
use crate::webhook;

/// Runs `serve`.
///
/// # Errors
/// A setting that cannot work, a port in use, or a model that cannot be fetched, loaded or started.
pub fn serve(context: &Context, args: &cli::Serve) -> Result<()> {
    let offers = offers(context, &args.models)?;
    let key_secret = books::secret(context)?;
    let config = server_config(context, key_secret.clone());
    check_names(offers.iter().map(|offer| offer.model.name.as_str()), &context.settings)?;
    can_listen(&config)?;
    probe(&config)?;
    let meter = Arc::new(Meter::new().held_to(context.settings.objectives));
    let names: Vec<String> = offers.iter().map(|offer| offer.model.name.clone()).collect();
    let (charging, duty) = books::start(context, &key_secret, &names)?;
    let _webhook = webhook::start(context, charging.books())?;
    let traces = traces(context, charging.books());
    let works = Works {
        context: context.clone(),
        threads: assembly::thread_pool(context)?,
        meter: Arc::clone(&meter),
        charging: Arc::clone(&charging),
        duty,
        traces: traces.clone(),
        accept_license: args.accept_license,
    };
    let fleet = Fleet::new(works, offers);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(context.settings.threads.clamp(1, 4))
        .enable_all()
        .build()
        .map_err(|e| Error::failure("cannot start the asynchronous runtime").because(e))?;
    let result = runtime.block_on(async {
        fleet.start().await?;
        let books = Some(Arc::clone(charging.books()));
        let answers = Some(context.settings.data_dir.join("answers.db"));
        let history = Some(Arc::new(History::open(&context.settings.data_dir.join("history.sqlite"))));
        let kept = Some(Arc::clone(&charging));
        let plant = Plant { pool: Arc::new(fleet.clone()), meter, books, charging: kept, answers, traces, history };
        let server = Server::bind(&config, plant).await.map_err(|e| server_error(&e))?;
        let (facts, on_demand) = (fleet.facts(), fleet.on_demand());
        let claim = server.claim_link().map_err(|e| Error::failure("cannot make the link of the admin").because(e))?;
        // Whoever reads the banner may stop the server at once.
        let shutdown = shutdown();
        let models = (facts.as_slice(), on_demand.as_slice(), context.settings.engine.memory);
        context.output.text(banner((&server.url(), claim.as_deref()), server.local_addr(), models, &config))?;
        let watched = fleet.clone();
        let watch = tokio::spawn(async move { watched.keep_watch().await });
        server.run(shutdown).await;
        watch.abort();
        Ok(())
    });
    fleet.end();
    // A model may be on its way into memory: it is not waited for.
    runtime.shutdown_timeout(ENGINE_END);
    result
}

/// What keeps the last requests, if that is wanted; texts for as long as their project says now.
fn traces(context: &Context, books: &Arc<Books>) -> Option<Arc<Traces>> {
    let settings = context.settings.traces?;
    let books = Arc::clone(books);
    let content_days = move |project: &str| Some(books.directory().project(project)?.store_content?.days);
    let path = context.settings.data_dir.join("traces.sqlite");
    Some(Arc::new(Traces::start(&path, settings, Arc::new(content_days))))
}

/// The models asked for, each once, then those that the configuration says to load or to offer; where there are neither,
/// the configured one.
fn offers(context: &Context, names: &[String]) -> Result<Vec<Offer>> {
    let mut offers: Vec<Offer> =
        named(context, names)?.into_iter().map(|model| Offer { model, load: LoadTime::Start }).collect();
    let mut problems = Vec::new();
    for (name, own) in &context.settings.models {
        let Some(load) = own.load else { continue };
        match context.model(Some(name)) {
            Ok(model) if offers.iter().all(|offer| offer.model.name != model.name) => {
                offers.push(Offer { model, load })
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
    context.output.all(problems)?;
    if offers.is_empty() {
        offers.push(Offer { model: context.model(None)?, load: LoadTime::Start });
    }
    Ok(offers)
}

/// The models of these names, each once.
fn named(context: &Context, names: &[String]) -> Result<Vec<ModelRef>> {
    let mut models: Vec<ModelRef> = Vec::new();
    for name in names {
        let model = context.model(Some(name))?;
        if models.contains(&model) {
            return Err(Error::usage(format!("{} is given twice", model.name)).hint("name each model once"));
        }
        if models.iter().any(|m| m.name == model.name) {
            return Err(Error::usage(format!("two models would both be called {}", model.name)).hint(
                "name one of them in tokenworks.toml: [models.other] and under it source = \"other/model.gguf\"",
            ));
        }
        models.push(model);
    }
    Ok(models)
}

/// No two of these models may answer to the same name.
///
/// # Errors
/// The name, and what to change.
pub fn check_names<'a>(models: impl Iterator<Item = &'a str>, settings: &'a Settings) -> Result<()> {
    let mut names = BTreeSet::new();
    for model in models {
        let aliases = settings.models.get(model).map(|own| own.aliases.as_slice()).unwrap_or_default();
        for name in [model].into_iter().chain(aliases.iter().map(String::as_str)) {
            if !names.insert(name) {
                return Err(Error::usage(format!("two models answer to the name {name}, or one twice"))
                    .hint(format!("remove \"{name}\" from the aliases under [models.{model}]")));
            }
        }
    }
    Ok(())
}

/// Checks the server's settings without serving, and gives what is allowed but hardly meant.
///
/// # Errors
/// The first setting that cannot work.
pub fn check_settings(context: &Context) -> Result<Vec<String>> {
    let settings = &context.settings.server;
    let mut warnings = Vec::new();
    // What stands in for a missing secret: only its length is looked at.
    let mut key_secret = vec![0; 32];
    if !settings.keys.is_empty() {
        match existing_secret(&settings.key_secret_file)? {
            Some(secret) => key_secret = secret,
            None => warnings.push(format!(
                "no key will be right: server.keys are hashed with the secret in {}, which is missing; copy it from where \
                 the keys were made, or make them anew with `tokenworks keys new NAME`",
                settings.key_secret_file.display()
            )),
        }
    }
    let all = &context.settings;
    for (name, _) in all.models.iter().filter(|(_, own)| own.draft_model.is_some() && !all.engine.speculation) {
        warnings.push(format!("models.{name}.draft_model is not used: set speculation = \"auto\" under [engine]"));
    }
    webhook::check(context)?;
    can_listen(&server_config(context, key_secret))?;
    Ok(warnings)
}

/// Whether the server can start with these settings: keys, origins, certificates, the address. For a moment it takes a
/// free port in place of the real one, which may be in use by the server that is to be replaced.
fn can_listen(config: &ServerConfig) -> Result<()> {
    let config = ServerConfig { port: 0, desk: None, ..config.clone() };
    let bound = runtime()?.block_on(Server::bind(&config, Plant::new(Vec::new(), Arc::new(Meter::new()))));
    bound.map(drop).map_err(|e| server_error(&e))
}

fn server_config(context: &Context, key_secret: Vec<u8>) -> ServerConfig {
    let settings = &context.settings.server;
    let keys = settings
        .keys
        .iter()
        .map(|k| KeyConfig { name: k.name.clone(), hash: k.hash.clone(), max_priority: k.max_priority })
        .collect();
    let limits = Limits::default();
    ServerConfig {
        host: settings.host.clone(),
        port: settings.port,
        keys,
        key_secret,
        tls: settings
            .tls
            .as_ref()
            .map(|(certificate, key)| TlsFiles { certificate: certificate.clone(), private_key: key.clone() }),
        cors_origins: settings.cors_origins.clone(),
        desk: Some(context.settings.data_dir.join(desk::SOCKET)),
        seller: context.settings.books.seller.clone(),
        console: settings.console,
        limits: Limits {
            max_connections: settings.max_connections,
            max_requests: settings.max_requests,
            max_body_bytes: settings.body_limit,
            max_bodies_bytes: limits.max_bodies_bytes.max(settings.body_limit.saturating_mul(2)),
            reader_idle: settings.reader_idle,
            drain_timeout: settings.drain,
            ..limits
        },
    }
}

/// Finds a port in use before a model is fetched and loaded; the server takes the port itself afterwards.
fn probe(config: &ServerConfig) -> Result<()> {
    match std::net::TcpListener::bind((config.host.as_str(), config.port)) {
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let address = SocketAddr::new(config.host.parse().unwrap_or(IpAddr::from([127, 0, 0, 1])), config.port);
            Err(server_error(&ServerError::PortInUse { address }))
        }
        // Whatever else is wrong with the address, the server says in its own words.
        _ => Ok(()),
    }
}

fn server_error(error: &ServerError) -> Error {
    match error {
        ServerError::PortInUse { address } => {
            Error::failure(format!("port {} is in use by another program", address.port()))
                .hint("stop that program, or choose another port: tokenworks serve --port 8081 (0 takes a free one)")
        }
        ServerError::Config(cause) => {
            let hint = match cause {
                ConfigError::KeysNeeded { .. } => {
                    "`tokenworks keys new NAME` prints an entry for tokenworks.toml; or set host = \"127.0.0.1\" under [server]"
                }
                ConfigError::Invalid { .. } => "`tokenworks config show` tells what is set where",
            };
            Error::usage("the server cannot start like this").because(chain(cause)).hint(hint)
        }
        ServerError::Tls(_) => Error::usage("TLS cannot start").because(chain(error)).hint(
            "name two PEM files that belong together: tls_certificate = \"server.pem\" and tls_key = \"server.key\"",
        ),
        ServerError::Desk { .. } => Error::failure("cannot listen for the operator's commands")
            .because(chain(error))
            .hint("set data_dir to a folder that this user can write"),
        ServerError::Answers { .. } => Error::failure("the answers kept by Idempotency-Key cannot be used")
            .because(chain(error))
            .hint("the file may be moved away: then what is sent again under an earlier key runs again"),
        ServerError::Host { .. } | ServerError::Bind { .. } => Error::failure("cannot listen")
            .because(chain(error))
            .hint("check server.host and server.port: 127.0.0.1 for this machine only, 0.0.0.0 for all addresses"),
    }
}

/// Listens for SIGTERM and Ctrl-C from now on; what it gives completes on the first. A second Ctrl-C ends the program at
/// once.
fn shutdown() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let (terminate, interrupt) = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    };
    async move {
        #[cfg(unix)]
        match (terminate, interrupt) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "SIGTERM cannot be heard; only Ctrl-C drains");
                let _ = tokio::signal::ctrl_c().await;
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        tracing::info!("shutting down: no new requests; press Ctrl-C again to end at once");
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    }
}

/// What is shown when the server listens: addresses, the link that makes the first admin key, models, memory, and a line
/// to paste.
fn banner(
    (url, claim): (&str, Option<&str>),
    address: SocketAddr,
    (lines, on_demand, limit): (&[Facts], &[String], Option<u64>),
    config: &ServerConfig,
) -> String {
    let reachable = reachable(url, address);
    let mut text = format!("tokenworks serves on {reachable}\n");
    if reachable != url {
        text.push_str(&format!("  address    {url} (all addresses of this machine)\n"));
    }
    if config.console && server::has_console() {
        text.push_str(&format!("  console    {reachable}/\n"));
    }
    text.push_str(&format!("  API        {reachable}/v1\n"));
    text.push_str(&format!("  more       {reachable}/openapi.json  /metrics  /health  /ready\n"));
    if let Some(link) = claim {
        text.push_str(&format!(
            "  admin      no key yet; this makes one, once, while the server runs:\n             {link}\n"
        ));
    }
    for facts in lines {
        text.push_str(&format!(
            "\nmodel {} ({}, context {} tokens)\n  file       {}\n",
            facts.name,
            facts.architecture,
            grouped(facts.context_len as u64),
            facts.path.display()
        ));
        if let Some(cut) = &facts.context_cut {
            text.push_str(&format!("  context    {cut}\n"));
        }
        text.push_str(&format!("  weights    {}\n", bytes(facts.weight_bytes)));
        text.push_str(&format!("  KV cache   {}\n", facts.kv.shown(facts.kv_type)));
        if let Some(draft) = &facts.draft {
            text.push_str(&format!(
                "  draft      {}: weights {}, KV cache {}\n             {}\n",
                draft.name,
                bytes(draft.weight_bytes),
                bytes(draft.kv.bytes),
                draft.path.display()
            ));
        }
    }
    if !on_demand.is_empty() {
        text.push_str(&format!("\nloaded when asked for: {}\n", on_demand.join(", ")));
    }
    if let Some(limit) = limit {
        text.push_str(&format!("\nmemory for all models: {} (engine.memory)\n", bytes(limit)));
    } else if let Some(available) = lines.last().and_then(|f| f.available) {
        let last = if lines.len() > 1 { "last " } else { "" };
        let total = memory::total().map_or_else(String::new, |t| format!(" of {}", bytes(t)));
        text.push_str(&format!("\nmemory free before the {last}KV cache: {}{total}\n", bytes(available)));
    }
    if let Some(first) = lines.first() {
        let with_key = if config.keys.is_empty() { "" } else { " (API_KEY is one of your keys)" };
        text.push_str(&format!("\nTry it{with_key}:\n  {}\n", curl(&reachable, first, config)));
    }
    text.push_str("\nCtrl-C stops.\n");
    text
}

/// The address a client on this machine uses: the unspecified address means all of them, loopback too.
fn reachable(url: &str, address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => url.replace("//0.0.0.0:", "//127.0.0.1:"),
        IpAddr::V6(ip) if ip.is_unspecified() => url.replace("//[::]:", "//[::1]:"),
        _ => url.to_owned(),
    }
}

/// A line for the shell that works as pasted.
fn curl(url: &str, facts: &Facts, config: &ServerConfig) -> String {
    let (route, body) = if facts.has_chat_template {
        let messages = json!([{"role": "user", "content": "Name three rivers."}]);
        ("chat/completions", json!({"model": facts.name, "messages": messages, "max_tokens": 64, "stream": true}))
    } else {
        let prompt = "The capital of France is";
        ("completions", json!({"model": facts.name, "prompt": prompt, "max_tokens": 32, "stream": true}))
    };
    let key = if config.keys.is_empty() { "" } else { " -H \"Authorization: Bearer $API_KEY\"" };
    // The certificate of a test installation is seldom one that curl knows.
    let certificate =
        config.tls.as_ref().map(|tls| format!(" --cacert {}", quoted(&tls.certificate.to_string_lossy())));
    let (tls, body) = (certificate.unwrap_or_default(), quoted(&body.to_string()));
    format!("curl -N{tls} {url}/v1/{route} -H 'Content-Type: application/json'{key} -d {body}")
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use model::KvType;

    use super::*;
    use crate::memory::KvBudget;

    fn facts(has_chat_template: bool) -> Facts {
        Facts {
            name: "it's-a-model".into(),
            path: "/m.gguf".into(),
            architecture: "llama",
            context_len: 2048,
            context_cut: None,
            weight_bytes: 100 << 20,
            kv: KvBudget { blocks: 64, bytes: 64 << 20, tokens: 2048, context_len: 2048, states: false },
            kv_type: KvType::F16,
            draft: None,
            available: Some(1 << 30),
            has_chat_template,
        }
    }

    #[test]
    fn the_banner_tells_all() {
        let address = "0.0.0.0:8080".parse().unwrap();
        let all = |limit| {
            let models = (&[facts(true)][..], &["other".to_owned()][..], limit);
            banner(("http://0.0.0.0:8080", None), address, models, &ServerConfig::default())
        };
        let text = all(None);
        assert!(all(Some(3 << 30)).contains("memory for all models: 3.0 GiB (engine.memory)"));
        for part in [
            "http://127.0.0.1:8080/v1",
            "100.0 MiB",
            "64.0 MiB of f16 = 2,048 tokens in 64 blocks",
            "1.0 GiB",
            "curl -N",
            "loaded when asked for: other",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_line_to_paste_fits_the_model() {
        let config = ServerConfig::default();
        let chat = curl("http://x", &facts(true), &config);
        assert!(chat.contains("/v1/chat/completions") && chat.contains("it'\\''s-a-model"), "{chat}");
        let text = curl("http://x", &facts(false), &config);
        assert!(text.contains("/v1/completions") && !text.contains("messages"), "{text}");
    }
}
