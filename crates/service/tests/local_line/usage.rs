//! Usage: settled once for each request, whatever becomes of it and of its reader.

use std::time::{Duration, Instant};

use inference::{Engine, FinishReason};
use metering::Outcome;
use service::{ErrorKind, Line, LineEvent};

use crate::plant::{Answer, END, PROMPT_LEN, Plant, Script, THINK, THOUGHT, generation, word};

fn slow() -> Script {
    Script { step: Duration::from_millis(2), ..Script::default() }
}

#[tokio::test]
async fn the_record_is_what_the_meter_counts() {
    let plant = Plant::new(Script::new(PROMPT_LEN, &[word("ab"), word("bc"), END]));
    let record = plant.run(generation(10)).await.record;
    assert_eq!(
        (record.request_id.as_str(), record.model.as_str(), record.route.as_str()),
        ("cmpl-1", "m", "/v1/completions")
    );
    assert_eq!((record.key.as_deref(), record.user.as_deref()), (Some("k"), Some("u")));
    assert_eq!((record.outcome, record.finish_reasons.as_slice()), (Outcome::Ok, &[metering::FinishReason::Stop][..]));
    assert_eq!((record.prompt_tokens(), record.output_tokens, record.gap_count), (4, 3, 2));
    assert!(record.ttft_ns.is_some_and(|ttft| ttft <= record.e2e_ns) && record.kv_block_ns > 0);
    assert!(record.reasoning_tokens == Some(0) && record.gap_lengths.values().sum::<u64>() == 2);
    assert_eq!(plant.ended("ok"), 1);
    assert_eq!(plant.metric("vllm:prompt_tokens_total{model_name=\"m\"}"), 4);
    assert_eq!(plant.metric("vllm:generation_tokens_total{model_name=\"m\"}"), 3);
    assert_eq!(plant.metric("vllm:request_success_total{model_name=\"m\",finished_reason=\"stop\"}"), 1);
    assert_eq!(plant.metric("vllm:inter_token_latency_seconds_count{model_name=\"m\"}"), 2);
}

#[tokio::test]
async fn dropping_the_reply_frees_the_blocks_and_is_counted() {
    let plant = Plant::new(slow());
    let mut asked = generation(1);
    asked.max_tokens = None;
    let mut reply = plant.submit(asked.clone()).await.unwrap();
    assert!(matches!(reply.next().await, Some(LineEvent::Text { .. })));
    plant.until(|plant| plant.engine.gauges().kv_blocks_used > 0).await;
    drop(reply);
    plant.idle().await;
    plant.until(|plant| plant.ended("cancelled") == 1).await;
    // Never read at all.
    drop(plant.submit(asked).await.unwrap());
    plant.idle().await;
    plant.until(|plant| plant.ended("cancelled") == 2).await;
    plant.engine.shutdown(Instant::now());
    assert_eq!((plant.ended("ok"), plant.ended("cancelled"), plant.ended("failed")), (0, 2, 0));
    assert_eq!(plant.metric("tokenworks_request_duration_seconds_count{model=\"m\"}"), 2);
}

#[tokio::test]
async fn a_reader_that_cancels_still_gets_the_record() {
    let plant = Plant::new(slow());
    let mut asked = generation(1);
    asked.max_tokens = None;
    let mut reply = plant.submit(asked).await.unwrap();
    reply.next().await.unwrap();
    reply.cancel();
    let answer = Answer::read(&mut reply).await;
    assert_eq!((answer.ends[&0], answer.record.outcome), (FinishReason::Cancelled, Outcome::Cancelled));
    assert!(answer.record.output_tokens > 0);
    drop(reply);
    assert_eq!(plant.ended("cancelled"), 1);
}

#[tokio::test]
async fn a_reader_that_reads_late_is_not_waited_for() {
    let plant = Plant::new(Script::default());
    let mut reply = plant.submit(generation(50)).await.unwrap();
    plant.until(|plant| plant.ended("ok") == 1).await;
    let answer = Answer::read(&mut reply).await;
    assert_eq!((answer.text(0).len(), answer.record.output_tokens), (50, 50));
    assert_eq!(plant.ended("ok"), 1);
}

#[tokio::test]
async fn a_failed_pass_is_counted_as_failed() {
    let plant = Plant::new(Script { fails_at: Some(6), ..Script::default() });
    let answer = plant.run(generation(20)).await;
    let failure = answer.failure.unwrap();
    assert!(failure.kind() == ErrorKind::Internal && failure.to_string().contains("out of ink"), "{failure}");
    assert_eq!((answer.record.outcome, answer.record.output_tokens), (Outcome::Failed, 3));
    assert_eq!(answer.record.finish_reasons, [metering::FinishReason::Failed]);
    assert_eq!((plant.ended("failed"), plant.ended("ok")), (1, 0));
    // The line goes on.
    assert_eq!(plant.run(generation(2)).await.text(0), "!!");
}

#[tokio::test]
async fn a_shutdown_fails_what_is_left() {
    let plant = Plant::new(slow());
    let mut asked = generation(1);
    asked.max_tokens = None;
    let mut reply = plant.submit(asked).await.unwrap();
    reply.next().await.unwrap();
    let engine = std::sync::Arc::clone(&plant.engine);
    tokio::task::spawn_blocking(move || engine.shutdown(Instant::now())).await.unwrap();
    let answer = Answer::read(&mut reply).await;
    assert_eq!(answer.failure.map(|failure| failure.kind()), Some(ErrorKind::Closed));
    assert_eq!(plant.ended("failed"), 1);
    assert_eq!(plant.submit(generation(1)).await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(!plant.line.status().ready);
}

#[tokio::test]
async fn reasoning_tokens_are_those_between_the_markers() {
    let answer = [word("ab"), THINK, word("ab"), word("bc"), THOUGHT, word("XYZ"), END];
    let plant = Plant::new(Script::new(PROMPT_LEN, &answer));
    let mut asked = generation(20);
    asked.candidates = 2;
    let record = plant.run(asked.clone()).await.record;
    assert_eq!((record.reasoning_tokens, record.output_tokens), (Some(4), 10));
    assert_eq!(record.completion_tokens(), 14);
    // A stop string inside: what it cut off is neither.
    asked.candidates = 1;
    asked.stop = vec!["bbc".to_owned()];
    let record = plant.run(asked).await.record;
    assert_eq!((record.reasoning_tokens, record.output_tokens, record.output_dropped_tokens), (Some(1), 2, 1));
}

#[tokio::test]
async fn a_prompt_may_end_inside_reasoning() {
    let plant = Plant::new(Script::new(3, &[word("ab"), word("bc"), THOUGHT, word("XYZ"), END]));
    let mut asked = generation(20);
    asked.prompt = service::Prompt::Ids(vec![word("ab"), THINK, word("ab")]);
    let record = plant.run(asked.clone()).await.record;
    assert_eq!((record.reasoning_tokens, record.output_tokens), (Some(2), 3));
    asked.prompt = service::Prompt::Ids(vec![THINK, THOUGHT, word("ab")]);
    assert_eq!(plant.run(asked).await.record.reasoning_tokens, Some(0));
}

#[tokio::test]
async fn long_words_of_the_caller_are_cut() {
    let plant = Plant::new(Script::default());
    let mut asked = generation(1);
    asked.labels.user = Some("é".repeat(100_000));
    let user = plant.run(asked).await.record.user.unwrap();
    assert!(user.len() < 300 && user.starts_with('é'));
}
