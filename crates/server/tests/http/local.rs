//! The whole line behind the server: a tiny generated model, its tokenizer, the engine.

use std::sync::Arc;

use engine::{EngineConfig, LocalEngine, ModelRunner};
use formats::gguf::Gguf;
use kernels::ThreadPool;
use metering::Meter;
use model::{KvType, Model};
use serde_json::{Value, json};
use server::{Server, ServerConfig};
use service::{Line, LocalLine, LocalLineConfig};
use test_support::TinyModel;
use tokenizer::{ChatTemplate, Tokenizer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{JSON, get, post, read_until, request};
use crate::plant::eventually;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

pub(crate) struct Tiny {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) line: Arc<dyn Line>,
}

/// A line over a tiny generated model.
pub(crate) fn tiny_line(config: EngineConfig, template: bool) -> (LocalLine, Arc<Meter>) {
    let meter = Arc::new(Meter::new());
    (tiny_line_of(config, template, &meter), meter)
}

/// The same, counted by a meter that is there.
pub(crate) fn tiny_line_of(config: EngineConfig, template: bool, meter: &Arc<Meter>) -> LocalLine {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let source = TinyModel::llama();
    source.write(&path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let pool = Arc::new(ThreadPool::new(1).unwrap());
    let model = Arc::new(Model::load(&gguf, &pool).unwrap());
    let runner = ModelRunner::new(model, KvType::F16, 128).unwrap();
    let engine = Arc::new(LocalEngine::start(Box::new(runner), config).unwrap());
    let template =
        template.then(|| Arc::new(ChatTemplate::compile(source.chat_template.as_deref().unwrap()).unwrap()) as _);
    let card = LocalLineConfig { id: "tiny".into(), created: 1, ..LocalLineConfig::default() };
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    LocalLine::new(card, tokenizer, template, engine, Arc::clone(meter))
}

pub(crate) async fn start(config: EngineConfig, template: bool) -> Tiny {
    let (line, meter) = tiny_line(config, template);
    let line: Arc<dyn Line> = Arc::new(line);
    let config = ServerConfig { port: 0, ..ServerConfig::default() };
    let server = Server::bind(&config, server::Plant::new(vec![Arc::clone(&line)], meter)).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.run(std::future::pending()));
    Tiny { address, line }
}

fn chat(text: &str, max_tokens: u32) -> Value {
    json!({
        "model": "tiny", "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": max_tokens,
        "ignore_eos": true
    })
}

async fn idle(tiny: &Tiny) {
    eventually("every block is free", || {
        let gauges = tiny.line.status().gauges;
        (gauges.running, gauges.waiting, gauges.kv_blocks_used) == (0, 0, 0)
    })
    .await;
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says() {
    let tiny = start(EngineConfig::default(), true).await;
    let mut body = chat("hello there, tell the world something", 40);
    let whole = post(tiny.address, CHAT, &body).await.json();
    assert_eq!(whole["choices"][0]["finish_reason"], "length", "{whole}");
    assert_eq!(whole["usage"]["completion_tokens"], 40);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let mut frames = post(tiny.address, CHAT, &body).await.frames();
    assert_eq!(frames.pop().unwrap(), "[DONE]");
    let chunks: Vec<Value> = frames.iter().map(|frame| serde_json::from_str(frame).unwrap()).collect();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(Value::from(text), whole["choices"][0]["message"]["content"]);
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(usage["prompt_tokens"], whole["usage"]["prompt_tokens"]);
    assert!(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0, "the same prompt again: {usage}");
    assert!(usage["completion_tokens_details"]["reasoning_tokens"].is_u64(), "the model has markers: {usage}");
    assert!(usage["measured"]["e2e_seconds"].as_f64().unwrap() > 0.0);
    idle(&tiny).await;
}

#[tokio::test]
async fn text_too_long_to_tokenize_is_refused_by_field() {
    let tiny = start(EngineConfig::default(), true).await;
    let reply = post(tiny.address, "/tokenize", &json!({"prompt": "a".repeat((2 << 20) + 1)})).await;
    assert_eq!((reply.status, reply.json()["error"]["param"].clone()), (400, json!("prompt")));
    let messages = json!([{"role": "user", "content": "a".repeat((2 << 20) + 1)}]);
    let reply = post(tiny.address, "/tokenize", &json!({"messages": messages})).await;
    assert_eq!((reply.status, reply.json()["error"]["param"].clone()), (400, json!("messages")));
}

#[tokio::test]
async fn echo_scores_every_prompt_token() {
    let tiny = start(EngineConfig::default(), true).await;
    let ids = post(tiny.address, "/tokenize", &json!({"prompt": "hello world é", "add_special_tokens": false})).await;
    let ids = ids.json()["tokens"].clone();
    assert_eq!(post(tiny.address, "/detokenize", &json!({"tokens": ids})).await.json()["prompt"], "hello world é");
    let body = json!({"model": "tiny", "prompt": ids, "max_tokens": 0, "echo": true, "logprobs": 3});
    let value = post(tiny.address, COMPLETIONS, &body).await.json();
    let choice = &value["choices"][0];
    assert_eq!(choice["text"], "hello world é");
    let count = ids.as_array().unwrap().len();
    let logprobs = &choice["logprobs"];
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[list].as_array().unwrap().len(), count, "{list}");
    }
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert!(logprobs["token_logprobs"][1].as_f64().unwrap() < 0.0);
    assert_eq!((&value["usage"]["completion_tokens"], &choice["finish_reason"]), (&json!(0), &json!("length")));
}

#[tokio::test]
async fn prompts_that_do_not_fit_and_models_without_a_template() {
    let tiny = start(EngineConfig::default(), false).await;
    let body = json!({"model": "tiny", "prompt": "hello ".repeat(4000)});
    let answer = post(tiny.address, COMPLETIONS, &body).await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (400, Some("context_length_exceeded")));
    assert_eq!(answer.error().param.as_deref(), Some("prompt"));
    let answer = post(tiny.address, COMPLETIONS, &json!({"model": "tiny", "prompt": vec![1; 4000]})).await;
    assert_eq!(answer.error().param.as_deref(), Some("prompt"));
    let answer = post(tiny.address, CHAT, &chat("hello", 5)).await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (400, Some("no_chat_template")));
    assert!(answer.error().message.contains("tiny"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_some_of_whom_leave() {
    let tiny = Arc::new(start(EngineConfig { max_waiting: 8, max_running: 8, ..EngineConfig::default() }, true).await);
    let mut clients = tokio::task::JoinSet::new();
    for i in 0..48_u32 {
        let tiny = Arc::clone(&tiny);
        clients.spawn(async move {
            let mut body = chat(&format!("client {i} says hello"), if i % 3 == 0 { 1500 } else { 24 });
            body["stream"] = json!(true);
            if i % 3 == 0 {
                let mut stream = TcpStream::connect(tiny.address).await.unwrap();
                let bytes = request("localhost", "POST", CHAT, &[JSON], body.to_string().as_bytes());
                stream.write_all(&bytes).await.unwrap();
                read_until(&mut stream, "HTTP/1.1 ").await;
                return 0;
            }
            let answer = post(tiny.address, CHAT, &body).await;
            if answer.status == 200 {
                assert_eq!(answer.frames().last().unwrap(), "[DONE]");
            }
            answer.status
        });
    }
    let statuses = clients.join_all().await;
    assert!(statuses.iter().all(|status| matches!(status, 0 | 200 | 429)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    idle(&tiny).await;
    let metrics = get(tiny.address, "/metrics").await;
    assert!(metrics.text().contains("vllm:num_requests_running{model_name=\"tiny\"} 0"), "{}", metrics.text());
    assert_eq!(post(tiny.address, CHAT, &chat("hello", 3)).await.status, 200);
}
