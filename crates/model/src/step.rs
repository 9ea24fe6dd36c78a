//! The parts that all architectures' forward passes are made of, over the buffers of one step.

mod low_rank;
mod mixture;
mod state_space;

use kernels::{
    Activations, Attention, AttentionInput, AttentionShape, Curve, Heads, KvPlaces, Matrix, QueryColumn,
    RopeFrequencies, RopeTable, Source, ThreadPool, add, add_to_rows, matmul, matmul_gated, rms_norm_add, scale,
    softcap,
};

use crate::adapter::Part;
use crate::batch::Batch;
use crate::config::ModelConfig;
use crate::kv_cache::KvCache;
use crate::weights::{AttentionWeights, FeedForward, FeedForwardWeights, OuterWeights};
use low_rank::{Adapted, LowRank};
use mixture::Mixture;
use state_space::StateSpaceBuffers;

/// Working memory of forward passes, reused from step to step; it grows to what the largest batch so far needed.
#[derive(Default)]
pub struct Workspace {
    columns: Vec<QueryColumn>,
    rope_tables: [RopeTable; 2],
    hidden: Vec<f32>,
    delta: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    activations: Activations,
    middle: Activations,
    attention: Attention,
    mixture: Mixture,
    state_space: StateSpaceBuffers,
    low_rank: LowRank,
}

impl Workspace {
    /// No memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The buffers of a step of these columns; angles are prepared for each of `frequencies`, at most two.
    pub(crate) fn step<'a>(
        &'a mut self,
        (pool, config): (&'a ThreadPool, &'a ModelConfig),
        frequencies: &[RopeFrequencies],
        cache: &'a mut KvCache,
        batch: &'a Batch<'a>,
    ) -> Step<'a> {
        let n = batch.columns.len();
        self.columns.clear();
        self.columns.extend(batch.columns.iter().map(|c| QueryColumn { position: c.position, sequence: c.sequence }));
        for (table, frequencies) in self.rope_tables.iter_mut().zip(frequencies) {
            table.prepare(pool, frequencies, &self.columns, |c| c.position);
        }
        if config.state_space.is_some() {
            self.state_space.runs.prepare(&self.columns, batch.tables);
        }
        let adapted = Adapted::of(batch);
        Step {
            pool,
            config,
            cache,
            batch,
            columns: &self.columns,
            rope_tables: &self.rope_tables,
            hidden: first(&mut self.hidden, n * config.hidden),
            delta: first(&mut self.delta, n * config.hidden),
            queries: first(&mut self.queries, n * config.query_width()),
            keys: first(&mut self.keys, n * config.kv_width()),
            values: first(&mut self.values, n * config.kv_width()),
            attended: first(&mut self.attended, n * config.query_width()),
            gate: &mut self.gate,
            up: &mut self.up,
            activations: &mut self.activations,
            middle: &mut self.middle,
            attention: &mut self.attention,
            mixture: &mut self.mixture,
            state_space: &mut self.state_space,
            float_inputs: adapted.iter().any(|adapted| adapted.adapter.reads_floats()),
            adapted,
            low_rank: &mut self.low_rank,
        }
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workspace({} columns)", self.columns.len())
    }
}

/// The first `len` floats of a buffer, which grows but never shrinks: steps of changing size clear nothing.
fn first(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// What a layer's queries see, and how they weigh it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Factor of the scores.
    pub(crate) scale: f32,
    /// Keys that a query sees, if not all.
    pub(crate) window: Option<usize>,
}

/// Whether one of the matrices reads activations as floats.
fn any_float(readers: &[&Matrix]) -> bool {
    readers.iter().any(|matrix| matrix.weight_type().is_float())
}

/// One forward pass under way: each method is one part of a layer, over all columns.
pub(crate) struct Step<'a> {
    pool: &'a ThreadPool,
    config: &'a ModelConfig,
    cache: &'a mut KvCache,
    batch: &'a Batch<'a>,
    columns: &'a [QueryColumn],
    rope_tables: &'a [RopeTable; 2],
    /// Hidden states `[columns][hidden]`, to which each layer adds.
    hidden: &'a mut [f32],
    /// What a part wants to add to the hidden states.
    delta: &'a mut [f32],
    queries: &'a mut [f32],
    keys: &'a mut [f32],
    values: &'a mut [f32],
    attended: &'a mut [f32],
    /// What adapters change before it becomes the middle of a feed-forward.
    gate: &'a mut Vec<f32>,
    up: &'a mut Vec<f32>,
    activations: &'a mut Activations,
    /// What stands between the products of a feed-forward.
    middle: &'a mut Activations,
    attention: &'a mut Attention,
    mixture: &'a mut Mixture,
    state_space: &'a mut StateSpaceBuffers,
    /// Whether an adapter of the batch reads activations as floats.
    float_inputs: bool,
    adapted: Vec<Adapted<'a>>,
    low_rank: &'a mut LowRank,
}

impl Step<'_> {
    /// hidden = embedding of each token, times `factor`.
    pub(crate) fn embed(&mut self, embedding: &Matrix, factor: Option<f32>) {
        let columns = self.batch.columns;
        self.pool.for_each_chunk(self.hidden, self.config.hidden, |i, row| {
            embedding.row_into(columns[i].token as usize, row);
        });
        if let Some(factor) = factor {
            scale(self.pool, self.hidden, factor);
        }
    }

    /// Input of the next projections = norm(hidden).
    pub(crate) fn norm(&mut self, weight: &[f32], readers: &[&Matrix]) {
        let source = Source::Norm { x: self.hidden, weight, eps: self.config.norm_eps };
        let shape = (self.columns.len(), self.config.hidden);
        self.activations.fill(self.pool, source, shape, self.float_inputs || any_float(readers));
    }

    /// hidden += delta.
    pub(crate) fn add(&mut self) {
        add(self.pool, self.hidden, self.delta);
    }

    /// hidden += delta; input of the next projections = norm(hidden).
    pub(crate) fn add_then_norm(&mut self, weight: &[f32], readers: &[&Matrix]) {
        let source = Source::AddNorm { x: self.hidden, delta: self.delta, weight, eps: self.config.norm_eps };
        let shape = (self.columns.len(), self.config.hidden);
        self.activations.fill(self.pool, source, shape, self.float_inputs || any_float(readers));
    }

    /// hidden += norm(delta).
    pub(crate) fn norm_then_add(&mut self, weight: &[f32]) {
        rms_norm_add(self.pool, self.hidden, self.delta, weight, self.config.norm_eps);
    }

    /// hidden += norm(delta) with the first weights; input of the next projections = norm(hidden) with the second.
    pub(crate) fn norm_add_norm(&mut self, weights: [&[f32]; 2], readers: &[&Matrix]) {
        let source = Source::NormAddNorm { x: self.hidden, delta: self.delta, weights, eps: self.config.norm_eps };
        let shape = (self.columns.len(), self.config.hidden);
        self.activations.fill(self.pool, source, shape, self.float_inputs || any_float(readers));
    }

    /// Queries, keys and values.
    pub(crate) fn project_qkv(&mut self, layer: usize, weights: &AttentionWeights) {
        let mut products = [
            (&weights.query, &mut *self.queries),
            (&weights.key, &mut *self.keys),
            (&weights.value, &mut *self.values),
        ];
        matmul(self.pool, &mut products, self.activations);
        for ((_, x), bias) in products.iter_mut().zip(&weights.input_biases) {
            if let Some(bias) = bias {
                add_to_rows(self.pool, x, bias);
            }
        }
        let mut products =
            [(Part::Query, &mut *self.queries), (Part::Key, &mut *self.keys), (Part::Value, &mut *self.values)];
        self.low_rank.add(self.pool, (&self.adapted, layer), self.activations, &mut products);
    }

    /// Norms each head's query and key with `norms` where given, turns them by position with the angles of table `rope`,
    /// writes keys and values to the cache, then lets each query attend to what it sees.
    pub(crate) fn attend(&mut self, layer: usize, norms: Option<[&[f32]; 2]>, rope: usize, seen: Seen) {
        let config = self.config;
        let Seen { scale, window } = seen;
        let shape = AttentionShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            scale,
            window,
            softcap: config.attention_softcap,
        };
        let places = KvPlaces { layer, columns: self.columns, tables: self.batch.tables };
        let heads = Heads {
            queries: self.queries,
            keys: self.keys,
            values: self.values,
            norms: norms.map(|weights| (weights, config.norm_eps)),
            angles: &self.rope_tables[rope],
        };
        let store = self.cache.kv();
        self.attention.prepare(self.pool, store, &places, &shape, heads);
        let input = AttentionInput {
            shape,
            store,
            layer,
            columns: self.columns,
            tables: self.batch.tables,
            queries: self.queries,
        };
        self.attention.run(self.pool, &input, self.attended);
    }

    /// delta = output projection of what was attended.
    pub(crate) fn project_output(&mut self, layer: usize, weights: &AttentionWeights) {
        let shape = (self.columns.len(), self.config.query_width());
        let floats = self.float_inputs || any_float(&[&weights.output]);
        self.activations.fill(self.pool, Source::Values(self.attended), shape, floats);
        matmul(self.pool, &mut [(&weights.output, &mut *self.delta)], self.activations);
        if let Some(bias) = &weights.output_bias {
            add_to_rows(self.pool, self.delta, bias);
        }
        let mut products = [(Part::Output, &mut *self.delta)];
        self.low_rank.add(self.pool, (&self.adapted, layer), self.activations, &mut products);
    }

    /// delta = feed-forward, gated by `curve`.
    pub(crate) fn feed_forward(&mut self, layer: usize, weights: &FeedForward, curve: Curve) {
        match weights {
            FeedForward::Dense(weights) => self.dense(layer, weights, curve),
            FeedForward::Mixture(weights) => self.mixture(weights, curve),
        }
    }

    fn dense(&mut self, layer: usize, weights: &FeedForwardWeights, curve: Curve) {
        let floats = self.float_inputs || any_float(&[&weights.down]);
        if self.adapted.is_empty() {
            let products = [(&weights.gate, &weights.up, 0..self.columns.len())];
            matmul_gated(self.pool, &products, self.activations, curve, (self.middle, floats));
        } else {
            self.adapted_middle(layer, weights, curve, floats);
        }
        matmul(self.pool, &mut [(&weights.down, &mut *self.delta)], self.middle);
        let mut products = [(Part::Down, &mut *self.delta)];
        self.low_rank.add(self.pool, (&self.adapted, layer), self.middle, &mut products);
    }

    /// The middle of a feed-forward whose products adapters change.
    fn adapted_middle(&mut self, layer: usize, weights: &FeedForwardWeights, curve: Curve, floats: bool) {
        let shape = (self.columns.len(), self.config.feed_forward);
        let (gate, up) = (first(self.gate, shape.0 * shape.1), first(self.up, shape.0 * shape.1));
        matmul(self.pool, &mut [(&weights.gate, &mut *gate), (&weights.up, &mut *up)], self.activations);
        let mut products = [(Part::Gate, &mut *gate), (Part::Up, &mut *up)];
        self.low_rank.add(self.pool, (&self.adapted, layer), self.activations, &mut products);
        self.middle.fill(self.pool, Source::Gated { curve, gate, up }, shape, floats);
    }

    /// Logits of the wanted columns.
    pub(crate) fn head(&mut self, weights: &OuterWeights, logits: &mut [f32]) {
        let width = self.config.hidden;
        let wanted = self.batch.logits_of;
        if wanted.is_empty() {
            return;
        }
        // Deltas are done with: their buffer gathers the wanted hidden states.
        let gathered = &mut self.delta[..wanted.len() * width];
        for (to, &column) in gathered.chunks_exact_mut(width).zip(wanted) {
            to.copy_from_slice(&self.hidden[column as usize * width..][..width]);
        }
        let source = Source::Norm { x: gathered, weight: &weights.norm, eps: self.config.norm_eps };
        self.activations.fill(self.pool, source, (wanted.len(), width), any_float(&[weights.head()]));
        matmul(self.pool, &mut [(weights.head(), &mut *logits)], self.activations);
        if let Some(cap) = self.config.logit_softcap {
            softcap(self.pool, logits, cap);
        }
    }
}
