//! Every wrong request is answered in OpenAI's form, with the field and the fix.

use serde_json::{Value, json};

use crate::client::{JSON, get, post, raw, send};
use crate::plant::{Plant, Script, ScriptedLine};
use service::LineError;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn with(base: &Value, field: &str, value: Value) -> Value {
    let mut body = base.clone();
    body[field] = value;
    body
}

fn chat() -> Value {
    json!({"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]})
}

fn completion() -> Value {
    json!({"model": "scripted", "prompt": "Hi"})
}

async fn check_refused(plant: &Plant, path: &str, body: &Value, param: &str) {
    let answer = post(plant.address, path, body).await;
    let shown = body.to_string().chars().take(200).collect::<String>();
    assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
    let error = answer.error();
    assert_eq!(error.param.as_deref(), Some(param), "{shown}: {}", error.message);
    assert!(error.message.contains(&format!("`{param}`")), "{shown}: {}", error.message);
}

/// The field of the request that a place such as `stop[1]` is in.
fn top(param: &str) -> &str {
    param.split(['.', '[']).next().unwrap()
}

async fn check_accepted(plant: &Plant, path: &str, body: &Value) {
    let answer = post(plant.address, path, body).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
}

/// Values no field of either kind takes.
fn bad_shared() -> Vec<(&'static str, Value)> {
    let mut bad = vec![
        ("model", json!(7)),
        ("model", json!(null)),
        ("temperature", json!("hot")),
        ("temperature", json!(-0.1)),
        ("temperature", json!(2.1)),
        ("temperature", json!(1e300)),
        ("top_p", json!(0)),
        ("top_p", json!(1.01)),
        ("top_p", json!([])),
        ("top_k", json!(-2)),
        ("top_k", json!(1.5)),
        ("min_p", json!(-0.5)),
        ("min_p", json!(1.5)),
        ("frequency_penalty", json!(2.5)),
        ("presence_penalty", json!(-2.5)),
        ("repetition_penalty", json!(0)),
        ("repetition_penalty", json!(-1)),
        ("repetition_penalty", json!(1e39)),
        ("n", json!(0)),
        ("n", json!(-1)),
        ("n", json!(9)),
        ("n", json!("two")),
        ("logit_bias", json!([1])),
        ("logit_bias.a", json!({"a": 1})),
        ("logit_bias.-1", json!({"-1": 1})),
        ("logit_bias.256", json!({"256": 1})),
        ("logit_bias.1", json!({"1": 101})),
        ("logit_bias.5", json!({"5": "x"})),
        ("logit_bias.1", json!({"1": 1, "01": 2})),
        ("stop", json!("")),
        ("stop[1]", json!(["a", ""])),
        ("stop[0]", json!([null])),
        ("stop", json!(vec!["a"; 17])),
        ("stop[0]", json!([1])),
        ("stop", json!("x".repeat(5000))),
        ("seed", json!(1.5)),
        ("seed", json!(18_446_744_073_709_551_615_u64)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(-5)),
        ("max_tokens", json!("10")),
        ("stream", json!("yes")),
        ("stream", json!(1)),
        ("stream_options", json!({"include_usage": true})),
        ("ignore_eos", json!("no")),
        ("priority", json!(1.5)),
        ("priority", json!(3_000_000_000_u64)),
        ("user", json!(5)),
        ("metadata", json!("x")),
        ("store", json!("x")),
        ("logprobs", json!("x")),
    ];
    for refused in [
        ("tools", json!([{"type": "function"}])),
        ("tool_choice", json!("required")),
        ("functions", json!([{}])),
        ("function_call", json!({"name": "f"})),
        ("response_format", json!({"type": "json_object"})),
        ("response_format", json!("text")),
        ("modalities", json!(["text", "audio"])),
        ("audio", json!({})),
        ("prediction", json!({})),
        ("web_search_options", json!({})),
        ("reasoning_effort", json!("high")),
        ("suffix", json!("end")),
        ("temprature", json!(1)),
    ] {
        bad.push(refused);
    }
    bad
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let plant = Plant::hello().await;
    for (param, value) in bad_shared() {
        let field = top(param);
        check_refused(&plant, CHAT, &with(&chat(), field, value.clone()), param).await;
        check_refused(&plant, COMPLETIONS, &with(&completion(), field, value), param).await;
    }
    let streamed = with(&chat(), "stream", json!(true));
    check_refused(&plant, CHAT, &with(&streamed, "stream_options", json!({"x": 1})), "stream_options.x").await;
    assert!(plant.line.submitted.lock().unwrap().is_empty(), "nothing wrong reached the line");
}

#[tokio::test]
async fn wrong_chats_are_named() {
    let plant = Plant::hello().await;
    let message =
        |message: Value| json!({"model": "scripted", "messages": [{"role": "user", "content": "a"}, message]});
    for (body, param) in [
        (json!({"model": "scripted"}), "messages"),
        (json!({"messages": [{"role": "user", "content": "Hi"}]}), "model"),
        (with(&chat(), "messages", json!([])), "messages"),
        (with(&chat(), "messages", json!("Hi")), "messages"),
        (with(&chat(), "messages", json!(null)), "messages"),
        (message(json!("Hi")), "messages[1]"),
        (message(json!({"content": "Hi"})), "messages[1].role"),
        (message(json!({"role": "wizard", "content": "Hi"})), "messages[1].role"),
        (message(json!({"role": 1, "content": "Hi"})), "messages[1].role"),
        (message(json!({"role": "tool", "content": "Hi"})), "messages[1].role"),
        (message(json!({"role": "user"})), "messages[1].content"),
        (message(json!({"role": "user", "content": null})), "messages[1].content"),
        (message(json!({"role": "user", "content": 5})), "messages[1].content"),
        (message(json!({"role": "user", "content": ["x"]})), "messages[1].content[0]"),
        (message(json!({"role": "user", "content": [{"type": "text"}]})), "messages[1].content[0].text"),
        (message(json!({"role": "user", "content": [{"type": "text", "text": 5}]})), "messages[1].content[0].text"),
        (
            message(json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]})),
            "messages[1].content[1].type",
        ),
        (message(json!({"role": "assistant", "content": "", "tool_calls": [{}]})), "messages[1].tool_calls"),
        (message(json!({"role": "user", "content": "", "colour": "red"})), "messages[1].colour"),
        (message(json!({"role": "user", "content": "", "name": 5})), "messages[1].name"),
        (with(&chat(), "top_logprobs", json!(2)), "top_logprobs"),
        (with(&with(&chat(), "logprobs", json!(true)), "top_logprobs", json!(21)), "top_logprobs"),
        (with(&with(&chat(), "logprobs", json!(true)), "top_logprobs", json!(-1)), "top_logprobs"),
        (with(&chat(), "logprobs", json!(3)), "logprobs"),
        (with(&chat(), "echo", json!(true)), "echo"),
        (with(&chat(), "max_completion_tokens", json!(0)), "max_completion_tokens"),
        (with(&with(&chat(), "max_tokens", json!(5)), "max_completion_tokens", json!(6)), "max_tokens"),
        (with(&chat(), "add_generation_prompt", json!(false)), "add_generation_prompt"),
        (with(&chat(), "chat_template_kwargs", json!([])), "chat_template_kwargs"),
    ] {
        check_refused(&plant, CHAT, &body, param).await;
    }
}

#[tokio::test]
async fn wrong_completions_are_named() {
    let plant = Plant::hello().await;
    for (field, value) in [
        ("prompt", json!(null)),
        ("prompt", json!(5)),
        ("prompt", json!([])),
        ("prompt[0]", json!([[]])),
        ("prompt[1]", json!(["a", 1])),
        ("prompt[0]", json!([1.5])),
        ("prompt[0]", json!([-1])),
        ("prompt[2]", json!([1, 2, 256])),
        ("prompt[1]", json!([1, "a"])),
        ("prompt[1][0]", json!([[1], [256]])),
        ("prompt[1]", json!([[1], 2])),
        ("prompt[0][0]", json!([[[1]]])),
        ("prompt[0]", json!([null])),
        ("prompt", json!(vec!["a"; 129])),
        ("best_of", json!(2)),
        ("logprobs", json!(21)),
        ("logprobs", json!(true)),
        ("echo", json!("yes")),
        ("messages", json!([])),
    ] {
        check_refused(&plant, COMPLETIONS, &with(&completion(), top(field), value), field).await;
    }
    let many = json!({"model": "scripted", "prompt": vec!["a"; 65], "n": 2});
    check_refused(&plant, COMPLETIONS, &many, "prompt").await;
}

#[tokio::test]
async fn values_that_ask_for_nothing_are_accepted() {
    let plant = Plant::hello().await;
    for (field, value) in [
        ("tools", json!(null)),
        ("tools", json!([])),
        ("tool_choice", json!("none")),
        ("response_format", json!({"type": "text"})),
        ("modalities", json!(["text"])),
        ("audio", json!(null)),
        ("reasoning_effort", json!(null)),
        ("temperature", json!(null)),
        ("temperature", json!(0)),
        ("temperature", json!(2)),
        ("top_p", json!(1)),
        ("top_k", json!(-1)),
        ("top_k", json!(9_000_000_000_000_u64)),
        ("n", json!(8)),
        ("seed", json!(-9_223_372_036_854_775_808_i64)),
        ("max_tokens", json!(u64::MAX)),
        ("stop", json!(vec!["a"; 16])),
        ("logit_bias", json!({"0": -100, "255": 100.0})),
        ("user", json!("me")),
        ("metadata", json!({"a": "b"})),
        ("store", json!(true)),
        ("service_tier", json!("auto")),
        ("safety_identifier", json!("x")),
        ("prompt_cache_key", json!("x")),
        ("priority", json!(-5)),
    ] {
        check_accepted(&plant, CHAT, &with(&chat(), field, value.clone())).await;
        check_accepted(&plant, COMPLETIONS, &with(&completion(), field, value)).await;
    }
    check_accepted(&plant, COMPLETIONS, &with(&completion(), "best_of", json!(1))).await;
    let scored = json!({"model": "scripted", "prompt": "a", "max_tokens": 0, "echo": true});
    check_accepted(&plant, COMPLETIONS, &scored).await;
    assert_eq!(plant.line.last().max_tokens, Some(0));
    let assistant = json!([
        {"role": "assistant", "content": "a", "refusal": null, "tool_calls": null, "annotations": [], "audio": null},
        {"role": "developer", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
    ]);
    check_accepted(&plant, CHAT, &with(&chat(), "messages", assistant)).await;
    let service::Prompt::Chat(messages) = plant.line.last().prompt else { panic!("no chat") };
    assert_eq!((messages[1].role.as_str(), messages[1].content.as_str()), ("system", "bc"));
}

#[tokio::test]
async fn bodies_that_are_no_json_object() {
    let plant = Plant::hello().await;
    for (body, part) in [
        (&b""[..], "empty"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"{\"model\": \"\xff\xfe\"}", "UTF-8"),
        (b"{\"model\": \"scripted\", \"prompt\": \"a\", \"temperature\": NaN}", "temperature"),
    ] {
        let answer = send(plant.address, "POST", COMPLETIONS, &[JSON], body).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.error().message.contains(part), "{}", answer.text());
        assert_eq!(answer.error().code.as_deref(), Some("invalid_json"));
    }
}

#[tokio::test]
async fn fifty_megabytes_are_not_kept() {
    let plant = Plant::hello().await;
    let body = vec![b' '; 50 << 20];
    let answer = send(plant.address, "POST", CHAT, &[JSON], &body).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.error().code.as_deref(), Some("request_too_large"));

    let mut chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..50 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend_from_slice(&body[..1 << 20]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(raw(plant.address, &chunked).await.status, 413);

    // With `Expect`, the client hears it before it sends anything.
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}\r\nContent-Length: 52428800\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    assert_eq!(raw(plant.address, head.as_bytes()).await.status, 413);
    check_accepted(&plant, CHAT, &chat()).await;
}

#[tokio::test]
async fn routes_methods_and_models_that_are_not_there() {
    let plant = Plant::hello().await;
    let answer = get(plant.address, "/v2/nothing").await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (404, Some("not_found")));
    let answer = get(plant.address, CHAT).await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (405, Some("method_not_allowed")));
    assert_eq!(answer.header("allow"), Some("POST"));
    for path in [CHAT, COMPLETIONS, "/tokenize", "/detokenize"] {
        let answer = post(plant.address, path, &json!({"model": "gpt-17"})).await;
        let error = answer.error();
        assert_eq!((answer.status, error.code.as_deref()), (404, Some("model_not_found")));
        assert_eq!(error.param.as_deref(), Some("model"));
        assert!(error.message.contains("gpt-17"), "{}", error.message);
    }
    let answer = get(plant.address, "/v1/models/gpt-17").await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (404, Some("model_not_found")));
}

#[tokio::test]
async fn a_line_that_refuses() {
    let line = ScriptedLine::new(|generation| {
        let user = generation.labels.user.as_deref();
        Script::Refuse(match user {
            Some("full") => LineError::QueueFull { waiting: 8, retry_after: std::time::Duration::from_secs(7) },
            Some("closed") => LineError::Closed,
            Some("long") => LineError::ContextFull { prompt_tokens: 4000, context_len: 2048 },
            Some("template") => LineError::NoChatTemplate { model: "scripted".into() },
            Some("bug") => return Script::Panic,
            _ => LineError::Internal { message: "broken".into() },
        })
    });
    let plant = Plant::start(line, |_| {}).await;
    for (user, status, code, retry) in [
        ("full", 429, "overloaded", Some("7")),
        ("closed", 503, "shutting_down", Some("5")),
        ("long", 400, "context_length_exceeded", None),
        ("template", 400, "no_chat_template", None),
        ("bug", 500, "internal_error", None),
        ("other", 500, "internal_error", None),
    ] {
        let answer = post(plant.address, CHAT, &with(&chat(), "user", json!(user))).await;
        assert_eq!(answer.status, status, "{user}: {}", answer.text());
        assert_eq!(answer.error().code.as_deref(), Some(code), "{user}");
        let at_fault = (status == 400).then_some("messages");
        assert_eq!(answer.error().param.as_deref(), at_fault, "{user}");
        assert_eq!(answer.header("retry-after"), retry, "{user}");
        assert!(answer.header("x-request-id").is_some_and(|id| id.starts_with("req-")), "{user}");
    }
    let streamed = with(&with(&chat(), "user", json!("full")), "stream", json!(true));
    assert_eq!(post(plant.address, CHAT, &streamed).await.status, 429);
}

#[tokio::test]
async fn one_refused_prompt_cancels_the_others() {
    let line = ScriptedLine::new(|generation| match &generation.prompt {
        service::Prompt::Text(text) if text == "c" => {
            Script::Refuse(LineError::QueueFull { waiting: 8, retry_after: std::time::Duration::from_secs(1) })
        }
        _ => Script::Hang(vec![]),
    });
    let plant = Plant::start(line, |_| {}).await;
    let body = json!({"model": "scripted", "prompt": ["a", "b", "c", "d"]});
    assert_eq!(post(plant.address, COMPLETIONS, &body).await.status, 429);
    assert_eq!(plant.line.submitted.lock().unwrap().len(), 3);
    assert_eq!(plant.line.cancelled(), 2);
}

#[tokio::test]
async fn limits_and_small_values_are_told_as_they_are() {
    let plant = Plant::hello().await;
    let error = post(plant.address, CHAT, &with(&chat(), "max_tokens", json!(0))).await.error();
    assert!(error.message.contains("at least 1") && !error.message.contains("echo"), "{}", error.message);
    let long = json!(["a".repeat(service::MAX_STOP_BYTES + 1)]);
    let error = post(plant.address, CHAT, &with(&chat(), "stop", long)).await.error();
    assert_eq!(error.param.as_deref(), Some("stop[0]"));
    check_accepted(&plant, CHAT, &with(&chat(), "stop", json!(["a".repeat(service::MAX_STOP_BYTES)]))).await;
    for tiny in [1e-38, 1e-60] {
        check_accepted(&plant, CHAT, &with(&chat(), "top_p", json!(tiny))).await;
        assert!(plant.line.last().sampling.top_p > 0.0);
    }
}
