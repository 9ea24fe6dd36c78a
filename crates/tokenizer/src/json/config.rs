//! What the files beside `tokenizer.json`, and its own post-processor, say: start and end tokens, the chat template.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{TokenizerFiles, fault, parse};
use crate::TokenizerError;
use crate::error::shown;
use crate::tokenizer::Settings;
use crate::vocabulary::Vocabulary;

pub(super) const FILE: &str = "tokenizer_config.json";
pub(super) const GENERATION_FILE: &str = "generation_config.json";
pub(super) const TEMPLATE_FILE: &str = "chat_template.jinja";

/// Most ids in front of a text, or behind it: real files have one or two.
const AROUND_MAX: usize = 256;

/// `tokenizer_config.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ConfigFile {
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    chat_template: Option<Templates>,
}

/// `generation_config.json`.
#[derive(Debug, Default, Deserialize)]
struct GenerationFile {
    bos_token_id: Option<Ids>,
    eos_token_id: Option<Ids>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a token, or an object with its content")]
enum TokenText {
    Text(String),
    Added { content: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a template, or a list of named ones")]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Debug, Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected an id, or a list of ids")]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

/// What is put around a text.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
enum PostProcessor {
    TemplateProcessing {
        single: Vec<Piece>,
        #[serde(default)]
        special_tokens: BTreeMap<String, TemplateToken>,
    },
    BertProcessing {
        sep: (String, u32),
        cls: (String, u32),
    },
    RobertaProcessing {
        sep: (String, u32),
        cls: (String, u32),
    },
    Sequence {
        processors: Vec<Self>,
    },
    ByteLevel {},
}

#[derive(Debug, Deserialize)]
enum Piece {
    Sequence {},
    SpecialToken { id: String },
}

#[derive(Debug, Deserialize)]
struct TemplateToken {
    ids: Vec<u32>,
}

impl TokenText {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Added { content: text } => text,
        }
    }
}

impl Ids {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

impl ConfigFile {
    pub(super) fn of(files: &TokenizerFiles<'_>) -> Result<Self, TokenizerError> {
        Ok(files.tokenizer_config.map(|bytes| parse(FILE, bytes)).transpose()?.unwrap_or_default())
    }

    /// The start and end tokens and what is added, from all the files.
    pub(super) fn settings(
        &self,
        generation_config: Option<&[u8]>,
        vocabulary: &Vocabulary,
        post_processor: Option<&Value>,
    ) -> Result<Settings, TokenizerError> {
        let generation: GenerationFile =
            generation_config.map(|bytes| parse(GENERATION_FILE, bytes)).transpose()?.unwrap_or_default();
        let generation_bos = known("bos_token_id", generation.bos_token_id.as_ref(), vocabulary)?;
        let generation_eos = known("eos_token_id", generation.eos_token_id.as_ref(), vocabulary)?;
        let bos = token("bos_token", self.bos_token.as_ref(), vocabulary)?.or(generation_bos.first().copied());
        let eos = token("eos_token", self.eos_token.as_ref(), vocabulary)?.or(generation_eos.first().copied());
        let (mut prefix, mut suffix) = match post_processor.filter(|value| !value.is_null()) {
            Some(value) => around(&PostProcessor::of(value)?, vocabulary)?,
            None => (Vec::new(), Vec::new()),
        };
        // The settings say how the file was meant; some classes of transformers change the file's own pieces accordingly.
        set_added(&mut prefix, bos, self.add_bos_token);
        set_added(&mut suffix, eos, self.add_eos_token);
        let ends = eos.into_iter().chain(generation_eos.iter().copied());
        Ok(Settings::new(vocabulary, bos, eos, ends).around(prefix, suffix))
    }

    /// The chat template, if there is one; of several the one that is called `default`.
    pub(super) fn chat_template(&self) -> Option<String> {
        match self.chat_template.as_ref()? {
            Templates::One(template) => Some(template.clone()),
            Templates::Named(templates) => {
                templates.iter().find(|named| named.name == "default").map(|named| named.template.clone())
            }
        }
    }
}

/// The id of a token that `tokenizer_config.json` names.
fn token(field: &str, token: Option<&TokenText>, vocabulary: &Vocabulary) -> Result<Option<u32>, TokenizerError> {
    let Some(text) = token.map(TokenText::text) else { return Ok(None) };
    let id = vocabulary.special(text.as_bytes()).or_else(|| vocabulary.plain(text.as_bytes()));
    id.map(Some).ok_or_else(|| TokenizerError::Json {
        file: FILE,
        field: field.to_owned(),
        reason: format!("\"{}\" is not in the vocabulary", shown(text)),
    })
}

/// The ids in a field of `generation_config.json`.
fn known<'a>(field: &str, ids: Option<&'a Ids>, vocabulary: &Vocabulary) -> Result<&'a [u32], TokenizerError> {
    let ids = ids.map(Ids::as_slice).unwrap_or_default();
    match ids.iter().find(|&&id| id as usize >= vocabulary.len()) {
        None => Ok(ids),
        Some(id) => Err(TokenizerError::Json {
            file: GENERATION_FILE,
            field: field.to_owned(),
            reason: format!("{id} is not an id of the {} tokens, which count from 0", vocabulary.len()),
        }),
    }
}

/// Has the token added, or not, where the settings say so.
fn set_added(tokens: &mut Vec<u32>, token: Option<u32>, wanted: Option<bool>) {
    match (token, wanted) {
        (Some(token), Some(true)) if !tokens.contains(&token) => tokens.push(token),
        (Some(token), Some(false)) => tokens.retain(|&other| other != token),
        _ => {}
    }
}

impl PostProcessor {
    fn of(value: &Value) -> Result<Self, TokenizerError> {
        Self::deserialize(value).map_err(|error| fault("post_processor", error.to_string()))
    }
}

/// The ids in front of a single text and behind it.
fn around(post_processor: &PostProcessor, vocabulary: &Vocabulary) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
    let checked = |id: u32| {
        if (id as usize) < vocabulary.len() {
            return Ok(id);
        }
        Err(fault("post_processor", format!("{id} is not an id of the {} tokens", vocabulary.len())))
    };
    let (mut prefix, mut suffix) = (Vec::new(), Vec::new());
    match post_processor {
        PostProcessor::ByteLevel {} => {}
        PostProcessor::BertProcessing { sep, cls } | PostProcessor::RobertaProcessing { sep, cls } => {
            prefix.push(checked(cls.1)?);
            suffix.push(checked(sep.1)?);
        }
        PostProcessor::Sequence { processors } => {
            for processor in processors {
                let (before, after) = around(processor, vocabulary)?;
                prefix.splice(0..0, before);
                suffix.extend(after);
            }
        }
        PostProcessor::TemplateProcessing { single, special_tokens } => {
            let mut side = &mut prefix;
            for piece in single {
                let Piece::SpecialToken { id } = piece else {
                    side = &mut suffix;
                    continue;
                };
                let token = special_tokens
                    .get(id)
                    .ok_or_else(|| fault("post_processor.special_tokens", format!("\"{}\" is not there", shown(id))))?;
                for &id in &token.ids {
                    side.push(checked(id)?);
                    // Pieces times ids: a small file could ask for any memory.
                    if side.len() > AROUND_MAX {
                        return Err(fault(
                            "post_processor",
                            format!("more than {AROUND_MAX} tokens are put beside a text"),
                        ));
                    }
                }
            }
        }
    }
    Ok((prefix, suffix))
}
