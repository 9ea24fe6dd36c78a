//! What the line refuses, and how it says so.

use std::time::Duration;

use engine::EngineConfig;
use inference::Engine;
use service::{ErrorKind, Generation, Line, LineError, Message, Prompt};

use crate::plant::{CONTEXT_LEN, Plant, Script, TEMPLATE, VOCAB_SIZE, byte_ids, generation, word};

fn chat() -> Generation {
    let message = Message { role: "user".to_owned(), content: "hi".to_owned(), name: None };
    Generation { prompt: Prompt::Chat(vec![message]), ..generation(3) }
}

fn rejected(plant: &Plant, reason: &str) -> u64 {
    plant.metric(&format!("tokenworks_requests_rejected_total{{model=\"m\",reason=\"{reason}\"}}"))
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let config = EngineConfig { max_waiting: 1, max_running: 1, ..EngineConfig::default() };
    let plant = Plant::with(Script { step: Duration::from_millis(2), ..Script::default() }, config, None);
    let long = Generation { max_tokens: None, ..generation(1) };
    let running = plant.submit(long.clone()).await.unwrap();
    plant.until(|plant| plant.engine.gauges().running == 1).await;
    let waiting = plant.submit(long.clone()).await.unwrap();
    let error = plant.submit(long).await.unwrap_err();
    assert!(matches!(error, LineError::QueueFull { waiting: 1, .. }), "{error:?}");
    assert!(error.retry_after().is_some_and(|after| after >= Duration::from_secs(1)));
    assert_eq!(rejected(&plant, "queue_full"), 1);
    drop((running, waiting));
    plant.idle().await;
    plant.until(|plant| plant.ended("cancelled") == 2).await;
    assert_eq!(plant.run(generation(1)).await.text(0), "!");
}

#[tokio::test]
async fn a_model_without_template_says_so() {
    let plant = Plant::with(Script::default(), EngineConfig::default(), None);
    let error = plant.submit(chat()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoChatTemplate);
    assert!(error.to_string().contains("chat template") && error.to_string().contains("'m'"), "{error}");
    assert!(!plant.line.card().has_chat_template);
    assert_eq!(plant.line.tokenize_chat(vec![], true).await.unwrap_err().kind(), ErrorKind::NoChatTemplate);
}

#[tokio::test]
async fn a_failing_template_is_the_requests_failure_only() {
    let source = "{% if messages[0].content == 'hi' %}{{ raise_exception('no greetings') }}{% endif %}ok";
    let plant = Plant::with(Script::default(), EngineConfig::default(), Some(source));
    let error = plant.submit(chat()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TemplateFailed);
    assert!(error.to_string().contains("no greetings"), "{error}");
    // Long messages are rendered on another thread, with the same outcome.
    let mut long = chat();
    if let Prompt::Chat(messages) = &mut long.prompt {
        messages.push(Message { content: "x".repeat(10_000), ..messages[0].clone() });
    }
    assert_eq!(plant.submit(long).await.unwrap_err().kind(), ErrorKind::TemplateFailed);
    let mut other = chat();
    other.prompt = Prompt::Chat(vec![Message { role: "user".into(), content: "bye".into(), name: None }]);
    assert_eq!(plant.run(other).await.text(0), "!!!");
}

#[tokio::test]
async fn a_template_without_end_is_stopped() {
    let source = "{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}{% endfor %}\
                  {% endfor %}{% endfor %}";
    let plant = Plant::with(Script::default(), EngineConfig::default(), Some(source));
    assert_eq!(plant.submit(chat()).await.unwrap_err().kind(), ErrorKind::TemplateFailed);
}

#[tokio::test]
async fn a_prompt_that_fills_the_context_names_both_numbers() {
    let plant = Plant::new(Script::default());
    for len in [CONTEXT_LEN, CONTEXT_LEN + 1] {
        let asked = Generation { prompt: Prompt::Ids(vec![word("ab"); len]), ..generation(1) };
        let error = plant.submit(asked).await.unwrap_err();
        assert_eq!(error, LineError::ContextFull { prompt_tokens: len, context_len: CONTEXT_LEN });
        assert!(error.to_string().contains(&len.to_string()) && error.to_string().contains(&CONTEXT_LEN.to_string()));
    }
    // Scoring it alone fits.
    let asked = Generation { prompt: Prompt::Ids(vec![word("ab"); CONTEXT_LEN]), echo: true, ..generation(0) };
    assert_eq!(plant.run(asked).await.record.prompt_tokens(), CONTEXT_LEN as u64);
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let plant = Plant::with(Script::default(), EngineConfig::default(), Some(TEMPLATE));
    type Change = fn(&mut Generation);
    let changes: [(&str, Change); 21] = [
        ("prompt", |g| g.prompt = Prompt::Text("a".repeat((1 << 20) + 1))),
        ("prompt", |g| g.prompt = Prompt::Ids(Vec::new())),
        ("prompt", |g| g.prompt = Prompt::Ids(vec![u32::try_from(VOCAB_SIZE).unwrap()])),
        ("messages", |g| g.prompt = Prompt::Chat(Vec::new())),
        ("max_tokens", |g| g.max_tokens = Some(0)),
        ("n", |g| g.candidates = 0),
        ("n", |g| g.candidates = 1000),
        ("stop", |g| g.stop = vec![String::new()]),
        ("stop", |g| g.stop = vec!["a".to_owned(); 17]),
        ("stop", |g| g.stop = vec!["a".repeat(2000)]),
        ("temperature", |g| g.sampling.temperature = f32::NAN),
        ("temperature", |g| g.sampling.temperature = -1.0),
        ("top_p", |g| g.sampling.top_p = 0.0),
        ("top_p", |g| g.sampling.top_p = 1.5),
        ("min_p", |g| g.sampling.min_p = f32::INFINITY),
        ("repetition_penalty", |g| g.sampling.repetition_penalty = 0.0),
        ("frequency_penalty", |g| g.sampling.frequency_penalty = f32::NAN),
        ("logit_bias", |g| g.sampling.logit_bias = vec![(99_999, 1.0)]),
        ("logit_bias", |g| g.sampling.logit_bias = vec![(1, f32::NAN)]),
        ("logprobs", |g| g.sampling.logprobs = Some(21)),
        ("echo", |g| {
            *g = chat();
            g.echo = true;
        }),
    ];
    for (count, (field, change)) in (1..).zip(changes) {
        let mut asked = generation(3);
        change(&mut asked);
        let error = plant.submit(asked).await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some(field)), "{error}");
        assert_eq!(rejected(&plant, "invalid"), count);
    }
    assert_eq!(plant.engine.counters().requests, 0);
    assert_eq!(plant.ended("failed") + plant.ended("ok"), 0);
}

#[tokio::test]
async fn a_closed_line_finishes_what_it_has() {
    let plant = Plant::new(Script { step: Duration::from_millis(1), ..Script::default() });
    let mut reply = plant.submit(generation(30)).await.unwrap();
    assert!(plant.line.status().ready);
    plant.line.close();
    assert!(!plant.line.status().ready);
    assert_eq!(plant.submit(generation(1)).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(rejected(&plant, "closed"), 1);
    assert_eq!(crate::plant::Answer::read(&mut reply).await.text(0).len(), 30);
    assert_eq!(plant.line.status().line_gauges("m").kv_blocks_total, plant.engine.limits().kv_blocks as u64);
}

#[tokio::test]
async fn ids_are_taken_as_they_are() {
    let plant = Plant::new(Script::default());
    let asked = Generation { prompt: Prompt::Ids(byte_ids("</s>")), ..generation(1) };
    assert_eq!(plant.run(asked).await.record.prompt_tokens(), 4);
}
