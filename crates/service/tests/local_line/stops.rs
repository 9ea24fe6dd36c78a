//! Stop strings through the engine: the step that completes them is the last one.

use inference::FinishReason;

use crate::plant::{PROMPT_LEN, Plant, Script, byte_ids, generation, word};

fn script() -> Script {
    let mut answer: Vec<_> = ["Hello", "▁wor", "ld", "!", "▁more"].map(word).to_vec();
    answer.extend(byte_ids("🙂"));
    answer.extend([word("XYZ"), word("é")]);
    Script::new(PROMPT_LEN, &answer)
}

#[tokio::test]
async fn the_step_that_completes_a_stop_string_is_the_last() {
    // Stop strings; the text; tokens billed and dropped.
    for (stops, text, billed, dropped) in [
        (vec!["world"], "Hello ", 2, 1),
        (vec![" world"], "Hello", 1, 2),
        (vec!["Hello"], "", 0, 1),
        (vec!["Hello world!"], "", 0, 4),
        (vec!["ell"], "H", 1, 0),
        (vec!["zzz", "o w", "wor"], "Hell", 1, 1),
        (vec!["rld!", "ld"], "Hello wor", 2, 1),
        (vec!["🙂"], "Hello world! more", 5, 4),
        (vec!["YZ"], "Hello world! more🙂X", 10, 0),
        (vec!["\u{1f642}X"], "Hello world! more", 5, 5),
        (vec!["Zé"], "Hello world! more🙂XY", 10, 1),
    ] {
        let plant = Plant::new(script());
        let mut asked = generation(100);
        asked.stop = stops.iter().map(|&stop| stop.to_owned()).collect();
        asked.sampling.logprobs = Some(0);
        let answer = plant.run(asked).await;
        assert_eq!(answer.text(0), text, "{stops:?}");
        assert_eq!(answer.ends[&0], FinishReason::Stop);
        let record = &answer.record;
        assert_eq!((record.output_tokens, record.output_dropped_tokens), (billed, dropped), "{stops:?}");
        let tokens = answer.tokens.get(&0).cloned().unwrap_or_default();
        assert_eq!(tokens.len() as u64, billed, "tokens reported and billed are the same");
        let bytes: Vec<u8> = tokens.into_iter().flat_map(|token| token.bytes).collect();
        assert_eq!(bytes, text.as_bytes());
        plant.idle().await;
    }
}

#[tokio::test]
async fn text_that_was_no_stop_comes_out_at_the_end() {
    let plant = Plant::new(script());
    let mut asked = generation(2);
    asked.stop = vec![" world".to_owned()];
    let answer = plant.run(asked).await;
    assert_eq!((answer.text(0).as_str(), answer.ends[&0]), ("Hello wor", FinishReason::Length));
    assert_eq!(answer.chunks[&0], ["Hello", " wor"]);
}

#[tokio::test]
async fn special_tokens_are_no_part_of_a_stop_string() {
    let plant = Plant::new(Script::new(PROMPT_LEN, &[word("Hello"), crate::plant::THINK, word("▁wor"), word("ld")]));
    let mut asked = generation(50);
    asked.stop = vec!["think".to_owned(), "o wor".to_owned()];
    let answer = plant.run(asked).await;
    assert_eq!(answer.text(0), "Hell");
    assert_eq!(answer.record.output_dropped_tokens, 2);
}

#[tokio::test]
async fn a_stop_string_ends_only_its_own_candidate() {
    let plant = Plant::new(script());
    let mut asked = generation(8);
    asked.candidates = 3;
    asked.sampling.temperature = 1.5;
    asked.sampling.seed = Some(3);
    asked.stop = vec!["world".to_owned()];
    let answer = plant.run(asked).await;
    assert_eq!(answer.ends.len(), 3);
    for (candidate, reason) in &answer.ends {
        assert!(!answer.text(*candidate).contains("world"), "{answer:?}");
        assert_ne!(*reason, FinishReason::Cancelled);
    }
    assert_eq!(answer.record.finish_reasons.len(), 3);
    plant.idle().await;
}
