//! Request fields shared by chat and completions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One stop string or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum StopInput {
    /// One string.
    One(String),
    /// Up to 16 strings.
    Many(Vec<String>),
}

impl StopInput {
    /// The strings as a list.
    #[must_use]
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(stop) => vec![stop],
            Self::Many(stops) => stops,
        }
    }
}

/// What a stream carries besides its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Send the usage of the whole request in a last chunk without choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_usage: Option<bool>,
    /// Accepted; streams are never padded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_obfuscation: Option<bool>,
}
