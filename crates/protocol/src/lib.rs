//! Wire types of the OpenAI API (and of vLLM's `/tokenize`): requests, replies, stream frames and error bodies; and of
//! the invoices.
//!
//! Plain data for `serde` and `utoipa`; no other crate of the workspace is known here. Requests are for clients
//! to write and for the description of the API; the server reads them field by field, so that its errors can name the
//! place. Replies are written by the server and read by clients.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod billing;
mod chat;
mod completions;
mod error;
mod models;
mod next_token;
mod options;
pub mod sse;
mod tokenize;
mod usage;

pub use billing::{
    BillingPeriod, Bucket, CompletionsUsage, Cost, CostAmount, Invoice, InvoiceCustomer, InvoiceLine, InvoiceList,
    InvoiceMeter, InvoiceState, InvoiceSummary, Page, Standing, UsageQuantities, UsageReport, UsageRow, UsageSums,
};
pub use chat::{
    AssistantMessage, ChatChoice, ChatChunkChoice, ChatCompletion, ChatCompletionChunk, ChatCompletionRequest,
    ChatLogprobs, ChatMessage, ChatTokenLogprob, ChatTopLogprob, ContentPart, Delta, MessageContent,
};
pub use completions::{Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, PromptInput};
pub use error::{ErrorBody, ErrorDetail};
pub use models::{Model, ModelList};
pub use next_token::{DrawnToken, NextToken, NextTokenChance, NextTokenRequest, NextTokenRest, PromptOrIds};
pub use options::{GenerationOptions, RequestOptions, StopInput, StreamOptions};
pub use tokenize::{
    DetokenizeReply, DetokenizeRequest, InputPrice, MergeStep, MergedWord, TokenMerges, TokenizeReply, TokenizeRequest,
};
pub use usage::{
    AnswerNote, Charged, ChoiceNote, CompletionTokensDetails, ExperimentNote, Measured, PromptTokensDetails, Usage,
};
