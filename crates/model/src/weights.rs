//! Weights taken from the file tensor by tensor, a few rows at a time.

use std::collections::HashSet;
use std::ops::Range;

use formats::gguf::{Gguf, TensorInfo, TensorType};
use kernels::{Matrix, MatrixBuilder, MatrixError, SsmTensors, SsmWeights, ThreadPool, WeightMemory, WeightType};

use crate::LoadError;
use crate::config::{Experts, ModelConfig, StateSpace};
use crate::mamba::StateSpaceWeights;

/// Name of the embedding tensor.
pub(crate) const EMBEDDING: &str = "token_embd.weight";
/// Name of a separate output head; without it the embedding serves.
const HEAD: &str = "output.weight";
/// Bytes read from the file at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// Projections of an attention layer.
#[derive(Debug)]
pub(crate) struct AttentionWeights {
    pub(crate) query: Matrix,
    pub(crate) key: Matrix,
    pub(crate) value: Matrix,
    pub(crate) output: Matrix,
    /// Of queries, keys and values.
    pub(crate) input_biases: [Option<Vec<f32>>; 3],
    pub(crate) output_bias: Option<Vec<f32>>,
}

/// Biases of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Biases {
    /// None are known: a file that has some is refused.
    None,
    /// Those that the file has.
    IfAny,
    /// All of queries, keys and values.
    OfInputs,
}

impl AttentionWeights {
    /// Those that read the layer's normed input.
    pub(crate) fn inputs(&self) -> [&Matrix; 3] {
        [&self.query, &self.key, &self.value]
    }
}

/// Matrices of a gated feed-forward layer.
#[derive(Debug)]
pub(crate) struct FeedForwardWeights {
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
}

/// Matrices of a mixture of experts, each a gated feed-forward layer.
#[derive(Debug)]
pub(crate) struct MixtureWeights {
    pub(crate) experts: Experts,
    /// Scores of the experts.
    pub(crate) router: Matrix,
    /// By expert, all of one type.
    pub(crate) gates: Vec<Matrix>,
    pub(crate) ups: Vec<Matrix>,
    pub(crate) downs: Vec<Matrix>,
}

/// What stands in the feed-forward part of a layer.
#[derive(Debug)]
pub(crate) enum FeedForward {
    Dense(FeedForwardWeights),
    Mixture(MixtureWeights),
}

impl FeedForward {
    /// Those that read the layer's normed input; of experts the first stands for all.
    pub(crate) fn inputs(&self) -> [&Matrix; 3] {
        match self {
            Self::Dense(weights) => [&weights.gate, &weights.up, &weights.up],
            Self::Mixture(weights) => [&weights.router, &weights.gates[0], &weights.ups[0]],
        }
    }
}

/// Embedding, last norm and output head.
#[derive(Debug)]
pub(crate) struct OuterWeights {
    pub(crate) embedding: Matrix,
    pub(crate) norm: Vec<f32>,
    /// `None`: the embedding serves.
    head: Option<Matrix>,
}

impl OuterWeights {
    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

/// Takes weights out of a file and remembers which.
pub(crate) struct Loader<'a> {
    gguf: &'a Gguf,
    config: &'a ModelConfig,
    pool: &'a ThreadPool,
    taken: HashSet<String>,
    bytes: Vec<u8>,
    memory: WeightMemory,
    /// For the panels of vectors, which are not kept.
    scratch: WeightMemory,
    /// Bytes of all matrices and tables so far.
    pub(crate) matrix_bytes: usize,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(gguf: &'a Gguf, config: &'a ModelConfig, pool: &'a ThreadPool) -> Self {
        let expected = gguf.tensors().iter().map(|tensor| tensor.byte_len).sum::<u64>();
        Self {
            gguf,
            config,
            pool,
            taken: HashSet::new(),
            bytes: Vec::new(),
            memory: WeightMemory::new(usize::try_from(expected).unwrap_or(usize::MAX)),
            scratch: WeightMemory::new(0),
            matrix_bytes: 0,
        }
    }

    pub(crate) fn outer(&mut self) -> Result<OuterWeights, LoadError> {
        let (vocab, hidden) = (self.config.vocab_size, self.config.hidden);
        let embedding = self.matrix(EMBEDDING, vocab, hidden)?;
        let head = self.gguf.tensor(HEAD).is_some().then(|| self.matrix(HEAD, vocab, hidden)).transpose()?;
        Ok(OuterWeights { embedding, norm: self.vector("output_norm.weight", hidden)?, head })
    }

    pub(crate) fn attention(&mut self, layer: usize, biases: Biases) -> Result<AttentionWeights, LoadError> {
        let (hidden, queries, kv) = (self.config.hidden, self.config.query_width(), self.config.kv_width());
        let mut bias = |part: &str, len| {
            let name = format!("blk.{layer}.{part}.bias");
            let wanted = match biases {
                Biases::None => false,
                Biases::IfAny => self.gguf.tensor(&name).is_some(),
                Biases::OfInputs => part != "attn_output",
            };
            wanted.then(|| self.vector(&name, len)).transpose()
        };
        let input_biases = [bias("attn_q", queries)?, bias("attn_k", kv)?, bias("attn_v", kv)?];
        let output_bias = bias("attn_output", hidden)?;
        Ok(AttentionWeights {
            input_biases,
            output_bias,
            query: self.matrix(&in_layer(layer, "attn_q"), queries, hidden)?,
            key: self.matrix(&in_layer(layer, "attn_k"), kv, hidden)?,
            value: self.matrix(&in_layer(layer, "attn_v"), kv, hidden)?,
            output: self.matrix(&in_layer(layer, "attn_output"), hidden, queries)?,
        })
    }

    /// Attention whose queries, keys and values are rows of one tensor, in this order.
    pub(crate) fn fused_attention(&mut self, layer: usize) -> Result<AttentionWeights, LoadError> {
        let (hidden, queries, kv) = (self.config.hidden, self.config.query_width(), self.config.kv_width());
        let fused = self.tensor(&in_layer(layer, "attn_qkv"), &[hidden, queries + 2 * kv])?;
        Ok(AttentionWeights {
            query: self.rows(fused, 0..queries)?,
            key: self.rows(fused, queries..queries + kv)?,
            value: self.rows(fused, queries + kv..queries + 2 * kv)?,
            output: self.matrix(&in_layer(layer, "attn_output"), hidden, queries)?,
            input_biases: [None, None, None],
            output_bias: None,
        })
    }

    pub(crate) fn feed_forward(&mut self, layer: usize) -> Result<FeedForward, LoadError> {
        if let Some(experts) = self.config.experts {
            return Ok(FeedForward::Mixture(self.mixture(layer, experts)?));
        }
        let (hidden, middle) = (self.config.hidden, self.config.feed_forward);
        Ok(FeedForward::Dense(FeedForwardWeights {
            gate: self.matrix(&in_layer(layer, "ffn_gate"), middle, hidden)?,
            up: self.matrix(&in_layer(layer, "ffn_up"), middle, hidden)?,
            down: self.matrix(&in_layer(layer, "ffn_down"), hidden, middle)?,
        }))
    }

    /// A feed-forward part whose gate and what it lets through are rows of one tensor, in this order.
    pub(crate) fn fused_feed_forward(&mut self, layer: usize) -> Result<FeedForward, LoadError> {
        let (hidden, middle) = (self.config.hidden, self.config.feed_forward);
        let fused = self.tensor(&in_layer(layer, "ffn_up"), &[hidden, 2 * middle])?;
        Ok(FeedForward::Dense(FeedForwardWeights {
            gate: self.rows(fused, 0..middle)?,
            up: self.rows(fused, middle..2 * middle)?,
            down: self.matrix(&in_layer(layer, "ffn_down"), hidden, middle)?,
        }))
    }

    fn mixture(&mut self, layer: usize, experts: Experts) -> Result<MixtureWeights, LoadError> {
        let (hidden, middle) = (self.config.hidden, self.config.feed_forward);
        let mut each = |name: &str, rows: usize, cols: usize| -> Result<Vec<Matrix>, LoadError> {
            let tensor = self.tensor(&in_layer(layer, name), &[cols, rows, experts.count])?;
            (0..experts.count).map(|expert| self.rows(tensor, expert * rows..(expert + 1) * rows)).collect()
        };
        let gates = each("ffn_gate_exps", middle, hidden)?;
        let ups = each("ffn_up_exps", middle, hidden)?;
        let downs = each("ffn_down_exps", hidden, middle)?;
        let router = self.matrix(&in_layer(layer, "ffn_gate_inp"), experts.count, hidden)?;
        Ok(MixtureWeights { experts, router, gates, ups, downs })
    }

    /// A state-space layer: what goes through it and its gate are rows of one tensor, in this order, as are narrow time steps,
    /// `B` and `C`.
    pub(crate) fn state_space(&mut self, layer: usize, sizes: StateSpace) -> Result<StateSpaceWeights, LoadError> {
        let (hidden, StateSpace { inner, conv_kernel, state_size, time_step_rank, .. }) = (self.config.hidden, sizes);
        let fused = self.tensor(&in_layer(layer, "ssm_in"), &[hidden, 2 * inner])?;
        let (value, gate) = (self.rows(fused, 0..inner)?, self.rows(fused, inner..2 * inner)?);
        let ends = [0, time_step_rank, time_step_rank + state_size, time_step_rank + 2 * state_size];
        let fused = self.tensor(&in_layer(layer, "ssm_x"), &[inner, ends[3]])?;
        let mut selection = |part: usize| self.rows(fused, ends[part]..ends[part + 1]);
        let selection = [selection(0)?, selection(1)?, selection(2)?];
        let a_name = format!("blk.{layer}.ssm_a");
        let a = self.table(&a_name, inner, state_size)?;
        // What is remembered would grow with every position.
        if let Some(index) = a.iter().position(|a| *a > 0.0) {
            return Err(LoadError::TensorValue {
                name: a_name,
                expected: "numbers of at most 0",
                index,
                actual: a[index],
            });
        }
        let tensors = SsmTensors {
            conv: &self.table(&in_layer(layer, "ssm_conv1d"), inner, conv_kernel)?,
            conv_bias: &self.vector(&format!("blk.{layer}.ssm_conv1d.bias"), inner)?,
            dt_bias: &self.vector(&format!("blk.{layer}.ssm_dt.bias"), inner)?,
            a: &a,
            d: &self.vector(&format!("blk.{layer}.ssm_d"), inner)?,
        };
        let ssm = SsmWeights::new(sizes.shape(), &tensors);
        self.matrix_bytes += ssm.byte_len();
        let dt = self.matrix(&in_layer(layer, "ssm_dt"), inner, time_step_rank)?;
        let output = self.matrix(&in_layer(layer, "ssm_out"), hidden, inner)?;
        Ok(StateSpaceWeights { sizes, value, gate, selection, dt, ssm, output })
    }

    /// Divisors of the rotary frequencies, if the file has some: `rope_freqs` (Llama 3), or one of `rope_factors_long` and
    /// `rope_factors_short` (LongRoPE), depending on whether the model's context is longer than the original one. (Keys
    /// stay in the cache turned: the choice cannot change with a sequence's length.)
    pub(crate) fn rope_divisors(&mut self) -> Result<Option<Vec<f32>>, LoadError> {
        const PLAIN: &str = "rope_freqs.weight";
        const LONG: &str = "rope_factors_long.weight";
        const SHORT: &str = "rope_factors_short.weight";
        let (scaling, len) = (&self.config.rope_scaling, self.config.rope_dims / 2);
        if !scaling.longrope && [LONG, SHORT].iter().all(|name| self.gguf.tensor(name).is_none()) {
            return self.gguf.tensor(PLAIN).is_some().then(|| self.divisors(PLAIN, len)).transpose();
        }
        let (long, short) = (self.divisors(LONG, len)?, self.divisors(SHORT, len)?);
        Ok(Some(if self.config.context_len > scaling.original_context { long } else { short }))
    }

    fn divisors(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let divisors = self.vector(name, len)?;
        match divisors.iter().position(|&divisor| divisor <= 0.0) {
            None => Ok(divisors),
            Some(index) => Err(LoadError::TensorValue {
                name: name.to_owned(),
                expected: "numbers above 0",
                index,
                actual: divisors[index],
            }),
        }
    }

    /// The weights of a norm in a layer.
    pub(crate) fn norm(&mut self, layer: usize, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        self.vector(&in_layer(layer, name), len)
    }

    /// Refuses files with tensors that were not taken: they would change the answers.
    pub(crate) fn finish(self) -> Result<usize, LoadError> {
        match self.gguf.tensors().iter().find(|t| !self.taken.contains(&t.name)) {
            None => Ok(self.matrix_bytes),
            Some(t) => Err(LoadError::UnsupportedTensor {
                name: t.name.escape_debug().to_string(),
                architecture: self.config.architecture,
            }),
        }
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.tensor(name, &[len])?;
        self.values(tensor, 1, len)
    }

    /// All values of a tensor of two dimensions.
    fn table(&mut self, name: &str, rows: usize, cols: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.tensor(name, &[cols, rows])?;
        self.values(tensor, rows, cols)
    }

    fn values(&mut self, tensor: &TensorInfo, rows: usize, cols: usize) -> Result<Vec<f32>, LoadError> {
        let room = room(&mut self.scratch, tensor, (rows, cols))?;
        let matrix = self.read(tensor, 0..rows as u64, room)?;
        let mut values = vec![0.0; rows * cols];
        for (row, values) in values.chunks_exact_mut(cols).enumerate() {
            matrix.row_into(row, values);
        }
        Ok(values)
    }

    pub(crate) fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix, LoadError> {
        let tensor = self.tensor(name, &[cols, rows])?;
        self.rows(tensor, 0..rows)
    }

    /// Some rows of a tensor as a matrix.
    pub(crate) fn rows(&mut self, tensor: &TensorInfo, rows: Range<usize>) -> Result<Matrix, LoadError> {
        // Its shape was checked against sizes of the configuration.
        let cols = usize::try_from(tensor.row_len()).unwrap_or(usize::MAX);
        let room = room(&mut self.memory, tensor, (rows.len(), cols))?;
        let matrix = self.read(tensor, rows.start as u64..rows.end as u64, room)?;
        self.matrix_bytes += matrix.byte_len();
        Ok(matrix)
    }

    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<&'a TensorInfo, LoadError> {
        let tensor = self.gguf.tensor(name).ok_or_else(|| LoadError::MissingTensor { name: name.to_owned() })?;
        let expected: Vec<u64> = shape.iter().map(|&dim| dim as u64).collect();
        if tensor.dims != expected {
            return Err(LoadError::TensorShape { name: name.to_owned(), expected, actual: tensor.dims.clone() });
        }
        self.taken.insert(name.to_owned());
        Ok(tensor)
    }

    /// Some rows of a tensor as a matrix whose row `i` is row `order(i)` of them. All are in memory meanwhile.
    pub(crate) fn rows_in_order(
        &mut self,
        tensor: &TensorInfo,
        rows: Range<usize>,
        order: impl Fn(usize) -> usize,
    ) -> Result<Matrix, LoadError> {
        let cols = usize::try_from(tensor.row_len()).unwrap_or(usize::MAX);
        let mut room = room(&mut self.memory, tensor, (rows.len(), cols))?;
        self.gguf.read_tensor(tensor, rows.start as u64..rows.end as u64, &mut self.bytes)?;
        let row_bytes = (self.bytes.len() / rows.len().max(1)).max(1);
        let ordered: Vec<u8> =
            (0..rows.len()).flat_map(|i| &self.bytes[order(i) * row_bytes..][..row_bytes]).copied().collect();
        room.push_rows(self.pool, &ordered).map_err(|e| wrong(tensor, e))?;
        let matrix = room.finish().map_err(|e| wrong(tensor, e))?;
        self.matrix_bytes += matrix.byte_len();
        Ok(matrix)
    }

    /// Some rows of a tensor, packed into their room.
    fn read(&mut self, tensor: &TensorInfo, rows: Range<u64>, mut room: MatrixBuilder) -> Result<Matrix, LoadError> {
        let step = (CHUNK_BYTES / tensor.row_bytes().max(1)).max(1);
        let mut row = rows.start;
        while row < rows.end {
            let end = rows.end.min(row + step);
            self.gguf.read_tensor(tensor, row..end, &mut self.bytes)?;
            room.push_rows(self.pool, &self.bytes).map_err(|e| wrong(tensor, e))?;
            row = end;
        }
        room.finish().map_err(|e| wrong(tensor, e))
    }
}

/// Room in `memory` for a tensor of this shape.
fn room(memory: &mut WeightMemory, tensor: &TensorInfo, shape: (usize, usize)) -> Result<MatrixBuilder, LoadError> {
    MatrixBuilder::new(memory, weight_type(tensor.ty), shape.0, shape.1).map_err(|e| wrong(tensor, e))
}

fn wrong(tensor: &TensorInfo, source: MatrixError) -> LoadError {
    LoadError::Matrix { name: tensor.name.clone(), source }
}

fn in_layer(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}.weight")
}

/// How products read tensors of this type.
#[must_use]
pub fn weight_type(ty: TensorType) -> WeightType {
    match ty {
        TensorType::F32 => WeightType::F32,
        TensorType::F16 => WeightType::F16,
        TensorType::BF16 => WeightType::BF16,
        TensorType::Q4_0 => WeightType::Q4_0,
        TensorType::Q4_1 => WeightType::Q4_1,
        TensorType::Q5_0 => WeightType::Q5_0,
        TensorType::Q5_1 => WeightType::Q5_1,
        TensorType::Q8_0 => WeightType::Q8_0,
        TensorType::Q2_K => WeightType::Q2K,
        TensorType::Q3_K => WeightType::Q3K,
        TensorType::Q4_K => WeightType::Q4K,
        TensorType::Q5_K => WeightType::Q5K,
        TensorType::Q6_K => WeightType::Q6K,
        TensorType::IQ4_NL => WeightType::IQ4NL,
        TensorType::IQ4_XS => WeightType::IQ4XS,
        TensorType::MXFP4 => WeightType::MXFP4,
    }
}
