//! Whole answers: their shapes, and what reaches the line.

use std::collections::BTreeMap;

use inference::FinishReason;
use protocol::{ChatCompletion, Completion, TokenizeReply};
use serde_json::json;
use service::{Generation, LineEvent, Prompt, TokenText};

use crate::client::{get, post};
use crate::plant::{Plant, Script, ScriptedLine, done, finished, hello, record, text};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

pub(crate) fn token(id: u32, bytes: &[u8], logprob: Option<f32>) -> TokenText {
    let top = logprob.map(|l| vec![(id, bytes.to_vec(), l), (9, b"zz".to_vec(), l - 1.0)]).unwrap_or_default();
    TokenText { id, bytes: bytes.to_vec(), logprob, top }
}

/// An echo if asked for, then `é` in two tokens and `!`.
pub(crate) fn scored(generation: &Generation) -> Script {
    let mut events = vec![];
    if generation.echo {
        let tokens = vec![token(7, "日".as_bytes(), None), token(8, b"b", Some(-2.0))];
        events.push(LineEvent::Echo { text: "日b".into(), tokens });
    }
    for candidate in 0..generation.candidates {
        let split = vec![token(1, &[0xC3], Some(-0.25)), token(2, &[0xA9], Some(-0.5))];
        events.push(LineEvent::Text { candidate, text: "é".into(), tokens: split });
        events.push(LineEvent::Text { candidate, text: "!".into(), tokens: vec![token(3, b"!", Some(-1.0))] });
        events.push(finished(candidate, FinishReason::Length));
    }
    events.push(done());
    Script::Events(events)
}

#[tokio::test]
async fn a_chat() {
    let plant = Plant::hello().await;
    let body = json!({"model": "other/name", "messages": [{"role": "user", "content": "Hi", "name": "Ann"}]});
    let answer = post(plant.address, CHAT, &body).await;
    assert_eq!(answer.status, 200);
    let value = answer.json();
    assert_eq!(value["object"], "chat.completion");
    assert_eq!(value["model"], "scripted");
    assert!(value["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(value["created"].as_u64().unwrap() > 1_700_000_000);
    assert!(value["system_fingerprint"].is_string());
    assert_eq!(
        value["choices"],
        json!([{
            "index": 0,
            "message": {"role": "assistant", "content": "Hello world", "refusal": null},
            "logprobs": null,
            "finish_reason": "stop"
        }])
    );
    let usage = &value["usage"];
    assert_eq!(
        (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64(), usage["total_tokens"].as_u64()),
        (Some(35), Some(2), Some(37))
    );
    assert_eq!(usage["prompt_tokens_details"], json!({"cached_tokens": 32}));
    // The model declares no reasoning markers.
    let guessed = json!({"accepted_prediction_tokens": 1, "rejected_prediction_tokens": 4});
    assert_eq!(usage["completion_tokens_details"], guessed);
    assert_eq!(usage["measured"]["ttft_seconds"], json!(0.005));
    serde_json::from_slice::<ChatCompletion>(&answer.body).unwrap();
    let sent = plant.line.last();
    assert_eq!(value["id"], sent.id);
    let Prompt::Chat(messages) = sent.prompt else { panic!("no chat") };
    assert_eq!(messages[0].name.as_deref(), Some("Ann"));
    assert_eq!(sent.labels.route, CHAT);
}

#[tokio::test]
async fn every_field_reaches_the_line() {
    let plant = Plant::hello().await;
    let body = json!({
        "model": "scripted", "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "frequency_penalty": 0.25,
        "presence_penalty": -0.5, "repetition_penalty": 1.25, "logit_bias": {"10": -100, "9": 1.5}, "seed": -1,
        "n": 2, "stop": "END", "max_completion_tokens": 9, "logprobs": true, "top_logprobs": 4, "ignore_eos": true,
        "priority": 5, "user": "ann", "chat_template_kwargs": {"mood": "calm"}
    });
    assert_eq!(post(plant.address, CHAT, &body).await.status, 200);
    let sent = plant.line.last();
    let sampling = &sent.sampling;
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p), (0.5, 0.9, 40, 0.05));
    assert_eq!(
        (sampling.frequency_penalty, sampling.presence_penalty, sampling.repetition_penalty),
        (0.25, -0.5, 1.25)
    );
    assert_eq!(sampling.logit_bias, [(9, 1.5), (10, -100.0)]);
    assert_eq!((sampling.seed, sampling.logprobs), (Some(u64::MAX), Some(4)));
    assert_eq!((sent.candidates, sent.max_tokens, sent.ignore_eos, sent.echo), (2, Some(9), true, false));
    assert_eq!(sent.stop, ["END"]);
    assert_eq!(sent.priority, 0, "a caller without a key cannot raise its priority");
    assert_eq!(sent.template_variables, BTreeMap::from([("mood".to_owned(), json!("calm"))]));
    assert_eq!((sent.labels.key, sent.labels.user.as_deref()), (None, Some("ann")));
}

#[tokio::test]
async fn nothing_given_means_the_defaults() {
    let plant = Plant::hello().await;
    post(plant.address, COMPLETIONS, &json!({"model": "scripted", "prompt": "a"})).await;
    let sent = plant.line.last();
    assert_eq!(sent.sampling, inference::SamplingParams::default());
    assert_eq!((sent.candidates, sent.max_tokens, sent.priority), (1, None, 0));
    assert!(sent.stop.is_empty() && !sent.ignore_eos && !sent.echo);
}

#[tokio::test]
async fn chat_logprobs() {
    let plant = Plant::start(ScriptedLine::new(scored), |_| {}).await;
    let body = json!({
        "model": "scripted", "messages": [{"role": "user", "content": "Hi"}], "logprobs": true, "top_logprobs": 2
    });
    let value = post(plant.address, CHAT, &body).await.json();
    let content = value["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 3);
    assert_eq!(content[0]["token"], "\\xc3");
    assert_eq!(content[0]["bytes"], json!([0xC3]));
    assert_eq!(
        content[2],
        json!({
            "token": "!", "logprob": -1.0, "bytes": [33],
            "top_logprobs": [
                {"token": "!", "logprob": -1.0, "bytes": [33]},
                {"token": "zz", "logprob": -2.0, "bytes": [122, 122]}
            ]
        })
    );
}

#[tokio::test]
async fn echo_and_logprobs_of_a_completion() {
    let plant = Plant::start(ScriptedLine::new(scored), |_| {}).await;
    let mut body = json!({"model": "scripted", "prompt": [7, 8], "echo": true, "logprobs": 2, "n": 2});
    let answer = post(plant.address, COMPLETIONS, &body).await;
    let value = answer.json();
    assert_eq!(value["object"], "text_completion");
    assert_eq!(value["choices"][1]["text"], "日bé!");
    assert_eq!(value["choices"][1]["finish_reason"], "length");
    assert_eq!(
        value["choices"][1]["logprobs"],
        json!({
            "tokens": ["日", "b", "bytes:\\xc3", "bytes:\\xa9", "!"],
            "token_logprobs": [null, -2.0, -0.25, -0.5, -1.0],
            "top_logprobs": [
                null, {"b": -2.0, "zz": -3.0}, {"bytes:\\xc3": -0.25, "zz": -1.25}, {"bytes:\\xa9": -0.5, "zz": -1.5},
                {"!": -1.0, "zz": -2.0}
            ],
            "text_offset": [0, 1, 2, 3, 3]
        })
    );
    serde_json::from_slice::<Completion>(&answer.body).unwrap();
    assert_eq!(plant.line.last().prompt, Prompt::Ids(vec![7, 8]));
    assert_eq!(plant.line.last().sampling.logprobs, Some(2));
    body["return_tokens_as_token_ids"] = json!(true);
    let value = post(plant.address, COMPLETIONS, &body).await.json();
    assert_eq!(value["choices"][0]["logprobs"]["tokens"][2], "token_id:1");
    assert_eq!(value["choices"][0]["logprobs"]["top_logprobs"][2], json!({"token_id:1": -0.25, "token_id:9": -1.25}));
}

#[tokio::test]
async fn several_prompts_are_numbered_prompt_first() {
    let line = ScriptedLine::new(|generation| {
        let Prompt::Text(prompt) = &generation.prompt else { panic!("no text") };
        let mut events = vec![];
        for candidate in (0..generation.candidates).rev() {
            events.push(text(candidate, &format!("{prompt}{candidate}")));
            events.push(finished(candidate, FinishReason::Stop));
        }
        events.push(LineEvent::Done(record(), None));
        Script::Events(events)
    });
    let plant = Plant::start(line, |_| {}).await;
    let body = json!({"model": "scripted", "prompt": ["a", "b", "c"], "n": 2});
    let value = post(plant.address, COMPLETIONS, &body).await.json();
    let texts: Vec<_> = value["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| (choice["index"].as_u64().unwrap(), choice["text"].as_str().unwrap()))
        .collect();
    assert_eq!(texts, [(0, "a0"), (1, "a1"), (2, "b0"), (3, "b1"), (4, "c0"), (5, "c1")]);
    assert_eq!(value["usage"]["prompt_tokens"], 105);
    let ids: Vec<_> = plant.line.submitted.lock().unwrap().iter().map(|g| g.id.clone()).collect();
    assert!(ids[0].ends_with("-0") && ids[2].ends_with("-2"), "{ids:?}");
}

#[tokio::test]
async fn a_failure_under_way() {
    let line = ScriptedLine::new(|_| {
        let error = service::LineError::Internal { message: "the forward pass failed".into() };
        Script::Events(vec![text(0, "Hel"), LineEvent::Failed(error, record())])
    });
    let plant = Plant::start(line, |_| {}).await;
    let answer = post(plant.address, COMPLETIONS, &json!({"model": "scripted", "prompt": "a"})).await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (500, Some("internal_error")));
}

#[tokio::test]
async fn tokens_of_texts_and_chats() {
    let plant = Plant::hello().await;
    let tokenize = async |body: serde_json::Value| {
        let answer = post(plant.address, "/tokenize", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice::<TokenizeReply>(&answer.body).unwrap()
    };
    let reply = tokenize(json!({"prompt": "ab", "model": "scripted"})).await;
    assert_eq!((reply.count, reply.max_model_len, reply.tokens), (3, 2048, vec![1, 97, 98]));
    assert_eq!(reply.token_strs, None);
    let bare = json!({"prompt": "ab", "add_special_tokens": false, "return_token_strs": true, "parse_special": true});
    let reply = tokenize(bare).await;
    assert_eq!(reply.tokens, [97, 98, 2]);
    assert_eq!(reply.token_strs.unwrap(), ["a", "b", "\u{2}"]);
    let chat = json!({"messages": [{"role": "user", "content": "x"}], "return_token_strs": true});
    let reply = tokenize(chat.clone()).await;
    assert_eq!(reply.token_strs.unwrap().concat(), "<user>x<assistant>");
    let mut closed = chat;
    closed["add_generation_prompt"] = json!(false);
    assert_eq!(tokenize(closed).await.token_strs.unwrap().concat(), "<user>x");

    let answer = post(plant.address, "/detokenize", &json!({"tokens": [104, 105]})).await;
    assert_eq!(answer.json(), json!({"prompt": "hi"}));
    for (path, body, param) in [
        ("/detokenize", json!({"tokens": [256]}), "tokens[0]"),
        ("/detokenize", json!({"tokens": "x"}), "tokens"),
        ("/detokenize", json!({}), "tokens"),
        ("/tokenize", json!({}), "prompt"),
        ("/tokenize", json!({"prompt": "a", "messages": [{"role": "user", "content": "x"}]}), "prompt"),
        ("/tokenize", json!({"prompt": ["a"]}), "prompt"),
        ("/tokenize", json!({"prompt": "a", "add_generation_prompt": true}), "add_generation_prompt"),
        ("/tokenize", json!({"messages": [{"role": "user", "content": "x"}], "parse_special": true}), "parse_special"),
        ("/tokenize", json!({"prompt": "a", "add_special_token": true}), "add_special_token"),
    ] {
        let answer = post(plant.address, path, &body).await;
        assert_eq!((answer.status, answer.error().param.as_deref()), (400, Some(param)), "{body}");
    }
}

#[tokio::test]
async fn models_probes_metrics_and_description() {
    let plant = Plant::start(ScriptedLine::new(hello), |_| {}).await;
    let value = get(plant.address, "/v1/models").await.json();
    assert_eq!(value["object"], "list");
    let model = json!({
        "id": "scripted", "object": "model", "created": 1_700_000_000, "owned_by": "tokenworks",
        "loaded": true, "max_model_len": 2048, "aliases": ["other/name"]
    });
    assert_eq!(value["data"], json!([model]));
    for path in ["/v1/models/scripted", "/v1/models/other/name", "/v1/models/other%2Fname"] {
        assert_eq!(get(plant.address, path).await.json(), model, "{path}");
    }
    assert_eq!(get(plant.address, "/health").await.status, 200);
    assert_eq!(get(plant.address, "/ready").await.status, 200);
    let metrics = get(plant.address, "/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text().contains("vllm:num_requests_running{"), "{}", metrics.text());
    assert_eq!(get(plant.address, "/openapi.json").await.text(), server::openapi_json());
}
