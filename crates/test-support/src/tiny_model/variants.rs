//! One tiny model of each architecture, and of what its files may declare.

use super::{Architecture, RopeStretch, TinyExperts, TinyModel, TinyStateSpace};

impl TinyModel {
    /// Qwen2: three layers.
    #[must_use]
    pub fn qwen2() -> Self {
        Self { architecture: Architecture::Qwen2, layers: 3, rope_base: 1_000_000.0, seed: 3, ..Self::llama() }
    }

    /// Qwen3: heads of 24 values, more than the hidden values would give.
    #[must_use]
    pub fn qwen3() -> Self {
        Self { architecture: Architecture::Qwen3, head_dim: 24, rope_base: 1_000_000.0, seed: 4, ..Self::llama() }
    }

    /// Phi-3: two query heads and one KV head, of which half the values turn.
    #[must_use]
    pub fn phi3() -> Self {
        Self {
            architecture: Architecture::Phi3,
            heads: 2,
            kv_heads: 1,
            head_dim: 32,
            rope_dims: Some(16),
            seed: 5,
            ..Self::llama()
        }
    }

    /// Gemma 2: four layers by turns local and global, a window of 40 positions, caps that bend what they meet.
    #[must_use]
    pub fn gemma2() -> Self {
        Self { architecture: Architecture::Gemma2, layers: 4, sliding_window: 40, seed: 6, ..Self::llama() }
    }

    /// Mamba: three layers.
    #[must_use]
    pub fn mamba() -> Self {
        Self { architecture: Architecture::Mamba, layers: 3, seed: 10, ..Self::llama() }
    }

    /// The same with experts; a token goes through two of five.
    #[must_use]
    pub fn with_experts(mut self) -> Self {
        self.experts = Some(TinyExperts { count: 5, used: 2 });
        self
    }

    /// The same, large enough that its speed says something, and for blocks of 256 weights: hidden states of 512 values, four
    /// times the heads, each of twice the size; a token goes through 4 of 32 experts, if there are some.
    #[must_use]
    pub fn enlarged(self) -> Self {
        Self {
            hidden: 512,
            feed_forward: if self.experts.is_some() { 512 } else { 1536 },
            heads: 4 * self.heads,
            kv_heads: 4 * self.kv_heads,
            head_dim: 2 * self.head_dim,
            experts: self.experts.map(|_| TinyExperts { count: 32, used: 4 }),
            state_space: TinyStateSpace { time_step_rank: 256, ..self.state_space },
            ..self
        }
    }

    /// A mixture whose layers have the sizes of Qwen3-30B-A3B's: two of the 48, with half of the experts, so 64 of 768 values of
    /// which a token goes through 8. Speeds on it are those of a real mixture's layers; as F32 it takes 2.6 GB.
    #[must_use]
    pub fn wide_mixture() -> Self {
        Self {
            hidden: 2048,
            feed_forward: 768,
            heads: 32,
            kv_heads: 4,
            head_dim: 128,
            layers: 2,
            experts: Some(TinyExperts { count: 64, used: 8 }),
            seed: 12,
            ..Self::qwen3()
        }
    }

    /// All architectures and what their files may declare, by name.
    #[must_use]
    pub fn variants() -> Vec<(&'static str, Self)> {
        let stretched = |rope_stretch| Self { rope_stretch, ..Self::llama() };
        let sizes = TinyStateSpace { conv_kernel: 3, state_size: 8, dt_b_c_rms: true, ..Self::mamba().state_space };
        let normed = Self { state_space: sizes, ..Self::mamba() };
        vec![
            ("llama", Self::llama()),
            ("llama-linear", stretched(RopeStretch::Linear(4.0))),
            ("llama3", stretched(RopeStretch::Divisors)),
            ("llama-yarn", stretched(RopeStretch::Yarn(4.0))),
            ("llama-biases", Self { attention_biases: true, separate_head: true, ..Self::llama() }),
            ("mistral", Self { sliding_window: 40, seed: 7, ..Self::llama() }),
            ("mixtral", Self { seed: 8, ..Self::llama() }.with_experts()),
            ("qwen2", Self::qwen2()),
            ("qwen3", Self::qwen3()),
            ("qwen3moe", Self { seed: 9, ..Self::qwen3() }.with_experts()),
            ("phi3", Self::phi3()),
            ("phi3-window", Self { sliding_window: 40, ..Self::phi3() }),
            ("phi3-longrope", Self { rope_stretch: RopeStretch::Longrope, ..Self::phi3() }),
            ("gemma2", Self::gemma2()),
            ("gemma3", Self::gemma3()),
            ("mamba", Self::mamba()),
            ("falcon-mamba", Self { separate_head: true, seed: 11, ..normed }),
        ]
    }
}
