//! Why a line did not do what was asked. No HTTP here: a server maps [`ErrorKind`] to its codes.

use std::time::Duration;

use economics::books::AdmitError;
use economics::limits::{Limited, Standings};

/// What went wrong, as one word; each kind asks for another reaction of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A field of the request is wrong: change it.
    Invalid,
    /// Prompt (and answer) do not fit the context: shorten it.
    ContextFull,
    /// The model has no chat template: use completions, or configure one.
    NoChatTemplate,
    /// The chat template refused the messages or is broken.
    TemplateFailed,
    /// Too many requests wait: come back later.
    QueueFull,
    /// The line drains or has stopped.
    Closed,
    /// What may be spent is spent: pay, or wait for the next window.
    Unpaid,
    /// Too many requests or tokens in a minute, or at once: come back later.
    RateLimited,
    /// The caller may not do this.
    Forbidden,
    /// The books take nothing now (disk full): come back later.
    BooksClosed,
    /// Something broke on this side.
    Internal,
    /// This line cannot do that at all.
    NotSupported,
}

/// Why a line refused or could not finish a generation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A field of the request is wrong.
    #[error("{message}")]
    Invalid {
        /// The field's name, as in [`Generation`](crate::Generation): `prompt`, `max_tokens`, `stop`, `temperature` …
        field: &'static str,
        /// What is wrong with it and what is allowed.
        message: String,
    },
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {prompt_tokens} tokens, which leaves no room for an answer: \
         prompt and answer together can have at most {context_len}"
    )]
    ContextFull {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Most tokens of prompt and answer together.
        context_len: usize,
    },
    /// The model has no chat template.
    #[error(
        "the model '{model}' has no chat template, so it can't take messages; send plain text to /v1/completions, \
         or set a chat template for it in the configuration"
    )]
    NoChatTemplate {
        /// The model's name.
        model: String,
    },
    /// The chat template failed on these messages.
    #[error("{message}")]
    TemplateFailed {
        /// Which template, and what it says.
        message: String,
    },
    /// Too many requests wait already.
    #[error("the line is full ({waiting} requests wait); try again in {} s", retry_after.as_secs().max(1))]
    QueueFull {
        /// How many wait.
        waiting: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The line drains or has stopped.
    #[error("the line takes no new requests: it is shutting down")]
    Closed,
    /// The caller may not do this.
    #[error("{message}")]
    Forbidden {
        /// What is not allowed.
        message: String,
    },
    /// The books do not admit it.
    #[error("{0}")]
    Payment(AdmitError),
    /// Something broke on this side.
    #[error("internal error: {message}")]
    Internal {
        /// What broke, for the log and the operator.
        message: String,
    },
    /// This line cannot do that.
    #[error("{what} is not supported")]
    NotSupported {
        /// What was asked for.
        what: String,
    },
}

impl LineError {
    /// What went wrong, as one word.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::ContextFull { .. } => ErrorKind::ContextFull,
            Self::NoChatTemplate { .. } => ErrorKind::NoChatTemplate,
            Self::TemplateFailed { .. } => ErrorKind::TemplateFailed,
            Self::QueueFull { .. } => ErrorKind::QueueFull,
            Self::Closed => ErrorKind::Closed,
            Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::Payment(error) => payment_kind(error),
            Self::Internal { .. } => ErrorKind::Internal,
            Self::NotSupported { .. } => ErrorKind::NotSupported,
        }
    }

    /// The field at fault, if one is.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::ContextFull { .. } => Some("prompt"),
            Self::NoChatTemplate { .. } | Self::TemplateFailed { .. } => Some("messages"),
            _ => None,
        }
    }

    /// When to try again, if that helps.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. } => Some(*retry_after),
            Self::Payment(AdmitError::Limited(limited)) => limited.retry_after_ms().map(Duration::from_millis),
            Self::Payment(AdmitError::Held) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// How the caller's rate limits stand, where one of them refused.
    #[must_use]
    pub fn standings(&self) -> Option<Standings> {
        match self {
            Self::Payment(AdmitError::Limited(limited)) => Some(limited.standings()),
            _ => None,
        }
    }

    /// A wrong field.
    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
    }

    /// A fault on this side.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into() }
    }
}

/// What the books' refusal asks of the caller.
fn payment_kind(error: &AdmitError) -> ErrorKind {
    match error {
        AdmitError::Unidentified(_)
        | AdmitError::Forbidden
        | AdmitError::NotInPlan(_)
        | AdmitError::UnknownPrice(_) => ErrorKind::Forbidden,
        AdmitError::Limited(Limited::TooLarge { .. }) => ErrorKind::Invalid,
        AdmitError::Limited(_) | AdmitError::Held => ErrorKind::RateLimited,
        AdmitError::Spent { .. } => ErrorKind::Unpaid,
        AdmitError::Duplicate | AdmitError::Invalid(_) => ErrorKind::Invalid,
        AdmitError::Unavailable(_) => ErrorKind::BooksClosed,
    }
}
