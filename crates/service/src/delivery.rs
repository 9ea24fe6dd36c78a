//! One candidate's tokens become text: stop strings held back and cut off, whole UTF-8 at every chunk.

use std::collections::VecDeque;
use std::sync::Arc;

use tokenizer::StreamDecoder;

use crate::TokenText;
use crate::stop::{StopMatcher, StopSet, is_cut};

/// New text and the tokens that are complete with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) text: String,
    pub(crate) tokens: Vec<TokenText>,
}

impl Chunk {
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.tokens.is_empty()
    }
}

/// A token whose text is not out yet: bytes `start .. end` of the answer.
struct Pending {
    start: u64,
    end: u64,
    token: TokenText,
}

/// The text of one candidate on its way out. Positions count the candidate's bytes.
pub(crate) struct Delivery {
    matcher: StopMatcher,
    decoder: StreamDecoder,
    /// Bytes that could still become a stop string.
    held: VecDeque<u8>,
    /// Bytes given to the decoder.
    released: u64,
    /// The last of them, at most three: tells whether a character is under way.
    tail: Vec<u8>,
    pending: VecDeque<Pending>,
    stopped: bool,
}

impl Delivery {
    pub(crate) fn new(stops: Arc<StopSet>) -> Self {
        Self {
            matcher: StopMatcher::new(stops),
            decoder: StreamDecoder::new(),
            held: VecDeque::new(),
            released: 0,
            tail: Vec::new(),
            pending: VecDeque::new(),
            stopped: false,
        }
    }

    /// Takes the bytes of the token just made, and the token itself if tokens are wanted (its `bytes` are filled in
    /// here). After a stop string nothing comes out any more.
    pub(crate) fn push(&mut self, bytes: &[u8], token: Option<TokenText>) -> Chunk {
        if self.stopped {
            return Chunk::default();
        }
        let start = self.matcher.position();
        if let Some(token) = token {
            let end = start + count(bytes.len());
            self.pending.push_back(Pending { start, end, token: TokenText { bytes: bytes.to_vec(), ..token } });
        }
        for &byte in bytes {
            self.held.push_back(byte);
            if let Some(cut) = self.matcher.push(byte) {
                self.stopped = true;
                let mut chunk = self.release(cut);
                self.cut(cut);
                self.flush(&mut chunk);
                return chunk;
            }
        }
        self.release(self.matcher.safe())
    }

    /// The candidate has ended: what was held back comes out.
    pub(crate) fn finish(&mut self) -> Chunk {
        if self.stopped {
            return Chunk::default();
        }
        self.stopped = true;
        let mut chunk = self.release(self.matcher.position());
        self.flush(&mut chunk);
        chunk
    }

    /// Lets the bytes before `to` out, and the tokens that are whole with them.
    fn release(&mut self, to: u64) -> Chunk {
        let len = usize::try_from(to.saturating_sub(self.released)).unwrap_or(usize::MAX).min(self.held.len());
        let bytes: Vec<u8> = self.held.drain(..len).collect();
        self.released += count(len);
        self.tail.extend_from_slice(&bytes);
        self.tail.drain(..self.tail.len().saturating_sub(3));
        let text = self.decoder.push(&bytes);
        let complete = self.released - count(unfinished(&self.tail));
        let mut tokens = Vec::new();
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.end <= complete) {
            tokens.push(pending.token);
        }
        Chunk { text, tokens }
    }

    /// Forgets the bytes from `cut` on, and the tokens wholly in that part (the same ones as
    /// [`StopControl`](crate::stop::StopControl) drops).
    fn cut(&mut self, cut: u64) {
        self.held.clear();
        self.pending.retain(|pending| !is_cut(pending.start, pending.end, cut));
        for pending in &mut self.pending {
            let len = usize::try_from(cut.saturating_sub(pending.start)).unwrap_or(usize::MAX);
            pending.token.bytes.truncate(len);
        }
    }

    /// Ends the text: an unfinished character becomes U+FFFD, all tokens are reported.
    fn flush(&mut self, chunk: &mut Chunk) {
        chunk.text.push_str(&self.decoder.finish());
        chunk.tokens.extend(self.pending.drain(..).map(|pending| pending.token));
    }
}

/// How many of the last bytes are a character that has begun well but is not whole.
fn unfinished(tail: &[u8]) -> usize {
    (1..=tail.len().min(3))
        .find(|&len| {
            std::str::from_utf8(&tail[tail.len() - len..])
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(0)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
