//! Reads server-sent events from pieces of a body, wherever the pieces are cut.

/// Most bytes one event may have; a server that sends more without a blank line is broken.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// Collects bytes and gives whole events.
#[derive(Debug, Default)]
pub struct SseDecoder {
    buffer: Vec<u8>,
}

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SseError {
    /// More than [`MAX_EVENT_BYTES`] without an end.
    #[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
    TooLong,
    /// An event is not UTF-8: a character was cut.
    #[error("an event is not UTF-8")]
    NotUtf8,
}

impl SseDecoder {
    /// Takes the next piece and gives the `data` of each event it completes (comments and other fields are left out).
    ///
    /// # Errors
    /// See [`SseError`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, SseError> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some((end, next)) = event_end(&self.buffer) {
            let text = std::str::from_utf8(&self.buffer[..end]).map_err(|_error| SseError::NotUtf8)?;
            let data: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|value| value.strip_prefix(' ').unwrap_or(value))
                .collect();
            if !data.is_empty() {
                events.push(data.join("\n"));
            }
            self.buffer.drain(..next);
        }
        if self.buffer.len() > MAX_EVENT_BYTES { Err(SseError::TooLong) } else { Ok(events) }
    }

    /// Whether bytes of an unfinished event are left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// End of the first event and start of the next: the first blank line, with LF or CRLF.
fn event_end(buffer: &[u8]) -> Option<(usize, usize)> {
    let lf = buffer.windows(2).position(|w| w == b"\n\n").map(|at| (at, at + 2));
    let crlf = buffer.windows(4).position(|w| w == b"\r\n\r\n").map(|at| (at, at + 4));
    match (lf, crlf) {
        (Some(a), Some(b)) => Some(if a.0 < b.0 { a } else { b }),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_every_cut() {
        let stream = ": hello\n\ndata: {\"a\":\"黑\"}\n\nevent: x\r\ndata: one\r\ndata: two\r\n\r\ndata: [DONE]\n\n";
        for size in 1..stream.len() {
            let mut decoder = SseDecoder::default();
            let mut events = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                events.extend(decoder.push(piece).unwrap());
            }
            assert_eq!(events, ["{\"a\":\"黑\"}", "one\ntwo", "[DONE]"], "pieces of {size}");
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn broken_streams_are_told() {
        assert_eq!(SseDecoder::default().push(b"data: \xe9\xbb\n\n"), Err(SseError::NotUtf8));
        assert_eq!(SseDecoder::default().push(&vec![b'x'; MAX_EVENT_BYTES + 1]), Err(SseError::TooLong));
        let mut decoder = SseDecoder::default();
        assert_eq!(decoder.push(b"data: half"), Ok(vec![]));
        assert!(!decoder.is_empty());
    }
}
