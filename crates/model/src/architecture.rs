//! The architectures: how each is read from a file, and what runs it.

use formats::gguf::Gguf;
use kernels::RopeFrequencies;

use crate::LoadError;
use crate::config::ModelConfig;
use crate::step::Step;
use crate::weights::Loader;
use crate::{gemma2, gemma3, llama, mamba, phi3, qwen2, qwen3};

const KEY: &str = "general.architecture";

/// All that are supported.
static ALL: [Architecture; 8] = [
    llama::LLAMA,
    qwen2::QWEN2,
    qwen3::QWEN3,
    qwen3::QWEN3_MOE,
    phi3::PHI3,
    gemma2::GEMMA2,
    gemma3::GEMMA3,
    mamba::MAMBA,
];

/// How models of one architecture are read.
pub(crate) struct Architecture {
    /// Its name in a file.
    pub(crate) name: &'static str,
    /// Sizes and constants.
    pub(crate) config: fn(&Gguf) -> Result<ModelConfig, LoadError>,
    /// Weights.
    pub(crate) load: Load,
}

/// Takes a model's weights from a file.
type Load = fn(&ModelConfig, &mut Loader<'_>) -> Result<Box<dyn Forward>, LoadError>;

/// A model's forward pass.
pub(crate) trait Forward: Send + Sync {
    /// Rotary frequencies that its layers use, at most two.
    fn frequencies(&self) -> &[RopeFrequencies];

    /// Runs a step; `logits` of the wanted columns, `[wanted][vocab_size]`.
    fn forward(&self, step: &mut Step<'_>, logits: &mut [f32]);
}

/// Any pass as what [`Architecture::load`] gives.
pub(crate) fn boxed(pass: impl Forward + 'static) -> Box<dyn Forward> {
    Box::new(pass)
}

impl Architecture {
    /// The one that a file names.
    pub(crate) fn of(gguf: &Gguf) -> Result<&'static Self, LoadError> {
        let missing = || LoadError::MissingKey { key: KEY.to_owned() };
        let name = gguf.get_str(KEY)?.ok_or_else(missing)?;
        ALL.iter().find(|architecture| architecture.name == name).ok_or_else(|| LoadError::UnknownArchitecture {
            found: name.chars().take(40).flat_map(char::escape_debug).collect(),
            supported: ALL.each_ref().map(|architecture| architecture.name).join(", "),
        })
    }
}
