//! Wire types of the OpenAI API: requests, replies, stream frames and error bodies.
#![forbid(unsafe_code)]
