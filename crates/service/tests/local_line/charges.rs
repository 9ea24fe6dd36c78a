//! What is charged is what was used, for every way to end, streamed or not.

use std::time::Duration;

use economics::price::Tier;
use inference::{Engine, TokenId};
use ledger::StoreSpec;
use metering::UsageRecord;
use service::{Generation, LineEvent, Prompt, Reply, Waits};

use crate::charged::{Charged, IN, OUT, flat, records};
use crate::plant::{END, PROMPT_LEN, Script, THINK, THOUGHT, byte_ids, word};

const CACHED: i64 = 2_000;
const REASONING: i64 = 50_000;

fn charged(script: Script) -> Charged {
    let rates = Tier {
        cached_input: Some("0.002 per 1K".parse().unwrap()),
        reasoning: Some("0.05 per 1K".parse().unwrap()),
        ..flat()
    };
    let folder = tempfile::tempdir().unwrap();
    let store = StoreSpec::Sqlite(folder.path().join("books.db"));
    Charged::with(script, records(rates, None), (folder, store), (Waits::default(), |_| {}))
}

/// By the test's own arithmetic.
fn price(record: &UsageRecord) -> i64 {
    let times = |tokens: u64, rate: i64| i64::try_from(tokens).unwrap() * rate;
    times(record.input_uncached_tokens, IN)
        + times(record.input_cached_tokens, CACHED)
        + times(record.output_tokens, OUT)
        + times(record.reasoning_tokens.unwrap_or(0), REASONING)
}

/// The record, the charge as told, and whether it failed.
async fn ended(reply: &mut Reply) -> (UsageRecord, Option<i64>, bool) {
    loop {
        match reply.next().await.unwrap() {
            LineEvent::Done(record, charge) => return (*record, charge.map(|charge| charge.total().0), false),
            LineEvent::Failed(_, record) => return (*record, None, true),
            _ => {}
        }
    }
}

/// Runs what `change` asks for, streamed and not, and compares; gives the last record.
async fn same(answer: &[TokenId], change: impl Fn(&mut Generation)) -> UsageRecord {
    let charged = charged(Script::new(PROMPT_LEN, answer));
    let mut last = None;
    for (number, streamed) in [(1, true), (2, false)] {
        let before = if number == 1 { 0 } else { charged.balance() };
        let mut asked = charged.asked(number, 12, streamed);
        change(&mut asked);
        let mut reply = charged.plant.submit(asked).await.unwrap();
        let (record, told, failed) = ended(&mut reply).await;
        assert!(!failed);
        assert_eq!((told, before - charged.balance()), (Some(price(&record)), price(&record)), "{streamed}");
        last = Some(record);
    }
    charged.check();
    last.unwrap()
}

#[tokio::test]
async fn every_good_end_is_charged_as_used() {
    let words = [word("ab"), word("bc"), word("XYZ")];
    let record = same(&words, |_| {}).await;
    assert_eq!(record.output_tokens, 12, "the end of max_tokens");
    let record = same(&[word("ab"), END], |_| {}).await;
    assert_eq!(record.output_tokens, 2, "the end token counts");
    let record = same(&words, |asked| asked.stop = vec!["bX".to_owned(), "cXYZ".to_owned()]).await;
    assert_eq!((record.output_tokens, record.output_dropped_tokens), (2, 1), "a token cut off whole costs nothing");
    let record = same(&[THINK, word("ab"), word("bc"), THOUGHT, END], |_| {}).await;
    assert_eq!((record.output_tokens, record.reasoning_tokens), (3, Some(2)));
    let record = same(&words, |asked| asked.candidates = 3).await;
    assert_eq!((record.prompt_tokens(), record.output_tokens), (4, 36), "one prompt for all candidates");
    let record = same(&words, |asked| {
        (asked.echo, asked.max_tokens, asked.sampling.logprobs) = (true, Some(0), Some(1));
    })
    .await;
    assert_eq!((record.prompt_tokens(), record.completion_tokens()), (4, 0), "a prompt that is only scored");
}

#[tokio::test]
async fn cached_tokens_are_charged_at_their_own_rate() {
    let long = |asked: &mut Generation| asked.prompt = Prompt::Ids(byte_ids(&"abcdefgh".repeat(10)));
    let record = same(&[], long).await;
    assert!(record.input_cached_tokens >= 64 && record.prompt_tokens() == 80, "{record:?}");
}

#[tokio::test]
async fn several_prompts_are_charged_one_by_one() {
    let charged = charged(Script::default());
    let mut replies = Vec::new();
    for number in 0..3 {
        let mut asked = charged.asked(1, 5, true);
        asked.id = format!("{}-{number}", asked.id);
        replies.push(charged.plant.submit(asked).await.unwrap());
    }
    let mut sum = 0;
    for reply in &mut replies {
        let (record, told, _) = ended(reply).await;
        assert_eq!(told, Some(price(&record)));
        sum += price(&record);
    }
    assert_eq!(charged.balance(), -sum);
    charged.check();
}

#[tokio::test]
async fn who_goes_away_pays_for_what_was_made() {
    for streamed in [true, false] {
        let script = Script { step: Duration::from_millis(1), ..Script::default() };
        let charged = charged(script);
        let mut reply = charged.plant.submit(charged.asked(1, 400, streamed)).await.unwrap();
        while !matches!(reply.next().await, Some(LineEvent::Text { .. })) {}
        reply.cancel();
        let (record, told, _) = ended(&mut reply).await;
        assert!(record.completion_tokens() > 0);
        assert_eq!((told, charged.balance()), (Some(price(&record)), -price(&record)));
        charged.check();
    }
}

#[tokio::test]
async fn a_failure_costs_what_was_delivered() {
    for streamed in [true, false] {
        let script = Script { fails_at: Some(9), step: Duration::from_millis(20), ..Script::default() };
        let charged = charged(script);
        let mut reply = charged.plant.submit(charged.asked(1, 50, streamed)).await.unwrap();
        let (record, _, failed) = ended(&mut reply).await;
        assert!(failed && record.completion_tokens() > 0);
        charged.check();
        let due = if streamed { price(&record) } else { 0 };
        assert_eq!(charged.balance(), -due, "{streamed}");
    }
}

#[tokio::test]
async fn a_failure_before_anything_was_read_costs_nothing_and_delivers_nothing() {
    let charged = charged(Script { fails_at: Some(9), ..Script::default() });
    let mut reply = charged.plant.submit(charged.asked(1, 50, true)).await.unwrap();
    charged.plant.until(|plant| plant.ended("failed") == 1).await;
    charged.check();
    assert!(matches!(reply.next().await, Some(LineEvent::Failed(..))), "nothing of what was made leaves any more");
    assert_eq!(charged.balance(), 0);
}

#[tokio::test]
async fn what_the_server_withdraws_costs_nothing() {
    let script = Script { step: Duration::from_millis(1), ..Script::default() };
    let charged = charged(script);
    let reply = charged.plant.submit(charged.asked(1, 50, false)).await.unwrap();
    charged.plant.until(|plant| plant.engine.gauges().kv_blocks_used > 0).await;
    reply.withdrawal().withdraw();
    drop(reply);
    charged.plant.until(|plant| plant.ended("cancelled") == 1).await;
    charged.check();
    assert_eq!(charged.balance(), 0);
}

#[tokio::test]
async fn what_the_server_withdraws_after_its_end_is_given_back() {
    let charged = charged(Script::default());
    let mut reply = charged.plant.submit(charged.asked(1, 5, false)).await.unwrap();
    let withdrawal = reply.withdrawal();
    let (record, told, _) = ended(&mut reply).await;
    assert_eq!((told, charged.balance()), (Some(price(&record)), -price(&record)));
    withdrawal.withdraw();
    charged.plant.until(|_| charged.balance() == 0).await;
    charged.check();
}

#[tokio::test]
async fn scores_are_noted_before_they_leave() {
    let script = Script { step: Duration::from_millis(5), ..Script::default() };
    let charged = charged(script);
    let mut asked = charged.asked(1, 200, true);
    (asked.echo, asked.sampling.logprobs) = (true, Some(1));
    let mut reply = charged.plant.submit(asked).await.unwrap();
    assert!(matches!(reply.next().await, Some(LineEvent::Echo { .. })));
    // What a process that starts now would find.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(charged.folder.path().join("journal")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let (_journal, recovery) = metering::Journal::open(copy.path(), Duration::from_millis(5)).unwrap();
    assert!(recovery.unfinished[0].progress.is_some());
}
