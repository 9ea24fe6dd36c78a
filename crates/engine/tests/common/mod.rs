//! What came of a request.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use inference::{Event, TokenId, TokenLogprobs, Usage};

/// Longest wait for something that must come.
const LIMIT: Duration = Duration::from_secs(600);

pub(crate) struct Answer {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) logprobs: Vec<Option<TokenLogprobs>>,
    pub(crate) usage: Usage,
}

/// All that comes until the request's end.
pub(crate) fn read(receiver: &Receiver<Event>) -> Answer {
    let (mut tokens, mut all) = (Vec::new(), Vec::new());
    loop {
        match receiver.recv_timeout(LIMIT).expect("the request must come to an end") {
            Event::Token { id, logprobs, .. } => {
                tokens.push(id);
                all.push(logprobs);
            }
            Event::Done(usage) => return Answer { tokens, logprobs: all, usage: *usage },
            Event::Failed(failure, _) => panic!("{failure:?}"),
            _ => {}
        }
    }
}
