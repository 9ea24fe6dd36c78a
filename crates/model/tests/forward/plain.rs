//! A forward pass in the plainest possible form: double precision, one loop per formula, no batches, no cache blocks.
//! Keys and values are rounded to half floats, as the cache holds them, unless told otherwise.

use std::collections::HashMap;

use formats::gguf::Gguf;
use half::f16;
use test_support::{Architecture, RopeStretch, TinyModel};

/// What the formulas depend on; tests alter single fields.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) layers: usize,
    pub(crate) eps: f64,
    pub(crate) global_rope_base: f64,
    pub(crate) local_rope_base: f64,
    pub(crate) rope_halves: bool,
    /// Values of a head that turn.
    pub(crate) rope_dims: usize,
    /// Positions are divided by this.
    pub(crate) rope_divisor: f64,
    /// Factor of what is turned.
    pub(crate) rope_magnitude: f64,
    /// Tensor of divisors of the frequencies.
    pub(crate) rope_factors: Option<&'static str>,
    /// YaRN's factor and original context.
    pub(crate) yarn: Option<[f64; 2]>,
    /// Whether keys and values are rounded to half floats.
    pub(crate) half_cache: bool,
    /// Keys that a local layer sees. `None`: all layers are global.
    pub(crate) window: Option<usize>,
    /// Each how many layers one is global; 0: all are local.
    pub(crate) global_every: usize,
    /// Experts that a token goes through.
    pub(crate) experts_used: usize,
    /// What scores and logits are brought within.
    pub(crate) softcaps: [Option<f64>; 2],
    /// Whether biases that the file has are added.
    pub(crate) biased: bool,
    pub(crate) embedding_factor: f64,
    pub(crate) gelu: bool,
    /// Whether GELU is looked up in a table from half floats to half floats, as llama.cpp does.
    pub(crate) half_gelu: bool,
    pub(crate) score_scale: f64,
    /// A norm (the part of its tensor's name) that is left out.
    pub(crate) without_norm: Option<&'static str>,
}

impl Spec {
    pub(crate) fn of(tiny: &TinyModel) -> Self {
        let gemma = matches!(tiny.architecture, Architecture::Gemma2 | Architecture::Gemma3);
        let gemma2 = tiny.architecture == Architecture::Gemma2;
        let (rope_divisor, rope_factors, rope_magnitude) = match tiny.rope_stretch {
            RopeStretch::None => (1.0, None, 1.0),
            RopeStretch::Linear(factor) => (f64::from(factor), None, 1.0),
            RopeStretch::Divisors => (1.0, Some("rope_freqs.weight"), 1.0),
            RopeStretch::Longrope if tiny.context_len > tiny.original_context => {
                (1.0, Some("rope_factors_long.weight"), f64::from(1.19f32))
            }
            RopeStretch::Longrope => (1.0, Some("rope_factors_short.weight"), f64::from(1.19f32)),
            RopeStretch::Yarn(factor) => (1.0, None, 1.0 + 0.1 * f64::from(factor).ln()),
        };
        Self {
            heads: tiny.heads as usize,
            kv_heads: tiny.kv_heads as usize,
            head_dim: tiny.head_dim as usize,
            layers: tiny.layers as usize,
            eps: f64::from(1e-5f32),
            global_rope_base: f64::from(tiny.rope_base),
            local_rope_base: if gemma2 { f64::from(tiny.rope_base) } else { 10_000.0 },
            rope_halves: tiny.architecture != Architecture::Llama,
            rope_dims: tiny.rope_dims.unwrap_or(tiny.head_dim) as usize,
            rope_divisor,
            rope_magnitude,
            rope_factors,
            yarn: match tiny.rope_stretch {
                RopeStretch::Yarn(factor) => Some([f64::from(factor), f64::from(tiny.original_context)]),
                _ => None,
            },
            half_cache: true,
            window: (tiny.sliding_window > 0).then_some(tiny.sliding_window as usize),
            global_every: match tiny.architecture {
                Architecture::Gemma2 => 2,
                Architecture::Gemma3 => 6,
                _ => 0,
            },
            experts_used: tiny.experts.map_or(0, |experts| experts.used as usize),
            softcaps: if gemma2 { tiny.softcaps.map(|cap| Some(f64::from(cap))) } else { [None; 2] },
            biased: true,
            embedding_factor: if gemma { f64::from(tiny.hidden).sqrt() } else { 1.0 },
            gelu: gemma,
            half_gelu: false,
            score_scale: 1.0 / f64::from(tiny.head_dim).sqrt(),
            without_norm: None,
        }
    }
}

/// All tensors of a file, as double precision rows.
pub(crate) struct Weights {
    tensors: HashMap<String, Vec<Vec<f64>>>,
}

impl Weights {
    /// Reads a file whose tensors are all F32.
    pub(crate) fn read(gguf: &Gguf) -> Self {
        let mut tensors = HashMap::new();
        for info in gguf.tensors() {
            let mut bytes = Vec::new();
            gguf.read_tensor(info, 0..info.rows(), &mut bytes).unwrap();
            let values: Vec<f64> =
                bytes.as_chunks().0.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect();
            let row_len = usize::try_from(info.row_len()).unwrap();
            tensors.insert(info.name.clone(), values.chunks(row_len).map(<[f64]>::to_vec).collect());
        }
        Self { tensors }
    }

    pub(crate) fn get(&self, name: &str) -> &[Vec<f64>] {
        &self.tensors[name]
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn times(&self, name: &str, x: &[f64]) -> Vec<f64> {
        times(self.get(name), x)
    }
}

pub(crate) fn times(rows: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    rows.iter().map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

/// Logits of each position.
pub(crate) fn logits(spec: &Spec, weights: &Weights, tokens: &[u32]) -> Vec<Vec<f64>> {
    let mut pass = Pass { spec, weights, keys: vec![Vec::new(); spec.layers], values: vec![Vec::new(); spec.layers] };
    tokens.iter().enumerate().map(|(position, &token)| pass.token(token, position)).collect()
}

struct Pass<'a> {
    spec: &'a Spec,
    weights: &'a Weights,
    /// By layer and position.
    keys: Vec<Vec<Vec<f64>>>,
    values: Vec<Vec<Vec<f64>>>,
}

impl Pass<'_> {
    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        if self.spec.without_norm.is_some_and(|part| name.contains(part)) {
            return x.to_vec();
        }
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let root = (mean + self.spec.eps).sqrt();
        x.iter().zip(&self.weights.get(name)[0]).map(|(x, w)| x / root * w).collect()
    }

    /// The norm, where the file has it.
    fn norm_if_any(&self, x: Vec<f64>, name: &str) -> Vec<f64> {
        if self.weights.has(name) { self.norm(&x, name) } else { x }
    }

    fn token(&mut self, token: u32, position: usize) -> Vec<f64> {
        let embedding = &self.weights.get("token_embd.weight")[token as usize];
        let mut x: Vec<f64> = embedding.iter().map(|x| x * self.spec.embedding_factor).collect();
        for layer in 0..self.spec.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let attended = self.attention(&x, layer, position);
            add(&mut x, &self.norm_if_any(attended, &name("post_attention_norm")));
            let normed = self.norm(&x, &name("ffn_norm"));
            let fed = self.feed_forward(&normed, layer);
            add(&mut x, &self.norm_if_any(fed, &name("post_ffw_norm")));
        }
        let normed = self.norm(&x, "output_norm.weight");
        let head = if self.weights.has("output.weight") { "output.weight" } else { "token_embd.weight" };
        self.weights.times(head, &normed).into_iter().map(|x| capped(x, self.spec.softcaps[1])).collect()
    }

    fn feed_forward(&self, x: &[f64], layer: usize) -> Vec<f64> {
        let get = |part: &str| self.weights.get(&format!("blk.{layer}.{part}.weight"));
        let has = |part: &str| self.weights.has(&format!("blk.{layer}.{part}.weight"));
        if has("ffn_gate") {
            return self.gated(x, [get("ffn_gate"), get("ffn_up"), get("ffn_down")]);
        }
        if !has("ffn_gate_inp") {
            let (gate, up) = get("ffn_up").split_at(get("ffn_up").len() / 2);
            return self.gated(x, [gate, up, get("ffn_down")]);
        }
        // The softmax of all experts' scores; then the best, their weights made to sum up to 1.
        let scores = times(get("ffn_gate_inp"), x);
        let all: f64 = scores.iter().map(|score| score.exp()).sum();
        let mut experts: Vec<(usize, f64)> = scores.iter().map(|score| score.exp() / all).enumerate().collect();
        experts.sort_by(|a, b| b.1.total_cmp(&a.1));
        experts.truncate(self.spec.experts_used);
        let sum: f64 = experts.iter().map(|expert| expert.1).sum();
        let mut out = vec![0.0; x.len()];
        for (expert, weight) in experts {
            let part = |name: &str| {
                let (rows, count) = (get(name), scores.len());
                &rows[rows.len() / count * expert..][..rows.len() / count]
            };
            let share = self.gated(x, ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"].map(part));
            add(&mut out, &share.iter().map(|x| x * weight / sum).collect::<Vec<_>>());
        }
        out
    }

    fn gated(&self, x: &[f64], [gate, up, down]: [&[Vec<f64>]; 3]) -> Vec<f64> {
        let (gate, up) = (times(gate, x), times(up, x));
        let middle: Vec<f64> = gate.iter().zip(&up).map(|(&gate, up)| self.activation(gate) * up).collect();
        times(down, &middle)
    }

    fn activation(&self, x: f64) -> f64 {
        match self.spec.gelu {
            false => x / (1.0 + (-x).exp()),
            true if self.spec.half_gelu => half(gelu(half(x))),
            true => gelu(x),
        }
    }

    fn attention(&mut self, x: &[f64], layer: usize, position: usize) -> Vec<f64> {
        let (spec, name) = (self.spec, |part: &str| format!("blk.{layer}.{part}.weight"));
        let is_global = spec.global_every > 0 && layer % spec.global_every == spec.global_every - 1;
        let local = spec.window.filter(|_| !is_global);
        let base = if spec.global_every > 0 && !is_global { spec.local_rope_base } else { spec.global_rope_base };
        let normed = self.norm(x, &name("attn_norm"));
        let [queries, keys, values] = self.projections(&normed, layer);
        let heads = |pass: &Self, projected: &[f64], norm: &str| -> Vec<f64> {
            let mut turned = Vec::new();
            for head in projected.chunks(spec.head_dim) {
                turned.extend(pass.turn(&pass.norm_if_any(head.to_vec(), &name(norm)), position, base));
            }
            turned
        };
        let queries = heads(self, &queries, "attn_q_norm");
        let keys = heads(self, &keys, "attn_k_norm");
        let kept = |x: Vec<f64>| if spec.half_cache { halves(&x) } else { x };
        self.keys[layer].push(kept(keys));
        self.values[layer].push(kept(values));
        let first = local.map_or(0, |window| (position + 1).saturating_sub(window));
        let mut out = Vec::new();
        for (head, query) in queries.chunks(spec.head_dim).enumerate() {
            let at = head / (spec.heads / spec.kv_heads) * spec.head_dim;
            let score = |key: &Vec<f64>| -> f64 {
                let score = query.iter().zip(&key[at..]).map(|(q, k)| q * k).sum::<f64>() * spec.score_scale;
                capped(score, spec.softcaps[0])
            };
            let scores: Vec<f64> = self.keys[layer][first..].iter().map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for d in 0..spec.head_dim {
                let values = self.values[layer][first..].iter().map(|value| value[at + d]);
                out.push(values.zip(&weights).map(|(value, weight)| value * weight).sum::<f64>() / sum);
            }
        }
        self.biased(self.weights.times(&name("attn_output"), &out), layer, "attn_output")
    }

    /// Queries, keys and values, from tensors of their own or from one.
    fn projections(&self, x: &[f64], layer: usize) -> [Vec<f64>; 3] {
        let fused = format!("blk.{layer}.attn_qkv.weight");
        if self.weights.has(&fused) {
            let all = self.weights.times(&fused, x);
            let (queries, rest) = all.split_at(self.spec.heads * self.spec.head_dim);
            let (keys, values) = rest.split_at(self.spec.kv_heads * self.spec.head_dim);
            return [queries.to_vec(), keys.to_vec(), values.to_vec()];
        }
        ["attn_q", "attn_k", "attn_v"]
            .map(|part| self.biased(self.weights.times(&format!("blk.{layer}.{part}.weight"), x), layer, part))
    }

    fn biased(&self, mut x: Vec<f64>, layer: usize, part: &str) -> Vec<f64> {
        let name = format!("blk.{layer}.{part}.bias");
        if self.spec.biased && self.weights.has(&name) {
            add(&mut x, &self.weights.get(&name)[0]);
        }
        x
    }

    fn turn(&self, head: &[f64], position: usize, base: f64) -> Vec<f64> {
        let (spec, mut out) = (self.spec, head.to_vec());
        let pairs = spec.rope_dims / 2;
        for i in 0..pairs {
            let divisor = spec.rope_divisor * spec.rope_factors.map_or(1.0, |name| self.weights.get(name)[0][i]);
            let angle = position as f64 * base.powf(-(i as f64) / pairs as f64) / divisor * self.yarn(i, base);
            let (c, s) = (angle.cos() * spec.rope_magnitude, angle.sin() * spec.rope_magnitude);
            let (a, b) = if spec.rope_halves { (i, i + pairs) } else { (2 * i, 2 * i + 1) };
            out[a] = head[a] * c - head[b] * s;
            out[b] = head[a] * s + head[b] * c;
        }
        out
    }

    /// Factor of a pair's frequency (Peng et al. 2023, "YaRN", formulas 17 to 22): pairs that turn more than 32 times over
    /// the original context keep theirs, those that turn less than once have it divided, and between them both are mixed.
    fn yarn(&self, pair: usize, base: f64) -> f64 {
        let Some([factor, context]) = self.spec.yarn else { return 1.0 };
        let dims = self.spec.rope_dims as f64;
        let pair_that_turns = |times: f64| dims * (context / (times * std::f64::consts::TAU)).ln() / (2.0 * base.ln());
        let first = pair_that_turns(32.0).floor().max(0.0);
        let last = pair_that_turns(1.0).ceil().min(dims - 1.0);
        let divided = ((pair as f64 - first) / (last - first).max(0.001)).clamp(0.0, 1.0);
        divided / factor + (1.0 - divided)
    }
}

fn capped(x: f64, cap: Option<f64>) -> f64 {
    cap.map_or(x, |cap| cap * (x / cap).tanh())
}

pub(crate) fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn gelu(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

fn halves(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| half(x)).collect()
}

fn half(x: f64) -> f64 {
    f16::from_f64(x).to_f64()
}
