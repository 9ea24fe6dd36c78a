//! The parts that all architectures' forward passes are made of, over the buffers of one step.

use kernels::{
    Activations, Attention, AttentionInput, AttentionShape, Matrix, QueryColumn, RopeFrequencies, RopeTable,
    ThreadPool, add, add_rms_norm, matmul, rms_norm, rms_norm_add, rms_norm_in_place, rope, scale,
};

use crate::batch::{BLOCK_TOKENS, Batch};
use crate::config::ModelConfig;
use crate::kv_cache::KvCache;
use crate::weights::{AttentionWeights, FeedForwardWeights, OuterWeights};

/// Working memory of forward passes, reused from step to step; it grows to what the largest batch so far needed.
#[derive(Default)]
pub struct Workspace {
    columns: Vec<QueryColumn>,
    rope_tables: [RopeTable; 2],
    hidden: Vec<f32>,
    normed: Vec<f32>,
    delta: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    activations: Activations,
    attention: Attention,
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
        frequencies: &[&RopeFrequencies],
        cache: &'a mut KvCache,
        batch: &'a Batch<'a>,
    ) -> Step<'a> {
        let n = batch.columns.len();
        self.columns.clear();
        self.columns.extend(batch.columns.iter().map(|c| QueryColumn { position: c.position, sequence: c.sequence }));
        for (table, frequencies) in self.rope_tables.iter_mut().zip(frequencies) {
            table.prepare(pool, frequencies, &self.columns, |c| c.position);
        }
        Step {
            pool,
            config,
            cache,
            batch,
            columns: &self.columns,
            rope_tables: &self.rope_tables,
            hidden: first(&mut self.hidden, n * config.hidden),
            normed: first(&mut self.normed, n * config.hidden),
            delta: first(&mut self.delta, n * config.hidden),
            queries: first(&mut self.queries, n * config.query_width()),
            keys: first(&mut self.keys, n * config.kv_width()),
            values: first(&mut self.values, n * config.kv_width()),
            attended: first(&mut self.attended, n * config.query_width()),
            gate: first(&mut self.gate, n * config.feed_forward),
            up: first(&mut self.up, n * config.feed_forward),
            activations: &mut self.activations,
            attention: &mut self.attention,
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
    /// Normed hidden states, input of projections.
    normed: &'a mut [f32],
    /// What a part wants to add to the hidden states.
    delta: &'a mut [f32],
    queries: &'a mut [f32],
    keys: &'a mut [f32],
    values: &'a mut [f32],
    attended: &'a mut [f32],
    gate: &'a mut [f32],
    up: &'a mut [f32],
    activations: &'a mut Activations,
    attention: &'a mut Attention,
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

    /// normed = norm(hidden).
    pub(crate) fn norm(&mut self, weight: &[f32]) {
        rms_norm(self.pool, self.hidden, weight, self.config.norm_eps, self.normed);
    }

    /// hidden += delta.
    pub(crate) fn add(&mut self) {
        add(self.pool, self.hidden, self.delta);
    }

    /// hidden += delta; normed = norm(hidden).
    pub(crate) fn add_then_norm(&mut self, weight: &[f32]) {
        add_rms_norm(self.pool, self.hidden, self.delta, (weight, self.config.norm_eps), self.normed);
    }

    /// hidden += norm(delta).
    pub(crate) fn norm_then_add(&mut self, weight: &[f32]) {
        rms_norm_add(self.pool, self.hidden, self.delta, weight, self.config.norm_eps);
    }

    /// Queries, keys and values from normed.
    pub(crate) fn project_qkv(&mut self, weights: &AttentionWeights) {
        self.activations.quantize(self.pool, self.normed, self.columns.len(), self.config.hidden);
        let mut products = [
            (&weights.query, &mut *self.queries),
            (&weights.key, &mut *self.keys),
            (&weights.value, &mut *self.values),
        ];
        matmul(self.pool, &mut products, self.activations);
    }

    /// Norms of each head's query and key.
    pub(crate) fn norm_heads(&mut self, query_weight: &[f32], key_weight: &[f32]) {
        rms_norm_in_place(self.pool, self.queries, query_weight, self.config.norm_eps);
        rms_norm_in_place(self.pool, self.keys, key_weight, self.config.norm_eps);
    }

    /// Turns queries and keys by position, with the angles of the given table.
    pub(crate) fn rope(&mut self, table: usize) {
        let (config, table) = (self.config, &self.rope_tables[table]);
        rope(self.pool, self.queries, config.query_width(), config.head_dim, table);
        rope(self.pool, self.keys, config.kv_width(), config.head_dim, table);
    }

    /// Writes keys and values to the cache, then lets each query attend to what it sees.
    pub(crate) fn attend(&mut self, layer: usize, scale: f32, window: Option<usize>) {
        let config = self.config;
        let width = config.kv_width();
        let rows = self.keys.chunks_exact(width).zip(self.values.chunks_exact(width));
        for (column, (keys, values)) in self.columns.iter().zip(rows) {
            let position = column.position as usize;
            let block = self.batch.tables[column.sequence as usize][position / BLOCK_TOKENS];
            self.cache.store.write(layer, block as usize, position % BLOCK_TOKENS, keys, values);
        }
        let shape =
            AttentionShape { heads: config.heads, kv_heads: config.kv_heads, head_dim: config.head_dim, scale, window };
        let input = AttentionInput {
            shape,
            store: &self.cache.store,
            layer,
            columns: self.columns,
            tables: self.batch.tables,
            queries: self.queries,
        };
        self.attention.run(self.pool, &input, self.attended);
    }

    /// delta = output projection of what was attended.
    pub(crate) fn project_output(&mut self, weights: &AttentionWeights) {
        self.activations.quantize(self.pool, self.attended, self.columns.len(), self.config.query_width());
        matmul(self.pool, &mut [(&weights.output, &mut *self.delta)], self.activations);
    }

    /// delta = gated feed-forward of normed; `activate(pool, gate, up)` leaves its result in `gate`.
    pub(crate) fn feed_forward(
        &mut self,
        weights: &FeedForwardWeights,
        activate: impl Fn(&ThreadPool, &mut [f32], &[f32]),
    ) {
        self.activations.quantize(self.pool, self.normed, self.columns.len(), self.config.hidden);
        let mut products = [(&weights.gate, &mut *self.gate), (&weights.up, &mut *self.up)];
        matmul(self.pool, &mut products, self.activations);
        activate(self.pool, self.gate, self.up);
        self.activations.quantize(self.pool, self.gate, self.columns.len(), self.config.feed_forward);
        matmul(self.pool, &mut [(&weights.down, &mut *self.delta)], self.activations);
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
        let normed = &mut self.normed[..gathered.len()];
        rms_norm(self.pool, gathered, &weights.norm, self.config.norm_eps, normed);
        self.activations.quantize(self.pool, normed, wanted.len(), width);
        matmul(self.pool, &mut [(weights.head(), logits)], self.activations);
    }
}
