//! Every documented field, with values it does not take.

use serde_json::{Map, Value, json};

use crate::client::{Answer, JSON, post, send};
use crate::plant::Plant;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// A request that is accepted.
fn base(path: &str) -> Value {
    match path {
        CHAT => json!({"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}),
        COMPLETIONS => json!({"model": "scripted", "prompt": "Hi"}),
        "/tokenize" => json!({"prompt": "Hi"}),
        _ => json!({"tokens": [1]}),
    }
}

/// The fields of a route's request, as the description of the API has them.
fn documented(path: &str) -> Map<String, Value> {
    let document: Value = serde_json::from_str(&server::openapi_json()).unwrap();
    let schema = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let name = schema["$ref"].as_str().unwrap().strip_prefix("#/components/schemas/").unwrap();
    document["components"]["schemas"][name]["properties"].as_object().unwrap().clone()
}

/// Values that a field of this schema must refuse.
fn wrong_values(schema: &Value) -> Vec<Value> {
    let huge = || vec![json!(-1e300), json!(1e300), json!(-1e30), json!([]), json!({}), json!(true), json!("x")];
    match schema["type"][0].as_str().or(schema["type"].as_str()) {
        Some("number") => huge(),
        Some("integer") => [huge(), vec![json!(1.5), json!(-9_223_372_036_854_775_809_i128 as f64)]].concat(),
        Some("boolean") => vec![json!("true"), json!(1), json!([])],
        Some("string") => vec![json!(5), json!(["x"]), json!({})],
        Some("object") => vec![json!(5), json!("x"), json!([])],
        // Lists, and fields of several types.
        _ => vec![json!(5), json!(-1e300), json!(true), json!([[[5]]])],
    }
}

fn check(answer: &Answer, name: &str, asked: &str) {
    assert_eq!(answer.status, 400, "{asked}: {}", answer.text());
    let error = answer.error();
    let param = error.param.unwrap_or_default();
    let rest = param.strip_prefix(name).unwrap_or_else(|| panic!("{asked}: {param}"));
    assert!(rest.is_empty() || rest.starts_with('['), "{asked}: {param}");
    assert!(error.message.contains(&format!("`{param}`")), "{asked}: {}", error.message);
    assert_ne!(error.code.as_deref(), Some("unrecognized_field"), "{asked}: documented, but unknown");
}

#[tokio::test]
async fn wrong_types_are_named_for_every_documented_field() {
    let plant = Plant::hello().await;
    for (path, least) in [(CHAT, 28), (COMPLETIONS, 28), ("/tokenize", 7), ("/detokenize", 2)] {
        let fields = documented(path);
        assert!(fields.len() >= least, "{path}: {}", fields.len());
        for (name, schema) in &fields {
            for value in wrong_values(schema) {
                let mut body = base(path);
                body[name] = value;
                check(&post(plant.address, path, &body).await, name, &body.to_string());
            }
            // No JSON, but some clients write it.
            for value in ["NaN", "-Infinity", "1e999", "-1e999", "\"\\ud800\"", "\"\\udc00x\"", "[\"\\ud83dx\"]"] {
                let body = format!("{{\"{name}\": {value}}}");
                let answer = send(plant.address, "POST", path, &[JSON], body.as_bytes()).await;
                check(&answer, name, &body);
                assert_eq!(answer.error().code.as_deref(), Some("invalid_json"), "{body}");
            }
        }
    }
    assert!(plant.line.submitted.lock().unwrap().is_empty(), "nothing wrong reached the line");
}

#[tokio::test]
async fn errors_say_what_is_there_and_what_should_be() {
    let plant = Plant::hello().await;
    let user = |content: Value| json!([{"role": "user", "content": "a"}, {"role": "user", "content": content}]);
    for (path, field, value, said) in [
        (
            COMPLETIONS,
            "prompt",
            json!([1.5]),
            "`prompt[0]` must be a token id of `scripted` (an integer from 0 to 255); got the number 1.5",
        ),
        (
            COMPLETIONS,
            "prompt",
            json!(["a", 1]),
            "`prompt[1]` must be a string, like the first entry; got the number 1",
        ),
        (
            COMPLETIONS,
            "prompt",
            json!([]),
            "`prompt` must be a string, a list of strings, a list of token ids, or a list of lists of token ids; got an empty list",
        ),
        (COMPLETIONS, "stop", json!([null]), "`stop[0]` must be a string that is not empty; got null"),
        (
            COMPLETIONS,
            "logit_bias",
            json!({"5": "x"}),
            "`logit_bias.5` must be a number from -100 to 100; got the string \"x\"",
        ),
        (
            CHAT,
            "messages",
            user(json!(5)),
            "`messages[1].content` must be a string, or a list of parts of type `text`; got the number 5",
        ),
        (
            CHAT,
            "user",
            json!("u\n"),
            "`user` must be a string of at most 256 bytes without control characters; got the string \"u\\n\"",
        ),
        (
            CHAT,
            "metadata",
            json!({"tag": "\u{7f}"}),
            "`metadata.tag` must be a string of at most 64 bytes without control characters; got the string \"\\u{7f}\"",
        ),
        (
            COMPLETIONS,
            "metadata",
            json!({"task": 5}),
            "`metadata.task` must be a string of at most 120 bytes without control characters; got the number 5",
        ),
        (CHAT, "logprobs", json!(3), "`logprobs` must be a boolean; got the number 3"),
        (
            CHAT,
            "top_logprobs",
            json!(21),
            "`top_logprobs` must be an integer from 0 to 20, next to `logprobs: true`; got the number 21",
        ),
        (
            COMPLETIONS,
            "logprobs",
            json!(true),
            "`logprobs` must be an integer from 0 to 20, how many of the likeliest tokens to give; got true",
        ),
        (
            "/detokenize",
            "tokens",
            json!([1, "a"]),
            "`tokens[1]` must be a token id of `scripted` (an integer from 0 to 255); got the string \"a\"",
        ),
    ] {
        let mut body = base(path);
        body[field] = value;
        let error = post(plant.address, path, &body).await.error();
        assert_eq!(error.message, said);
        assert_eq!(error.param.as_deref(), said.split('`').nth(1));
    }
    let mut body = base(CHAT);
    body["user"] = json!("u".repeat(257));
    assert_eq!(post(plant.address, CHAT, &body).await.error().param.as_deref(), Some("user"));
}

#[tokio::test]
async fn what_is_no_json_is_told_by_its_place() {
    let plant = Plant::hello().await;
    for (body, param, part) in [
        (r#"{"messages": [{"role": "user", "content": "a\ud800"}]}"#, "messages[0].content", "surrogate"),
        (r#"{"logit_bias": {"5": NaN}}"#, "logit_bias.5", "finite"),
        (r#"{"stop": ["a", "\udfff"]}"#, "stop[1]", "surrogate"),
        (r#"{"prompt": [1, 2, 1e999]}"#, "prompt[2]", "finite"),
    ] {
        let error = send(plant.address, "POST", CHAT, &[JSON], body.as_bytes()).await.error();
        assert_eq!((error.param.as_deref(), error.code.as_deref()), (Some(param), Some("invalid_json")), "{body}");
        assert!(error.message.contains(part) && error.message.contains(param), "{}", error.message);
    }
}
