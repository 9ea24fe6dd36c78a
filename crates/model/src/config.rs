//! Sizes and constants of a model, read from metadata with every value checked.

use formats::gguf::{Gguf, StringArray};
use kernels::{RopeOrder, SsmShape};

use crate::LoadError;
use crate::rope::RopeScaling;

const LAYERS_MAX: usize = 1024;
const HEADS_MAX: usize = 1024;
const HEAD_DIM_MAX: usize = 1024;
const HIDDEN_MAX: usize = 1 << 17;
const FEED_FORWARD_MAX: usize = 1 << 20;
const CONTEXT_MAX: usize = 1 << 24;
const VOCAB_MAX: u64 = 1 << 24;
const EXPERTS_MAX: usize = 4096;
const CONV_MAX: usize = 64;
const STATE_MAX: usize = 4096;

/// Experts of a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// Experts in each layer.
    pub count: usize,
    /// Experts that a token goes through; at most `count`.
    pub used: usize,
}

/// Sizes of state-space layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSpace {
    /// Channels.
    pub inner: usize,
    /// Positions that the convolution sees.
    pub conv_kernel: usize,
    /// Values that each channel remembers.
    pub state_size: usize,
    /// Values that the time steps of all channels are made of.
    pub time_step_rank: usize,
    /// Whether narrow time steps, `B` and `C` are normed (FalconMamba).
    pub dt_b_c_rms: bool,
}

impl StateSpace {
    pub(crate) fn shape(self) -> SsmShape {
        SsmShape { inner: self.inner, conv: self.conv_kernel, state: self.state_size }
    }

    /// Weights that a token is multiplied with.
    fn weights_per_token(self, hidden: usize) -> usize {
        let selection = 2 * self.time_step_rank + 2 * self.state_size;
        self.inner * (3 * hidden + selection + self.state_size + self.conv_kernel)
    }
}

/// Sizes and constants of a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// Name of the architecture in the file.
    pub architecture: &'static str,
    /// Tokens in the vocabulary: rows of the embedding.
    pub vocab_size: usize,
    /// Positions that a sequence may have.
    pub context_len: usize,
    /// Layers.
    pub layers: usize,
    /// Values in a hidden state.
    pub hidden: usize,
    /// Values in the middle of a feed-forward part; of one expert, where there are experts.
    pub feed_forward: usize,
    /// Experts of each feed-forward part, if it is a mixture.
    pub experts: Option<Experts>,
    /// Sizes of its layers, if these have a state instead of attention and a feed-forward part, whose sizes are 0 then.
    pub state_space: Option<StateSpace>,
    /// Query heads.
    pub heads: usize,
    /// KV heads; `heads` is a multiple.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Values of a head that are turned by position.
    pub rope_dims: usize,
    /// Base of the rotary angles.
    pub rope_base: f64,
    /// How the angles are stretched to longer contexts.
    pub rope_scaling: RopeScaling,
    /// Which values of a head turn together, and so how rows of queries and keys stand.
    pub rope_order: RopeOrder,
    /// Added to the mean square in norms.
    pub norm_eps: f32,
    /// Keys that a query of a local layer sees, itself included.
    pub sliding_window: Option<usize>,
    /// Attention scores are brought within this.
    pub attention_softcap: Option<f32>,
    /// Logits are brought within this.
    pub logit_softcap: Option<f32>,
    /// Whether queries, keys and values are rows of one matrix in files, and so gate and up.
    pub fused: bool,
}

impl ModelConfig {
    /// Queries of all heads together.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Keys (or values) of all KV heads together.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Values in the middle of all that a token goes through in a feed-forward part.
    pub(crate) fn middle_width(&self) -> usize {
        self.experts.map_or(1, |experts| experts.used) * self.feed_forward
    }

    /// Weights of a layer that a token is multiplied with.
    #[must_use]
    pub fn layer_weights_per_token(&self) -> usize {
        if let Some(sizes) = self.state_space {
            return sizes.weights_per_token(self.hidden);
        }
        let router = self.experts.map_or(0, |experts| experts.count);
        self.hidden * (2 * self.query_width() + 2 * self.kv_width() + 3 * self.middle_width() + router)
    }

    /// Reads what all architectures have in common. `rope_base_default` stands in for a missing key.
    pub(crate) fn read(gguf: &Gguf, architecture: &'static str, rope_base_default: f32) -> Result<Self, LoadError> {
        let keys = Keys { gguf, architecture };
        let hidden = keys.size("embedding_length", HIDDEN_MAX)?;
        let heads = keys.size("attention.head_count", HEADS_MAX)?;
        let kv_heads = keys.size_or("attention.head_count_kv", HEADS_MAX, heads)?;
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of the {heads} query heads");
            return Err(keys.invalid("attention.head_count_kv", expected, kv_heads));
        }
        let head_dim = keys.head_dim(hidden, heads)?;
        let experts = keys.experts()?;
        let context_len = keys.size("context_length", CONTEXT_MAX)?;
        let rope_dims = keys.size_or("rope.dimension_count", HEAD_DIM_MAX, head_dim)?;
        if rope_dims > head_dim || !rope_dims.is_multiple_of(2) {
            let expected = format!("even and at most the head's {head_dim} values");
            return Err(keys.invalid("rope.dimension_count", expected, rope_dims));
        }
        Ok(Self {
            architecture,
            vocab_size: keys.vocab_size()?,
            context_len,
            layers: keys.size("block_count", LAYERS_MAX)?,
            hidden,
            feed_forward: keys.feed_forward(experts)?,
            experts,
            state_space: None,
            heads,
            kv_heads,
            head_dim,
            rope_dims,
            rope_base: keys.rope_base(rope_base_default)?,
            rope_scaling: RopeScaling::read(&keys, context_len)?,
            rope_order: RopeOrder::Halves,
            norm_eps: keys.norm_eps()?,
            sliding_window: None,
            attention_softcap: None,
            logit_softcap: None,
            fused: false,
        })
    }

    /// Reads what models of state-space layers have; there are no heads.
    pub(crate) fn read_state_space(gguf: &Gguf, architecture: &'static str) -> Result<Self, LoadError> {
        let keys = Keys { gguf, architecture };
        let context_len = keys.size("context_length", CONTEXT_MAX)?;
        let sizes = StateSpace {
            inner: keys.size("ssm.inner_size", FEED_FORWARD_MAX)?,
            conv_kernel: keys.size("ssm.conv_kernel", CONV_MAX)?,
            state_size: keys.size("ssm.state_size", STATE_MAX)?,
            time_step_rank: keys.size("ssm.time_step_rank", HIDDEN_MAX)?,
            dt_b_c_rms: gguf.get_bool(&keys.name("ssm.dt_b_c_rms"))?.unwrap_or(false),
        };
        Ok(Self {
            architecture,
            vocab_size: keys.vocab_size()?,
            context_len,
            layers: keys.size("block_count", LAYERS_MAX)?,
            hidden: keys.size("embedding_length", HIDDEN_MAX)?,
            feed_forward: 0,
            experts: None,
            state_space: Some(sizes),
            heads: 0,
            kv_heads: 0,
            head_dim: 0,
            rope_dims: 0,
            rope_base: 1.0,
            rope_order: RopeOrder::Halves,
            rope_scaling: RopeScaling::none(context_len),
            norm_eps: keys.norm_eps()?,
            sliding_window: None,
            attention_softcap: None,
            logit_softcap: None,
            fused: false,
        })
    }

    /// Sizes of state-space layers, which the model must have.
    pub(crate) fn state_space(&self) -> Result<StateSpace, LoadError> {
        let missing = || LoadError::MissingKey { key: format!("{}.ssm.inner_size", self.architecture) };
        self.state_space.ok_or_else(missing)
    }

    fn keys<'a>(&self, gguf: &'a Gguf) -> Keys<'a> {
        Keys { gguf, architecture: self.architecture }
    }

    /// Reads the width of local layers' windows.
    pub(crate) fn read_sliding_window(&mut self, gguf: &Gguf) -> Result<(), LoadError> {
        self.sliding_window = Some(self.keys(gguf).size("attention.sliding_window", CONTEXT_MAX)?);
        Ok(())
    }

    /// The same for files that may have none; a width of 0 says so too.
    pub(crate) fn read_sliding_window_if_any(&mut self, gguf: &Gguf) -> Result<(), LoadError> {
        let name = format!("{}.attention.sliding_window", self.architecture);
        if gguf.get_u32(&name)?.is_some_and(|window| window > 0) { self.read_sliding_window(gguf) } else { Ok(()) }
    }

    /// Reads what attention scores and logits are brought within; the defaults stand in for missing keys.
    pub(crate) fn read_softcaps(&mut self, gguf: &Gguf, defaults: [f32; 2]) -> Result<(), LoadError> {
        let keys = self.keys(gguf);
        self.attention_softcap = Some(keys.above_zero("attn_logit_softcapping", defaults[0])?);
        self.logit_softcap = Some(keys.above_zero("final_logit_softcapping", defaults[1])?);
        Ok(())
    }

    /// Refuses files with experts, for architectures that have none.
    pub(crate) fn refuse_experts(&self) -> Result<(), LoadError> {
        self.experts.map_or(Ok(()), |experts| {
            Err(LoadError::InvalidKey {
                key: format!("{}.{EXPERT_COUNT}", self.architecture),
                expected: "absent".to_owned(),
                actual: experts.count.to_string(),
            })
        })
    }

    /// Refuses files without experts, for architectures that are mixtures.
    pub(crate) fn require_experts(&self) -> Result<(), LoadError> {
        match self.experts {
            Some(_) => Ok(()),
            None => Err(LoadError::MissingKey { key: format!("{}.{EXPERT_COUNT}", self.architecture) }),
        }
    }
}

const EXPERT_COUNT: &str = "expert_count";

/// Rows of the embedding.
fn embedding_rows(gguf: &Gguf) -> Result<usize, LoadError> {
    let name = crate::weights::EMBEDDING;
    let tensor = gguf.tensor(name).ok_or_else(|| LoadError::MissingTensor { name: name.to_owned() })?;
    let wrong = || LoadError::TensorShape {
        name: name.to_owned(),
        expected: vec![tensor.row_len(), VOCAB_MAX],
        actual: tensor.dims.clone(),
    };
    if tensor.rows() > VOCAB_MAX || tensor.dims.len() > 2 {
        return Err(wrong());
    }
    usize::try_from(tensor.rows()).map_err(|_too_large| wrong())
}

/// Metadata keys of one architecture.
pub(crate) struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'static str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        Ok(self.gguf.get_str(&self.name(key))?)
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f32>, LoadError> {
        Ok(self.gguf.get_f32(&self.name(key))?)
    }

    pub(crate) fn above_zero(&self, key: &str, default: f32) -> Result<f32, LoadError> {
        let value = self.float(key)?.unwrap_or(default);
        if value > 0.0 { Ok(value) } else { Err(self.invalid(key, "above 0", value)) }
    }

    /// A context that the model was trained for.
    pub(crate) fn context_or(&self, key: &str, default: usize) -> Result<usize, LoadError> {
        self.size_or(key, CONTEXT_MAX, default)
    }

    pub(crate) fn invalid(&self, key: &str, expected: impl Into<String>, actual: impl ToString) -> LoadError {
        LoadError::InvalidKey { key: self.name(key), expected: expected.into(), actual: actual.to_string() }
    }

    fn optional_size(&self, key: &str, max: usize) -> Result<Option<usize>, LoadError> {
        let Some(value) = self.gguf.get_u32(&self.name(key))? else { return Ok(None) };
        match usize::try_from(value) {
            Ok(size) if (1..=max).contains(&size) => Ok(Some(size)),
            _ => Err(self.invalid(key, format!("from 1 to {max}"), value)),
        }
    }

    /// The vocabulary is what the embedding holds; metadata that says otherwise belongs to another model.
    fn vocab_size(&self) -> Result<usize, LoadError> {
        let rows = embedding_rows(self.gguf)?;
        let embedding = crate::weights::EMBEDDING;
        if let Some(told) = self.gguf.get_u32(&self.name("vocab_size"))?.filter(|&told| told as usize != rows) {
            return Err(self.invalid("vocab_size", format!("{rows}, the rows of \"{embedding}\""), told));
        }
        let key = "tokenizer.ggml.tokens";
        match self.gguf.get_str_array(key)?.map(StringArray::len) {
            Some(tokens) if tokens != rows => Err(LoadError::InvalidKey {
                key: key.to_owned(),
                expected: format!("a list of {rows}, the rows of \"{embedding}\""),
                actual: format!("a list of {tokens}"),
            }),
            _ => Ok(rows),
        }
    }

    fn size(&self, key: &str, max: usize) -> Result<usize, LoadError> {
        self.optional_size(key, max)?.ok_or_else(|| LoadError::MissingKey { key: self.name(key) })
    }

    fn size_or(&self, key: &str, max: usize, default: usize) -> Result<usize, LoadError> {
        Ok(self.optional_size(key, max)?.unwrap_or(default))
    }

    fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize, LoadError> {
        let key_len = self.optional_size("attention.key_length", HEAD_DIM_MAX)?;
        let value_len = self.optional_size("attention.value_length", HEAD_DIM_MAX)?;
        let head_dim = match key_len {
            Some(len) => len,
            None if hidden.is_multiple_of(heads) && hidden / heads <= HEAD_DIM_MAX => hidden / heads,
            None => {
                let expected = format!("a divisor of the {hidden} hidden values, giving at most {HEAD_DIM_MAX} each");
                return Err(self.invalid("attention.head_count", expected, heads));
            }
        };
        match value_len {
            Some(len) if len != head_dim => {
                Err(self.invalid("attention.value_length", format!("{head_dim}, the length of a key"), len))
            }
            _ => Ok(head_dim),
        }
    }

    fn rope_base(&self, default: f32) -> Result<f64, LoadError> {
        let base = self.gguf.get_f32(&self.name("rope.freq_base"))?.unwrap_or(default);
        if base >= 1.0 { Ok(f64::from(base)) } else { Err(self.invalid("rope.freq_base", "at least 1", base)) }
    }

    /// `None`: no mixture.
    fn experts(&self) -> Result<Option<Experts>, LoadError> {
        let used_key = "expert_used_count";
        let used = self.optional_size(used_key, EXPERTS_MAX)?;
        match (self.optional_size(EXPERT_COUNT, EXPERTS_MAX)?, used) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(LoadError::MissingKey { key: self.name(EXPERT_COUNT) }),
            (Some(_), None) => Err(LoadError::MissingKey { key: self.name(used_key) }),
            (Some(count), Some(used)) if used > count => {
                Err(self.invalid(used_key, format!("at most the {count} experts"), used))
            }
            (Some(count), Some(used)) => Ok(Some(Experts { count, used })),
        }
    }

    /// Experts may have a width of their own.
    fn feed_forward(&self, experts: Option<Experts>) -> Result<usize, LoadError> {
        let of_expert = match experts {
            Some(_) => self.optional_size("expert_feed_forward_length", FEED_FORWARD_MAX)?,
            None => None,
        };
        of_expert.map_or_else(|| self.size("feed_forward_length", FEED_FORWARD_MAX), Ok)
    }

    fn norm_eps(&self) -> Result<f32, LoadError> {
        let key = "attention.layer_norm_rms_epsilon";
        let eps = self.gguf.get_f32(&self.name(key))?.ok_or_else(|| LoadError::MissingKey { key: self.name(key) })?;
        if eps > 0.0 && eps < 1.0 { Ok(eps) } else { Err(self.invalid(key, "between 0 and 1", eps)) }
    }
}
