//! GGUF files: one, or the shards of a split one, one after another in the input.

use formats::gguf::Gguf;
use tokenizer::Tokenizer;

use crate::files::{DATA_BYTES, Folder, GGUF};
use crate::{models, texts};

/// Shards of an input: more would only take time.
const SHARDS_MAX: usize = 4;

/// Opens the files as they are, and with zeros behind them for the data, which seeds do without; takes the tokenizer and the
/// weights out of them.
pub(crate) fn target(input: &[u8]) -> bool {
    let shards = shards(input);
    let bare = opened(&shards, 0, false);
    opened(&shards, DATA_BYTES, true) || bare
}

fn opened(shards: &[&[u8]], len_min: u64, with_text: bool) -> bool {
    let folder = Folder::new();
    let count = shards.len();
    let name = |number: usize| match count {
        1 => "m.gguf".to_owned(),
        _ => format!("m-{number:05}-of-{count:05}.gguf"),
    };
    let written: Vec<_> =
        (1..).zip(shards).map(|(number, shard)| folder.write(&name(number), shard, len_min)).collect();
    let Some(Ok(gguf)) = written.last().map(Gguf::open) else { return false };
    if with_text && let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) {
        texts::there_and_back(&tokenizer, texts::ODD);
    }
    models::run(&gguf)
}

/// The files of an input: each begins as GGUF does.
fn shards(input: &[u8]) -> Vec<&[u8]> {
    let mut shards = Vec::new();
    let mut rest = input;
    while shards.len() + 1 < SHARDS_MAX {
        let next = rest.windows(GGUF.len()).skip(1).position(|window| window == GGUF);
        let Some((shard, others)) = next.and_then(|before| rest.split_at_checked(before + 1)) else { break };
        shards.push(shard);
        rest = others;
    }
    shards.push(rest);
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_where_they_begin() {
        assert_eq!(shards(b""), [b""]);
        assert_eq!(shards(b"GGUF12GGUF3"), [b"GGUF12".as_slice(), b"GGUF3"]);
        assert_eq!(shards(b"xGGUFGGUF"), [b"x".as_slice(), b"GGUF", b"GGUF"]);
        assert_eq!(shards(&GGUF.repeat(9)).len(), SHARDS_MAX);
    }
}
