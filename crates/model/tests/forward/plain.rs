//! A forward pass in the plainest possible form: double precision, one loop per formula, no batches, no cache blocks.
//! Keys and values are rounded to half floats, as the cache holds them.

use std::collections::HashMap;

use formats::gguf::Gguf;
use half::f16;
use test_support::{Architecture, TinyModel};

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
    /// Keys that a local layer sees; every sixth layer is global. `None`: all layers are global.
    pub(crate) window: Option<usize>,
    pub(crate) embedding_factor: f64,
    pub(crate) gelu: bool,
    pub(crate) score_scale: f64,
    /// A norm (the part of its tensor's name) that is left out.
    pub(crate) without_norm: Option<&'static str>,
    gemma: bool,
}

impl Spec {
    pub(crate) fn of(tiny: &TinyModel) -> Self {
        let gemma = tiny.architecture == Architecture::Gemma3;
        Self {
            heads: tiny.heads as usize,
            kv_heads: tiny.kv_heads as usize,
            head_dim: tiny.head_dim as usize,
            layers: tiny.layers as usize,
            eps: f64::from(1e-5f32),
            global_rope_base: f64::from(tiny.rope_base),
            local_rope_base: 10_000.0,
            rope_halves: gemma,
            window: gemma.then_some(tiny.sliding_window as usize),
            embedding_factor: if gemma { f64::from(tiny.hidden).sqrt() } else { 1.0 },
            gelu: gemma,
            score_scale: 1.0 / f64::from(tiny.head_dim).sqrt(),
            without_norm: None,
            gemma,
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

    fn get(&self, name: &str) -> &[Vec<f64>] {
        &self.tensors[name]
    }

    fn times(&self, name: &str, x: &[f64]) -> Vec<f64> {
        self.get(name).iter().map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    }
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

    fn token(&mut self, token: u32, position: usize) -> Vec<f64> {
        let embedding = &self.weights.get("token_embd.weight")[token as usize];
        let mut x: Vec<f64> = embedding.iter().map(|x| x * self.spec.embedding_factor).collect();
        for layer in 0..self.spec.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let mut attended = self.attention(&x, layer, position);
            if self.spec.gemma {
                attended = self.norm(&attended, &name("post_attention_norm"));
            }
            add(&mut x, &attended);
            let normed = self.norm(&x, &name("ffn_norm"));
            let gate = self.weights.times(&name("ffn_gate"), &normed);
            let up = self.weights.times(&name("ffn_up"), &normed);
            let middle: Vec<f64> = gate.iter().zip(&up).map(|(&gate, up)| self.activation(gate) * up).collect();
            let mut fed = self.weights.times(&name("ffn_down"), &middle);
            if self.spec.gemma {
                fed = self.norm(&fed, &name("post_ffw_norm"));
            }
            add(&mut x, &fed);
        }
        let normed = self.norm(&x, "output_norm.weight");
        let head =
            if self.weights.tensors.contains_key("output.weight") { "output.weight" } else { "token_embd.weight" };
        self.weights.times(head, &normed)
    }

    fn activation(&self, x: f64) -> f64 {
        if self.spec.gelu {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        } else {
            x / (1.0 + (-x).exp())
        }
    }

    fn attention(&mut self, x: &[f64], layer: usize, position: usize) -> Vec<f64> {
        let (spec, name) = (self.spec, |part: &str| format!("blk.{layer}.{part}.weight"));
        let local = spec.window.filter(|_| layer % 6 != 5);
        let base = if local.is_some() { spec.local_rope_base } else { spec.global_rope_base };
        let normed = self.norm(x, &name("attn_norm"));
        let heads = |pass: &Self, matrix: &str, norm: &str| -> Vec<f64> {
            let projected = pass.weights.times(&name(matrix), &normed);
            let mut turned = Vec::new();
            for head in projected.chunks(spec.head_dim) {
                let head = if spec.gemma { pass.norm(head, &name(norm)) } else { head.to_vec() };
                turned.extend(turn(&head, position, base, spec.rope_halves));
            }
            turned
        };
        let queries = heads(self, "attn_q", "attn_q_norm");
        let keys = heads(self, "attn_k", "attn_k_norm");
        self.keys[layer].push(halves(&keys));
        self.values[layer].push(halves(&self.weights.times(&name("attn_v"), &normed)));
        let first = local.map_or(0, |window| (position + 1).saturating_sub(window));
        let mut out = Vec::new();
        for (head, query) in queries.chunks(spec.head_dim).enumerate() {
            let at = head / (spec.heads / spec.kv_heads) * spec.head_dim;
            let score = |key: &Vec<f64>| -> f64 {
                query.iter().zip(&key[at..]).map(|(q, k)| q * k).sum::<f64>() * spec.score_scale
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
        self.weights.times(&name("attn_output"), &out)
    }
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn halves(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| f16::from_f64(x).to_f64()).collect()
}

fn turn(head: &[f64], position: usize, base: f64, in_halves: bool) -> Vec<f64> {
    let mut out = head.to_vec();
    let pairs = head.len() / 2;
    for i in 0..pairs {
        let angle = position as f64 * base.powf(-(i as f64) / pairs as f64);
        let (a, b) = if in_halves { (i, i + pairs) } else { (2 * i, 2 * i + 1) };
        out[a] = head[a] * angle.cos() - head[b] * angle.sin();
        out[b] = head[a] * angle.sin() + head[b] * angle.cos();
    }
    out
}
