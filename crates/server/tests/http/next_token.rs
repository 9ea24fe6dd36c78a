//! The next token's distribution, and how tokens come about: against completions, the sampler's settings, and the books.

use engine::EngineConfig;
use serde_json::{Value, json};

use crate::books::Shop;
use crate::client::post;
use crate::local::{Tiny, start};
use crate::plant::Plant;

const NEXT: &str = "/v1/next-token";

async fn tiny() -> Tiny {
    start(EngineConfig::default(), true).await
}

/// The answer to a prompt of these ids under some settings; each distribution adds up.
async fn ask(tiny: &Tiny, settings: Value) -> Value {
    let mut body = json!({"model": "tiny", "prompt": [5, 6, 7, 8]});
    body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let answer = post(tiny.address, NEXT, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    for of in ["raw", "drawn"] {
        let rest = answer["rest"][of].as_f64().unwrap();
        assert!((sum(&answer, of) + rest - 1.0).abs() < 1e-9, "{of}: {answer}");
    }
    answer
}

fn tokens(answer: &Value) -> &[Value] {
    answer["tokens"].as_array().unwrap()
}

fn sum(answer: &Value, of: &str) -> f64 {
    tokens(answer).iter().map(|token| token[of].as_f64().unwrap()).sum()
}

/// The ids that can be drawn.
fn possible(answer: &Value) -> Vec<u64> {
    let can = |token: &&Value| token["drawn"].as_f64().unwrap() > 0.0;
    tokens(answer).iter().filter(can).map(|token| token["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn raw_probabilities_are_those_of_completions() {
    let tiny = tiny().await;
    let answer = ask(&tiny, json!({"temperature": 0.5, "top_k": 3})).await;
    let body = json!({"model": "tiny", "prompt": [5, 6, 7, 8], "max_tokens": 1, "logprobs": 20, "return_tokens_as_token_ids": true});
    let completion = post(tiny.address, "/v1/completions", &body).await.json();
    let top = completion["choices"][0]["logprobs"]["top_logprobs"][0].as_object().unwrap();
    assert_eq!(top.len(), 20, "{completion}");
    for token in &tokens(&answer)[..20] {
        let logprob = top[&format!("token_id:{}", token["id"])].as_f64().unwrap();
        assert!((token["raw"].as_f64().unwrap().ln() - logprob).abs() < 1e-5, "{token}: {logprob}");
    }
    assert_eq!(answer["object"], "next_token");
    assert!(answer["id"].as_str().unwrap().starts_with("next-"));
    assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]), (&json!(4), &json!(1)));
    let vocabulary = tiny.line.card().vocab_size;
    assert_eq!(answer["rest"]["tokens"], json!(vocabulary - tokens(&answer).len()));
    let bytes: Vec<u8> = serde_json::from_value(answer["tokens"][0]["bytes"].clone()).unwrap();
    let written = tiny.line.detokenize(&[u32::try_from(answer["tokens"][0]["id"].as_u64().unwrap()).unwrap()]).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), written);
    // A chat is a prompt too.
    let body = json!({"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "best": 2});
    let chat = post(tiny.address, NEXT, &body).await.json();
    assert_eq!(tokens(&chat).len(), 2, "{chat}");
}

#[tokio::test]
async fn settings_change_what_can_be_drawn() {
    let tiny = tiny().await;
    let plain = ask(&tiny, json!({})).await;
    for token in tokens(&plain) {
        assert!((token["raw"].as_f64().unwrap() - token["drawn"].as_f64().unwrap()).abs() < 1e-6, "{token}");
    }
    let best = plain["tokens"][0]["id"].as_u64().unwrap();
    for settings in [json!({"temperature": 0}), json!({"top_k": 1}), json!({"top_p": 1e-9}), json!({"min_p": 1})] {
        let one = ask(&tiny, settings.clone()).await;
        assert_eq!(
            (possible(&one), &one["possible"], &one["drawn"]["id"]),
            (vec![best], &json!(1), &json!(best)),
            "{settings}"
        );
        assert_eq!((&one["tokens"][0]["drawn"], &one["rest"]["drawn"]), (&json!(1.0), &json!(0.0)));
        assert_eq!(one["tokens"][0]["raw"], plain["tokens"][0]["raw"], "settings leave the raw ones alone");
    }
    assert_eq!(possible(&ask(&tiny, json!({"top_k": 7})).await).len(), 7);
    let half = ask(&tiny, json!({"top_p": 0.5})).await;
    let kept = possible(&half).len();
    let raw = |count: usize| tokens(&half)[..count].iter().map(|token| token["raw"].as_f64().unwrap()).sum::<f64>();
    assert!(raw(kept) + 1e-6 >= 0.5 && raw(kept - 1) < 0.5 + 1e-6, "the fewest that reach a half: {kept}");
    let cold = ask(&tiny, json!({"temperature": 0.2})).await;
    assert!(cold["tokens"][0]["drawn"].as_f64() > plain["tokens"][0]["drawn"].as_f64());

    // Penalties go by what was made: not by the prompt, but by an answer that is there already.
    let penalty = json!({"presence_penalty": 2, "frequency_penalty": 2});
    let prompted = json!({"prompt": [5, 6, 7, 8, best]});
    let merged = |parts: [&Value; 2]| {
        let all = parts.iter().flat_map(|part| part.as_object().unwrap().clone());
        Value::Object(all.collect())
    };
    let (unmade, made) = (
        ask(&tiny, merged([&penalty, &prompted])).await,
        ask(&tiny, merged([&penalty, &json!({"answer_tokens": [best]})])).await,
    );
    let of = |answer: &Value, what: &str| {
        tokens(answer).iter().find(|token| token["id"] == best).unwrap()[what].as_f64().unwrap()
    };
    assert!((of(&unmade, "raw") - of(&made, "raw")).abs() < 1e-9, "the same tokens stand before");
    assert!((of(&unmade, "drawn") - of(&unmade, "raw")).abs() < 1e-6);
    let odds = |answer: &Value, what: &str| of(answer, what) / (1.0 - of(answer, what));
    assert!((odds(&made, "raw").ln() - odds(&made, "drawn").ln() - 4.0).abs() < 1e-3, "less by 2 + 2 * 1 in logits");
    assert_eq!(made["usage"]["prompt_tokens"], 5);
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let tiny = tiny().await;
    for (change, param) in [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": 5}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [1_000_000]}), "prompt[0]"),
        (json!({"messages": [{"role": "user", "content": "both"}]}), "prompt"),
        (json!({"answer_tokens": "text"}), "answer_tokens"),
        (json!({"answer_tokens": [0, -1]}), "answer_tokens[1]"),
        (json!({"best": 0}), "best"),
        (json!({"best": 257}), "best"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"stream": true}), "stream"),
        (json!({"n": 2}), "n"),
        (json!({"max_tokens": 4}), "max_tokens"),
        (json!({"sampling": 1}), "sampling"),
    ] {
        let mut body = json!({"model": "tiny", "prompt": "hello"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = post(tiny.address, NEXT, &body).await;
        assert_eq!((answer.status, answer.error().param.as_deref()), (400, Some(param)), "{body}: {}", answer.text());
    }
}

#[tokio::test]
async fn the_books_charge_it_and_quote_input() {
    let shop = Shop::open(true).await;
    let key = shop.customer().await;
    shop.admin("POST", "/payments", json!({"organisation": "acme", "amount": "1", "reference": "p1"})).await;
    let body = json!({"model": "tiny", "prompt": [5, 6, 7, 8], "best": 3});
    let answer = shop.ask(&key, "POST", NEXT, &body).await.json();
    // Four tokens at 10 per million, one at 30.
    assert_eq!(answer["usage"]["charged"]["amount"], "0.00007", "{answer}");
    let usage = shop.ask(&key, "GET", "/v1/usage", &Value::Null).await.json();
    let sums = &usage["data"][0]["sums"];
    assert_eq!((&sums["list"], &sums["quantities"]["out_visible"]), (&json!("0.00007"), &json!(1)), "{usage}");
    let body = json!({"model": "tiny", "prompt": "hello world", "price": true, "return_token_bytes": true});
    let told = shop.ask(&key, "POST", "/tokenize", &body).await.json();
    let count = told["count"].as_u64().unwrap();
    assert_eq!(told["token_bytes"].as_array().unwrap().len() as u64, count);
    let amount: f64 = told["price"]["amount"].as_str().unwrap().parse().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let exact = count as f64 * 1e-5;
    assert!((amount - exact).abs() < 1e-12, "{told}");
    assert_eq!((&told["price"]["rate"], &told["price"]["list"]), (&json!("10 per 1M"), &json!("standard")));
    // Who may not ask, or has no money, gets no distribution.
    assert_eq!(shop.ask("tw-wrong", "POST", NEXT, &json!({"model": "tiny", "prompt": "a"})).await.status, 401);
}

#[tokio::test]
async fn merges_are_told_or_why_there_are_none() {
    let tiny = tiny().await;
    let text = "hello world";
    let told =
        post(tiny.address, "/tokenize", &json!({"prompt": text, "merges": true, "add_special_tokens": false})).await;
    let told = told.json();
    let words = told["merges"]["words"].as_array().unwrap();
    let ids: Vec<Value> = words.iter().flat_map(|word| word["tokens"].as_array().unwrap().clone()).collect();
    assert_eq!(json!(ids), told["tokens"], "{told}");
    assert_eq!(told["merges"]["none_because"], Value::Null);
    assert!(told["price"].is_null() && told.get("token_bytes").is_none());
    let long = post(tiny.address, "/tokenize", &json!({"prompt": "a".repeat(513), "merges": true})).await;
    assert_eq!((long.status, long.error().param.as_deref()), (400, Some("merges")));
    let chat = json!({"messages": [{"role": "user", "content": "hello"}], "merges": true});
    assert_eq!(post(tiny.address, "/tokenize", &chat).await.error().param.as_deref(), Some("merges"));
    let scripted = Plant::hello().await;
    let none = post(scripted.address, "/tokenize", &json!({"prompt": "#", "merges": true})).await.json();
    assert_eq!(none["merges"]["words"], json!([]));
    assert!(none["merges"]["none_because"].as_str().unwrap().contains("WordPiece merges nothing"), "{none}");
    let body = json!({"model": "scripted", "prompt": "hi"});
    assert_eq!(post(scripted.address, NEXT, &body).await.status, 500, "a line that reports no distribution");
}
