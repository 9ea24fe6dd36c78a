//! Chat templates in their own process: the same results, and nothing that a template does reaches the server.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tokenizer::{ChatMessage, ChatTemplate, TemplateError, TemplateInput, TemplateRenderer};
use tokenworks::renderer::ProcessRenderer;

use crate::serving::Serving;
use crate::support::Sandbox;
use crate::tiny_model::sandbox;

/// Fills memory by doubling a text.
const DOUBLES: &str =
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
/// Compares two lists of 2^60 leaves that share their halves.
const COMPARES: &str = "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}\
                        {% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}";

fn start(source: &str) -> Result<ProcessRenderer, TemplateError> {
    ProcessRenderer::start(Path::new(env!("CARGO_BIN_EXE_tokenworks")), source)
}

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.to_owned(), name: Some("Ann".to_owned()) }
}

fn render(renderer: &dyn TemplateRenderer, content: &str) -> Result<String, TemplateError> {
    let variables = BTreeMap::from([
        ("deep".to_owned(), json!({"a": [1, -2.5, null, true, "é"]})),
        ("big".to_owned(), json!(u64::MAX)),
    ]);
    renderer.render(&TemplateInput {
        messages: &[message("system", "Be\n\"brief\"\u{0}\u{fdd0}."), message("user", content)],
        add_generation_prompt: true,
        bos_token: "<s>",
        eos_token: "</s>",
        variables: &variables,
    })
}

#[test]
fn results_and_errors_are_those_of_a_template_in_this_process() {
    for source in [
        "{{ bos_token }}{% for m in messages %}[{{ m.role }} {{ m.name }}]{{ m.content }}{{ eos_token }}{% endfor %}",
        "{{ deep | tojson }} {{ big }} {{ deep }} {{ add_generation_prompt }}",
        "",
        "{{ raise_exception('Roles must\\nalternate') }}",
        "{{ nothing.at.all }}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% if %}",
    ] {
        let here = ChatTemplate::compile(source).and_then(|template| render(&template, "黑暗 <|im_end|>"));
        let there = start(source).and_then(|renderer| render(&renderer, "黑暗 <|im_end|>"));
        assert_eq!(there, here, "{source}");
    }
}

#[test]
fn a_template_that_takes_too_much_is_stopped_and_the_next_chat_works() {
    let capture = format!(
        "{}{{% set x %}}{{% for i in range(200) %}}{{{{ ns.x }}}}{{% endfor %}}{{% endset %}}",
        DOUBLES.replace("60", "19")
    );
    for hostile in [
        DOUBLES,
        "{{ 'a\na' | indent(100000000000) }}",
        &capture,
        "{{ ([1, 2, 3] * 1000000000) | length }}{{ [1, 2, 3] * 1000000000 }}",
        COMPARES,
    ] {
        let renderer = start(&format!("{{% if messages[1].content == 'bad' %}}{hostile}{{% endif %}}good")).unwrap();
        for _ in 0..2 {
            assert_eq!(render(&renderer, "well").unwrap(), "good");
            let error = render(&renderer, "bad").unwrap_err();
            // Where the machine has much else to do, the time may end before the memory.
            let limits = if hostile == COMPARES { &["2 s"][..] } else { &["2 s", "256 MiB", "longer than"] };
            let met = |message: &str| limits.iter().any(|limit| message.contains(limit));
            assert!(matches!(&error, TemplateError::Exhausted { message } if met(message)), "{hostile}: {error}");
        }
    }
}

#[test]
fn without_a_process_the_template_is_not_to_blame() {
    let error = ProcessRenderer::start(Path::new("/no/such/program"), "x").unwrap_err();
    assert!(matches!(error, TemplateError::Unavailable { .. }), "{error}");
    // One that does not speak the worker's language.
    #[cfg(unix)]
    assert!(ProcessRenderer::start(Path::new("/bin/false"), "x").is_err());
}

fn serve(sandbox: &Sandbox) -> Serving {
    let template =
        format!("{{% if messages[0].content == 'bad' %}}{COMPARES}{{% endif %}}{{{{ messages[0].content }}}}");
    sandbox.write("t.jinja", template);
    sandbox.write(
        "tokenworks.toml",
        "[engine]\nkv_memory = \"8MiB\"\n[models.hostile]\nsource = \"tiny.gguf\"\nchat_template_file = \"t.jinja\"\n",
    );
    Serving::start(sandbox, &["hostile", "tiny.gguf"])
}

/// Status and body of a chat.
fn chat(serving: &Serving, model: &str, content: &str) -> (String, Value) {
    let body = json!({"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 2});
    let answer = serving.request("POST /v1/chat/completions", &body.to_string());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

#[test]
fn a_hostile_template_is_its_own_chats_failure_only() {
    let sandbox = sandbox();
    let serving = serve(&sandbox);
    std::thread::scope(|scope| {
        // More than are rendered at a time.
        let bad: Vec<_> = (0..3).map(|_| scope.spawn(|| chat(&serving, "hostile", "bad"))).collect();
        let body = r#"{"model":"hostile","prompt":"a","max_tokens":2}"#;
        assert!(serving.request("POST /v1/completions", body).starts_with("HTTP/1.1 200"));
        assert_eq!(chat(&serving, "tiny", "hello").0, "200");
        for bad in bad {
            let (status, body) = bad.join().unwrap();
            assert_eq!(status, "400", "{body}");
            assert!(body["error"]["message"].as_str().unwrap().contains("longer than 2 s"), "{body}");
        }
    });
    assert_eq!(chat(&serving, "hostile", "hello").0, "200");
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_has_nothing_of_the_server_and_is_replaced_when_it_ends() {
    let sandbox = sandbox();
    let serving = serve(&sandbox);
    let workers = children(serving.id());
    assert_eq!(workers.len(), 2, "one for each template");
    let inherited: Vec<_> = open_files("self").into_iter().map(|(_, file)| file).collect();
    for worker in workers {
        // Beyond its own three, at most what whoever started this test left open to all.
        let more = open_files(&worker).into_iter().filter(|(id, file)| *id > 2 && !inherited.contains(file));
        assert_eq!(more.count(), 0, "{:?}", open_files(&worker));
        assert!(std::fs::read(format!("/proc/{worker}/environ")).unwrap().is_empty());
        let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
        let soft = |name| limits.lines().find_map(|l| l.strip_prefix(name)).unwrap().split_whitespace().next().unwrap();
        assert_eq!(soft("Max core file size"), "0");
        assert_ne!(soft("Max address space"), "unlimited");
        assert_ne!(soft("Max cpu time"), "unlimited");
        assert!(std::process::Command::new("/bin/kill").args(["-KILL", &worker]).status().unwrap().success());
    }
    assert_eq!(chat(&serving, "hostile", "hello").0, "200");
}

/// The open files of a process: numbers and what they are.
#[cfg(target_os = "linux")]
fn open_files(process: &str) -> Vec<(u32, std::path::PathBuf)> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().map(Result::unwrap);
    // One may be closed before it is looked at.
    let file = |entry: std::fs::DirEntry| {
        Some((entry.file_name().to_str()?.parse().ok()?, std::fs::read_link(entry.path()).ok()?))
    };
    files.filter_map(file).collect()
}

/// The processes that a process has started.
#[cfg(target_os = "linux")]
fn children(parent: u32) -> Vec<String> {
    let parent = parent.to_string();
    let processes = std::fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    ids.filter(|id| {
        // After the name, which ends at the last bracket: state and parent.
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(parent.as_str())
    })
    .collect()
}
