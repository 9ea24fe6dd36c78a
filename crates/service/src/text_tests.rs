//! Stop strings and delivery against a naive search over the whole text, for random texts, tokenizations and stop sets.

use std::borrow::Cow;
use std::sync::Arc;

use inference::{Control, TokenId, Verdict};
use proptest::prelude::*;

use crate::TokenText;
use crate::delivery::{Chunk, Delivery};
use crate::pieces::Pieces;
use crate::stop::{StopControl, StopSet};

/// Token `i` is the `i`-th piece.
struct Table(Vec<Vec<u8>>);

impl Pieces for Table {
    fn answer_bytes(&self, id: TokenId) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.0[id as usize])
    }

    fn written_bytes(&self, id: TokenId) -> Cow<'_, [u8]> {
        self.answer_bytes(id)
    }
}

/// What came of one candidate.
#[derive(Debug, PartialEq)]
struct Run {
    /// Tokens made: all, or up to the one that completed a stop string.
    made: usize,
    dropped: usize,
    text: String,
    /// Bytes of the tokens reported.
    tokens: Vec<Vec<u8>>,
    /// Text that was out after each token.
    progress: Vec<String>,
}

fn token(id: usize) -> TokenText {
    TokenText { id: TokenId::try_from(id).unwrap(), bytes: Vec::new(), logprob: None, top: Vec::new() }
}

/// Runs pieces through control and delivery as engine and reader do.
fn run(pieces: &[Vec<u8>], stops: &[String]) -> Run {
    let set = Arc::new(StopSet::new(stops));
    let table: Arc<dyn Pieces> = Arc::new(Table(pieces.to_vec()));
    let mut control = StopControl::new(table, Arc::clone(&set));
    let mut delivery = Delivery::new(set);
    let mut run = Run { made: 0, dropped: 0, text: String::new(), tokens: Vec::new(), progress: Vec::new() };
    let take = |run: &mut Run, chunk: Chunk| {
        run.text.push_str(&chunk.text);
        run.tokens.extend(chunk.tokens.into_iter().map(|token| token.bytes));
    };
    for (id, piece) in pieces.iter().enumerate() {
        run.made += 1;
        take(&mut run, delivery.push(piece, Some(token(id))));
        run.progress.push(run.text.clone());
        if let Verdict::Stop { drop } = control.commit(TokenId::try_from(id).unwrap()) {
            run.dropped = drop as usize;
            break;
        }
    }
    take(&mut run, delivery.finish());
    run
}

/// The first end of a stop string in the text, and where the longest one that ends there begins.
fn naive_stop(text: &[u8], stops: &[String]) -> Option<(usize, usize)> {
    (1..=text.len()).find_map(|end| {
        let longest = stops.iter().filter(|stop| text[..end].ends_with(stop.as_bytes())).map(String::len).max()?;
        Some((end - longest, end))
    })
}

/// Whole characters of a text that may go on: what stands before a character under way and before a part that could
/// still become a stop string.
fn naive_progress(text: &[u8], stops: &[String]) -> String {
    let could_become = |len: usize| stops.iter().any(|stop| stop.as_bytes().starts_with(&text[text.len() - len..]));
    let held = (1..=text.len()).rev().find(|&len| could_become(len)).unwrap_or(0);
    let safe = &text[..text.len() - held];
    let under_way = (1..=safe.len().min(3)).find(|&len| {
        let tail = &safe[safe.len() - len..];
        std::str::from_utf8(tail).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    });
    String::from_utf8_lossy(&safe[..safe.len() - under_way.unwrap_or(0)]).into_owned()
}

fn check(pieces: &[Vec<u8>], stops: &[String]) {
    let text = pieces.concat();
    let stop = naive_stop(&text, stops);
    let run = run(pieces, stops);

    let starts: Vec<usize> = pieces
        .iter()
        .scan(0, |sum, piece| {
            *sum += piece.len();
            Some(*sum - piece.len())
        })
        .collect();
    let made = match stop {
        Some((_, end)) => (0..pieces.len()).find(|&i| starts[i] + pieces[i].len() >= end).unwrap() + 1,
        None => pieces.len(),
    };
    assert_eq!(run.made, made, "the step that completes the stop string");
    let kept = stop.map_or(text.as_slice(), |(start, _)| &text[..start]);
    assert_eq!(run.text, String::from_utf8_lossy(kept));
    let dropped = stop.map_or(0, |(start, _)| {
        // A token without bytes right before the first byte cut off stays.
        let first = (0..made).find(|&i| starts[i] > start || (starts[i] == start && !pieces[i].is_empty()));
        first.map_or(0, |first| made - first)
    });
    assert_eq!(run.dropped, dropped);
    assert_eq!(run.tokens.len() + run.dropped, made, "every token is either reported or dropped");
    assert_eq!(run.tokens.concat(), kept, "the tokens' bytes are the text");
    let before_stop = if stop.is_some() { made - 1 } else { made };
    for i in 0..before_stop {
        let so_far = &text[..starts[i] + pieces[i].len()];
        assert_eq!(run.progress[i], naive_progress(so_far, stops), "after token {i}");
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn bytes(pieces: &[&str]) -> Vec<Vec<u8>> {
    pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_a_naive_search(
        pieces in prop::collection::vec(
            prop_oneof![
                8 => "[abé🦀]{1,4}".prop_map(String::into_bytes),
                // Byte tokens: parts of characters, whole only together or never.
                4 => prop::sample::select(vec![0xf0, 0x9f, 0xa6, 0x80, 0xc3, 0xa9]).prop_map(|byte| vec![byte]),
                1 => Just(Vec::new()),
            ],
            0..24,
        ),
        stops in prop::collection::vec("[abé🦀]{1,5}", 0..4),
    ) {
        check(&pieces, &stops);
    }

    #[test]
    fn any_cut_into_tokens_gives_the_same_text(
        text in "[abcé🦀]{0,40}",
        cuts in prop::collection::vec(0_usize..200, 0..40),
        stops in prop::collection::vec("[abcé🦀]{1,4}", 1..4),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<Vec<u8>> = cuts.windows(2).map(|pair| text.as_bytes()[pair[0]..pair[1]].to_vec()).collect();
        check(&pieces, &stops);
        let whole = run(&[text.into_bytes()], &stops);
        prop_assert_eq!(run(&pieces, &stops).text, whole.text);
    }
}

#[test]
fn across_token_borders() {
    let run = run(&bytes(&["Hello", " wor", "ld", "!", " more"]), &strings(&["world"]));
    assert_eq!((run.text.as_str(), run.made, run.dropped), ("Hello ", 3, 1));
    assert_eq!(run.progress, ["Hello", "Hello ", "Hello "]);
    assert_eq!(run.tokens, bytes(&["Hello", " "]));
}

#[test]
fn in_the_middle_of_one_token() {
    let run = run(&bytes(&["abXYcd", "ef"]), &strings(&["XY"]));
    assert_eq!((run.text.as_str(), run.made, run.dropped), ("ab", 1, 0));
}

#[test]
fn the_whole_output() {
    let run = run(&bytes(&["EN", "D"]), &strings(&["END"]));
    assert_eq!((run.text.as_str(), run.made, run.dropped), ("", 2, 2));
    assert!(run.tokens.is_empty());
}

#[test]
fn the_first_to_be_complete_wins_and_of_those_the_longest() {
    // "bc" is complete before "abcd" could be.
    assert_eq!(run(&bytes(&["abcd"]), &strings(&["abcd", "bc"])).text, "a");
    // Both end at the same byte.
    assert_eq!(run(&bytes(&["xab", "c"]), &strings(&["bc", "abc"])).text, "x");
}

#[test]
fn an_overlapping_start_is_found() {
    let run = run(&bytes(&["aa", "aa", "b"]), &strings(&["aab"]));
    assert_eq!((run.text.as_str(), run.dropped), ("aa", 2));
    assert_eq!(run.progress[..2], ["", "aa"]);
}

#[test]
fn held_text_comes_out_when_it_was_no_stop() {
    let run = run(&bytes(&["###", "# ok", "##"]), &strings(&["###\n"]));
    assert_eq!(run.progress, ["", "#### ok", "#### ok"]);
    assert_eq!(run.text, "#### ok##");
}

#[test]
fn a_stop_of_many_bytes_inside_byte_tokens() {
    let mut pieces = bytes(&["a"]);
    pieces.extend("é🦀".bytes().map(|byte| vec![byte]));
    let run = run(&pieces, &strings(&["🦀"]));
    assert_eq!((run.text.as_str(), run.made, run.dropped), ("aé", 7, 4));
}

#[test]
fn a_character_cut_short_by_a_stop_is_replaced() {
    let run = run(&[vec![0xf0, 0x9f], b"stop".to_vec()], &strings(&["stop"]));
    assert_eq!((run.text.as_str(), run.dropped), ("\u{fffd}", 1));
}

#[test]
fn emoji_over_byte_tokens_come_whole() {
    let pieces: Vec<Vec<u8>> = "x👍🏽y".bytes().map(|byte| vec![byte]).collect();
    let run = run(&pieces, &[]);
    assert_eq!(run.text, "x👍🏽y");
    assert_eq!(run.progress[..5], ["x", "x", "x", "x", "x👍"]);
    assert_eq!(run.tokens.len(), 10);
}

#[test]
fn tokens_without_text_before_the_cut_stay() {
    let run = run(&bytes(&["a", "", "s", "", "t"]), &strings(&["st"]));
    assert_eq!((run.text.as_str(), run.made, run.dropped), ("a", 5, 3));
    assert_eq!(run.tokens, bytes(&["a", ""]));
}
