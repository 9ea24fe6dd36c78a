//! The keys and tensors of a tiny model's file.

use formats::FormatError;
use formats::gguf::{TensorType, Value, Writer};

use super::{Architecture, RopeStretch, TinyExperts, TinyModel, TinyStateSpace};
use crate::vocabulary::{self, VOCAB_SIZE};
use crate::{Random, quantize};

impl TinyModel {
    /// The whole file before it is written, so that a test can add faults.
    ///
    /// # Errors
    /// Sizes that do not fit the weight type.
    pub fn writer(&self) -> Result<Writer, FormatError> {
        let mut writer = Writer::new();
        self.write_keys(&mut writer);
        vocabulary::write(&mut writer, self.chat_template.as_deref());
        let mut tensors = Tensors { writer, random: Random::new(self.seed), ty: self.weight_type };
        let (hidden, vocab) = (self.hidden, VOCAB_SIZE as u64);
        // Logits are rows of the head times a normed hidden state: they spread over about two units.
        tensors.matrix("token_embd.weight", hidden, vocab, 2.0)?;
        tensors.norm("output_norm.weight", hidden, 1.0)?;
        if self.separate_head {
            tensors.matrix("output.weight", hidden, vocab, 2.0)?;
        }
        for layer in 0..self.layers {
            self.write_layer(&mut tensors, layer)?;
        }
        self.write_divisors(&mut tensors)?;
        Ok(tensors.writer)
    }

    /// The architecture's name in a file.
    fn name(&self) -> &'static str {
        match (self.architecture, self.experts) {
            (Architecture::Llama, _) => "llama",
            (Architecture::Qwen2, _) => "qwen2",
            (Architecture::Qwen3, None) => "qwen3",
            (Architecture::Qwen3, Some(_)) => "qwen3moe",
            (Architecture::Phi3, _) => "phi3",
            (Architecture::Gemma2, _) => "gemma2",
            (Architecture::Gemma3, _) => "gemma3",
            (Architecture::Mamba, _) => "mamba",
        }
    }

    fn write_keys(&self, writer: &mut Writer) {
        let architecture = self.name();
        if self.architecture == Architecture::Mamba {
            self.write_state_space_keys(writer);
            return;
        }
        let mut sizes = vec![
            ("block_count", self.layers),
            ("context_length", self.context_len),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.feed_forward),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
        ];
        if self.sliding_window > 0 {
            sizes.push(("attention.sliding_window", self.sliding_window));
        }
        if let Some(dims) = self.rope_dims {
            sizes.push(("rope.dimension_count", dims));
        }
        if let Some(TinyExperts { count, used }) = self.experts {
            sizes.extend([("expert_count", count), ("expert_used_count", used)]);
            if self.architecture == Architecture::Qwen3 {
                sizes.push(("expert_feed_forward_length", self.feed_forward));
            }
        }
        writer.key("general.architecture", Value::String(architecture.to_owned()));
        writer.key("general.name", Value::String("tiny".to_owned()));
        for (key, size) in sizes {
            writer.key(&format!("{architecture}.{key}"), Value::U32(size));
        }
        let mut floats = vec![("rope.freq_base", self.rope_base), ("attention.layer_norm_rms_epsilon", 1e-5)];
        if self.architecture == Architecture::Gemma2 {
            let [scores, logits] = self.softcaps;
            floats.extend([("attn_logit_softcapping", scores), ("final_logit_softcapping", logits)]);
        }
        floats.extend(self.write_stretch(writer));
        for (key, float) in floats {
            writer.key(&format!("{architecture}.{key}"), Value::F32(float));
        }
    }

    /// Keys as llama.cpp's converter writes them.
    fn write_state_space_keys(&self, writer: &mut Writer) {
        let TinyStateSpace { conv_kernel, state_size, time_step_rank, dt_b_c_rms } = self.state_space;
        writer.key("general.architecture", Value::String("mamba".to_owned()));
        writer.key("general.name", Value::String("tiny mamba".to_owned()));
        for (key, size) in [
            ("block_count", self.layers),
            ("context_length", self.context_len),
            ("embedding_length", self.hidden),
            ("feed_forward_length", 0),
            ("attention.head_count", 0),
            ("ssm.conv_kernel", conv_kernel),
            ("ssm.inner_size", 2 * self.hidden),
            ("ssm.state_size", state_size),
            ("ssm.time_step_rank", time_step_rank),
        ] {
            writer.key(&format!("mamba.{key}"), Value::U32(size));
        }
        writer.key("mamba.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        writer.key("mamba.ssm.dt_b_c_rms", Value::Bool(dt_b_c_rms));
    }

    /// How rotary angles are stretched; gives back the floats that belong to it.
    fn write_stretch(&self, writer: &mut Writer) -> Vec<(&'static str, f32)> {
        let (name, floats) = match self.rope_stretch {
            RopeStretch::None | RopeStretch::Divisors => return Vec::new(),
            RopeStretch::Linear(factor) => ("linear", vec![("rope.scaling.factor", factor)]),
            RopeStretch::Yarn(factor) => ("yarn", vec![("rope.scaling.factor", factor)]),
            RopeStretch::Longrope => ("longrope", vec![("rope.scaling.attn_factor", 1.19)]),
        };
        let architecture = self.name();
        writer.key(&format!("{architecture}.rope.scaling.type"), Value::String(name.to_owned()));
        let original = Value::U32(self.original_context);
        writer.key(&format!("{architecture}.rope.scaling.original_context_length"), original);
        floats
    }

    fn write_divisors(&self, tensors: &mut Tensors) -> Result<(), FormatError> {
        let len = self.rope_dims.unwrap_or(self.head_dim) / 2;
        match self.rope_stretch {
            RopeStretch::Divisors => tensors.norm("rope_freqs.weight", len, 2.0),
            RopeStretch::Longrope => {
                tensors.norm("rope_factors_long.weight", len, 4.0)?;
                tensors.norm("rope_factors_short.weight", len, 1.2)
            }
            _ => Ok(()),
        }
    }

    fn write_state_space(&self, tensors: &mut Tensors, layer: u32) -> Result<(), FormatError> {
        let TinyStateSpace { conv_kernel, state_size, time_step_rank, .. } = self.state_space;
        let (hidden, inner) = (self.hidden, 2 * self.hidden);
        let name = |part: &str| format!("blk.{layer}.{part}");
        tensors.matrix(&name("ssm_in.weight"), hidden, (2 * inner).into(), 1.5)?;
        tensors.table(&name("ssm_conv1d.weight"), (conv_kernel, inner), |random, _| random.normal())?;
        tensors.bias(&name("ssm_conv1d.bias"), inner)?;
        tensors.matrix(&name("ssm_x.weight"), inner, (time_step_rank + 2 * state_size).into(), 1.5)?;
        tensors.matrix(&name("ssm_dt.weight"), time_step_rank, inner.into(), 1.0)?;
        // Time steps around a fifth: what is remembered fades over a few positions, or over dozens.
        tensors.vector(&name("ssm_dt.bias"), inner, -1.5, 0.5)?;
        #[expect(clippy::cast_precision_loss, reason = "sizes of tiny models")]
        let fading = |random: &mut Random, n: u32| -0.1 * (n + 1) as f32 * (0.2 * random.normal()).exp();
        tensors.table(&name("ssm_a"), (state_size, inner), fading)?;
        tensors.vector(&name("ssm_d"), inner, 1.0, 0.5)?;
        tensors.matrix(&name("ssm_out.weight"), inner, hidden.into(), 1.0)
    }

    fn write_layer(&self, tensors: &mut Tensors, layer: u32) -> Result<(), FormatError> {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let hidden = self.hidden;
        tensors.norm(&name("attn_norm"), hidden, 1.0)?;
        if self.architecture == Architecture::Mamba {
            return self.write_state_space(tensors, layer);
        }
        self.write_attention(tensors, layer)?;
        tensors.norm(&name("ffn_norm"), hidden, 1.0)?;
        self.write_feed_forward(tensors, layer)?;
        if matches!(self.architecture, Architecture::Gemma3 | Architecture::Qwen3) {
            tensors.norm(&name("attn_q_norm"), self.head_dim, 1.5)?;
            tensors.norm(&name("attn_k_norm"), self.head_dim, 1.5)?;
        }
        if matches!(self.architecture, Architecture::Gemma3 | Architecture::Gemma2) {
            tensors.norm(&name("post_attention_norm"), hidden, 1.0)?;
            tensors.norm(&name("post_ffw_norm"), hidden, 1.0)?;
        }
        Ok(())
    }

    fn write_attention(&self, tensors: &mut Tensors, layer: u32) -> Result<(), FormatError> {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let hidden = self.hidden;
        let (queries, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        // Scores are products of queries and keys over the root of the head's length: they spread over about two units.
        if self.architecture == Architecture::Phi3 {
            tensors.matrix(&name("attn_qkv"), hidden, (queries + 2 * kv).into(), 1.4)?;
        } else {
            tensors.matrix(&name("attn_q"), hidden, queries.into(), 1.5)?;
            tensors.matrix(&name("attn_k"), hidden, kv.into(), 1.5)?;
            tensors.matrix(&name("attn_v"), hidden, kv.into(), 1.0)?;
        }
        tensors.matrix(&name("attn_output"), queries, hidden.into(), 1.0)?;
        if self.attention_biases || self.architecture == Architecture::Qwen2 {
            for (part, len) in [("attn_q", queries), ("attn_k", kv), ("attn_v", kv)] {
                tensors.bias(&format!("blk.{layer}.{part}.bias"), len)?;
            }
        }
        if self.attention_biases {
            tensors.bias(&format!("blk.{layer}.attn_output.bias"), hidden)?;
        }
        Ok(())
    }

    fn write_feed_forward(&self, tensors: &mut Tensors, layer: u32) -> Result<(), FormatError> {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let (hidden, middle) = (self.hidden, self.feed_forward);
        match (self.architecture, self.experts) {
            (_, Some(TinyExperts { count, .. })) => {
                tensors.experts(&name("ffn_gate_exps"), (hidden, middle, count), 1.5)?;
                tensors.experts(&name("ffn_up_exps"), (hidden, middle, count), 1.0)?;
                tensors.experts(&name("ffn_down_exps"), (middle, hidden, count), 1.0)?;
                tensors.router(&name("ffn_gate_inp"), hidden, count)
            }
            (Architecture::Phi3, None) => {
                tensors.matrix(&name("ffn_up"), hidden, (2 * middle).into(), 1.2)?;
                tensors.matrix(&name("ffn_down"), middle, hidden.into(), 1.0)
            }
            (_, None) => {
                tensors.matrix(&name("ffn_gate"), hidden, middle.into(), 1.5)?;
                tensors.matrix(&name("ffn_up"), hidden, middle.into(), 1.0)?;
                tensors.matrix(&name("ffn_down"), middle, hidden.into(), 1.0)
            }
        }
    }
}

/// Makes tensors one after another.
struct Tensors {
    writer: Writer,
    random: Random,
    ty: TensorType,
}

impl Tensors {
    /// A matrix whose products with values of size 1 have about the size `gain`.
    fn matrix(&mut self, name: &str, cols: u32, rows: u64, gain: f32) -> Result<(), FormatError> {
        self.random_tensor(name, self.ty, &[cols.into(), rows], gain)
    }

    /// Matrices of that kind in one tensor: values of a row, rows, and how many.
    fn experts(&mut self, name: &str, (cols, rows, count): (u32, u32, u32), gain: f32) -> Result<(), FormatError> {
        self.random_tensor(name, self.ty, &[cols.into(), rows.into(), count.into()], gain)
    }

    /// A matrix that stays in floats, as in real files.
    fn router(&mut self, name: &str, cols: u32, rows: u32) -> Result<(), FormatError> {
        self.random_tensor(name, TensorType::F32, &[cols.into(), rows.into()], 1.5)
    }

    fn random_tensor(&mut self, name: &str, ty: TensorType, dims: &[u64], gain: f32) -> Result<(), FormatError> {
        #[expect(clippy::cast_precision_loss, reason = "sizes of tiny models")]
        let scale = gain / (dims[0] as f32).sqrt();
        let values: Vec<f32> = (0..dims.iter().product::<u64>()).map(|_| self.random.normal() * scale).collect();
        let bytes = quantize(ty, &values).unwrap_or_default();
        self.writer.tensor(name, ty, dims, bytes)?;
        Ok(())
    }

    /// A table that stays in floats; `value` is given the place in a row.
    fn table(
        &mut self,
        name: &str,
        (cols, rows): (u32, u32),
        value: impl Fn(&mut Random, u32) -> f32,
    ) -> Result<(), FormatError> {
        let random = &mut self.random;
        let bytes = (0..rows).flat_map(|_| 0..cols).flat_map(|col| value(random, col).to_le_bytes()).collect();
        self.writer.tensor(name, TensorType::F32, &[cols.into(), rows.into()], bytes)?;
        Ok(())
    }

    /// Weights of a norm, around `mean`.
    fn norm(&mut self, name: &str, len: u32, mean: f32) -> Result<(), FormatError> {
        self.vector(name, len, mean, 0.2)
    }

    /// Biases of either sign.
    fn bias(&mut self, name: &str, len: u32) -> Result<(), FormatError> {
        self.vector(name, len, 0.0, 0.5)
    }

    fn vector(&mut self, name: &str, len: u32, mean: f32, spread: f32) -> Result<(), FormatError> {
        let bytes = (0..len).flat_map(|_| (mean + spread * self.random.normal()).to_le_bytes()).collect();
        self.writer.tensor(name, TensorType::F32, &[len.into()], bytes)?;
        Ok(())
    }
}
