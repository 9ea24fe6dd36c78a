//! Server-sent events, and readers that leave or sleep.

use std::time::Duration;

use inference::FinishReason;
use protocol::{ChatCompletionChunk, Completion};
use serde_json::{Value, json};
use service::LineEvent;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{JSON, post, read_until, request};
use crate::plant::{Plant, Script, ScriptedLine, done, eventually, finished, record, text};
use crate::replies::scored;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn chat() -> Value {
    json!({"model": "scripted", "messages": [{"role": "user", "content": "Hi"}], "stream": true})
}

fn parsed(frames: &[String]) -> Vec<Value> {
    frames.iter().map(|frame| serde_json::from_str(frame).unwrap()).collect()
}

#[tokio::test]
async fn a_chat_stream() {
    let plant = Plant::hello().await;
    let mut body = chat();
    body["stream_options"] = json!({"include_usage": true});
    let answer = post(plant.address, CHAT, &body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
    let mut frames = answer.frames();
    assert_eq!(frames.pop().unwrap(), "[DONE]");
    for frame in &frames {
        serde_json::from_str::<ChatCompletionChunk>(frame).unwrap();
    }
    let chunks = parsed(&frames);
    let choices: Vec<_> = chunks.iter().map(|chunk| chunk["choices"].clone()).collect();
    let choice = |delta: Value, finish_reason: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}]);
    assert_eq!(
        choices,
        [
            choice(json!({"role": "assistant", "content": ""}), json!(null)),
            choice(json!({"content": "Hello"}), json!(null)),
            choice(json!({"content": " world"}), json!(null)),
            choice(json!({}), json!("stop")),
            json!([]),
        ]
    );
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["usage"]["total_tokens"], 37);
    assert_eq!(last["usage"]["completion_tokens_details"]["rejected_prediction_tokens"], 4);
    for chunk in others {
        assert_eq!(chunk.get("usage"), Some(&Value::Null));
        assert_eq!((&chunk["id"], &chunk["created"]), (&last["id"], &last["created"]));
        assert_eq!(chunk["object"], "chat.completion.chunk");
    }
}

#[tokio::test]
async fn without_include_usage_there_is_none() {
    let plant = Plant::hello().await;
    for (path, body) in [(CHAT, chat()), (COMPLETIONS, json!({"model": "scripted", "prompt": "a", "stream": true}))] {
        let mut frames = post(plant.address, path, &body).await.frames();
        assert_eq!(frames.pop().unwrap(), "[DONE]");
        for chunk in parsed(&frames) {
            assert!(chunk.get("usage").is_none(), "{chunk}");
            assert_eq!(chunk["choices"].as_array().unwrap().len(), 1, "{chunk}");
        }
    }
}

#[tokio::test]
async fn a_completion_stream_with_echo_and_several_prompts() {
    let plant = Plant::start(ScriptedLine::new(scored), |_| {}).await;
    let body = json!({
        "model": "scripted", "prompt": [[7], [8]], "n": 2, "echo": true, "logprobs": 1, "stream": true,
        "stream_options": {"include_usage": true}
    });
    let mut frames = post(plant.address, COMPLETIONS, &body).await.frames();
    assert_eq!(frames.pop().unwrap(), "[DONE]");
    let mut texts = vec![String::new(); 4];
    let mut offsets = vec![Vec::new(); 4];
    let mut ends = vec![0; 4];
    for frame in &frames {
        let chunk: Completion = serde_json::from_str(frame).unwrap();
        for choice in chunk.choices {
            let i = choice.index as usize;
            texts[i].push_str(&choice.text);
            offsets[i].extend(choice.logprobs.into_iter().flat_map(|logprobs| logprobs.text_offset));
            ends[i] += usize::from(choice.finish_reason.as_deref() == Some("length"));
        }
    }
    assert_eq!(texts, ["日bé!"; 4]);
    assert_eq!(offsets, vec![vec![0, 1, 2, 3, 3]; 4]);
    assert_eq!(ends, [1; 4]);
    let last: Completion = serde_json::from_str(frames.last().unwrap()).unwrap();
    assert_eq!(last.usage.unwrap().unwrap().prompt_tokens, 70);
}

#[tokio::test]
async fn a_failure_under_way_is_the_last_frame() {
    let line = ScriptedLine::new(|_| {
        let error = service::LineError::Internal { message: "the forward pass failed".into() };
        Script::Events(vec![text(0, "Hel"), LineEvent::Failed(error, record())])
    });
    let plant = Plant::start(line, |_| {}).await;
    let frames = post(plant.address, CHAT, &chat()).await.frames();
    let last: Value = serde_json::from_str(frames.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "internal_error");
    assert_eq!(frames.len(), 3);
}

#[tokio::test]
async fn an_answer_without_an_end_is_no_good_end() {
    let line = ScriptedLine::new(|_| Script::Events(vec![text(0, "Hel"), finished(0, FinishReason::Stop)]));
    let plant = Plant::start(line, |_| {}).await;
    let mut body = chat();
    body["n"] = json!(2);
    let frames = post(plant.address, CHAT, &body).await.frames();
    let last: Value = serde_json::from_str(frames.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "internal_error");
    body["stream"] = json!(false);
    assert_eq!(post(plant.address, CHAT, &body).await.status, 500);
}

#[tokio::test]
async fn frames_leave_as_they_are_made() {
    let plant = Plant::start(ScriptedLine::new(|_| Script::Hang(vec![text(0, "first")])), |_| {}).await;
    let mut stream = TcpStream::connect(plant.address).await.unwrap();
    let bytes = request("localhost", "POST", CHAT, &[JSON], chat().to_string().as_bytes());
    stream.write_all(&bytes).await.unwrap();
    read_until(&mut stream, "first").await;
    plant.line.feed(0, vec![text(0, "second")]);
    read_until(&mut stream, "second").await;
    plant.line.feed(0, vec![finished(0, FinishReason::Stop), done()]);
    read_until(&mut stream, "[DONE]").await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_work() {
    let plant = Plant::start(ScriptedLine::new(|_| Script::Hang(vec![])), |_| {}).await;
    let whole = json!({"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]});
    for (count, body) in [(1, chat()), (2, whole)] {
        let mut stream = TcpStream::connect(plant.address).await.unwrap();
        let bytes = request("localhost", "POST", CHAT, &[JSON], body.to_string().as_bytes());
        stream.write_all(&bytes).await.unwrap();
        eventually("submitted", || plant.line.submitted.lock().unwrap().len() == count).await;
        assert_eq!(plant.line.cancelled(), count - 1);
        // No token is on its way, so only the closed connection can tell.
        drop(stream);
        eventually("cancelled", || plant.line.cancelled() == count).await;
    }
}

#[tokio::test]
async fn a_reader_that_sleeps_is_cut_off() {
    let line = ScriptedLine::new(|_| Script::Hang((0..4000).map(|_| text(0, &"x".repeat(10_000))).collect()));
    let plant = Plant::start(line, |config| config.limits.reader_idle = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(plant.address).await.unwrap();
    let bytes = request("localhost", "POST", CHAT, &[JSON], chat().to_string().as_bytes());
    stream.write_all(&bytes).await.unwrap();
    read_until(&mut stream, "xxx").await;
    eventually("cancelled", || plant.line.cancelled() == 1).await;
    // The others are not held up by it.
    assert_eq!(crate::client::get(plant.address, "/v1/models").await.status, 200);
    drop(stream);
}

#[tokio::test]
async fn a_reader_that_waits_for_a_slow_model_is_not_cut_off() {
    let plant = Plant::start(ScriptedLine::new(|_| Script::Hang(vec![])), |config| {
        config.limits.reader_idle = Duration::from_millis(100);
    })
    .await;
    let mut stream = TcpStream::connect(plant.address).await.unwrap();
    let bytes = request("localhost", "POST", CHAT, &[JSON], chat().to_string().as_bytes());
    stream.write_all(&bytes).await.unwrap();
    read_until(&mut stream, "assistant").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(plant.line.cancelled(), 0);
    plant.line.feed(0, vec![text(0, "late"), finished(0, FinishReason::Stop), done()]);
    read_until(&mut stream, "[DONE]").await;
}
