//! Weights taken from the file tensor by tensor, a few rows at a time.

use std::collections::HashSet;

use formats::gguf::{Gguf, TensorInfo, TensorType};
use kernels::{Matrix, MatrixBuilder, MatrixError, ThreadPool, WeightMemory, WeightType};

use crate::LoadError;
use crate::config::ModelConfig;

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

impl FeedForwardWeights {
    /// Those that read the layer's normed input.
    pub(crate) fn inputs(&self) -> [&Matrix; 2] {
        [&self.gate, &self.up]
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
    /// For the panels of vectors, which go when their values are taken.
    passing: WeightMemory,
    /// Bytes of all matrices so far.
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
            passing: WeightMemory::new(0),
            matrix_bytes: 0,
        }
    }

    pub(crate) fn outer(&mut self) -> Result<OuterWeights, LoadError> {
        let (vocab, hidden) = (self.config.vocab_size, self.config.hidden);
        let embedding = self.matrix(EMBEDDING, vocab, hidden)?;
        let head = self.gguf.tensor(HEAD).is_some().then(|| self.matrix(HEAD, vocab, hidden)).transpose()?;
        Ok(OuterWeights { embedding, norm: self.vector("output_norm.weight", hidden)?, head })
    }

    pub(crate) fn attention(&mut self, layer: usize) -> Result<AttentionWeights, LoadError> {
        let (hidden, queries, kv) = (self.config.hidden, self.config.query_width(), self.config.kv_width());
        Ok(AttentionWeights {
            query: self.matrix(&in_layer(layer, "attn_q"), queries, hidden)?,
            key: self.matrix(&in_layer(layer, "attn_k"), kv, hidden)?,
            value: self.matrix(&in_layer(layer, "attn_v"), kv, hidden)?,
            output: self.matrix(&in_layer(layer, "attn_output"), hidden, queries)?,
        })
    }

    pub(crate) fn feed_forward(&mut self, layer: usize) -> Result<FeedForwardWeights, LoadError> {
        let (hidden, middle) = (self.config.hidden, self.config.feed_forward);
        Ok(FeedForwardWeights {
            gate: self.matrix(&in_layer(layer, "ffn_gate"), middle, hidden)?,
            up: self.matrix(&in_layer(layer, "ffn_up"), middle, hidden)?,
            down: self.matrix(&in_layer(layer, "ffn_down"), hidden, middle)?,
        })
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
        let builder = MatrixBuilder::new(&mut self.passing, weight_type(tensor.ty), 1, len);
        let matrix = self.fill(builder, tensor)?;
        let mut values = vec![0.0; len];
        matrix.row_into(0, &mut values);
        Ok(values)
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix, LoadError> {
        let tensor = self.tensor(name, &[cols, rows])?;
        let builder = MatrixBuilder::new(&mut self.memory, weight_type(tensor.ty), rows, cols);
        let matrix = self.fill(builder, tensor)?;
        self.matrix_bytes += matrix.byte_len();
        Ok(matrix)
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<&'a TensorInfo, LoadError> {
        let tensor = self.gguf.tensor(name).ok_or_else(|| LoadError::MissingTensor { name: name.to_owned() })?;
        let expected: Vec<u64> = shape.iter().map(|&dim| dim as u64).collect();
        if tensor.dims != expected {
            return Err(LoadError::TensorShape { name: name.to_owned(), expected, actual: tensor.dims.clone() });
        }
        self.taken.insert(name.to_owned());
        Ok(tensor)
    }

    fn fill(&mut self, builder: Result<MatrixBuilder, MatrixError>, tensor: &TensorInfo) -> Result<Matrix, LoadError> {
        let wrong = |source| LoadError::Matrix { name: tensor.name.clone(), source };
        let mut builder = builder.map_err(wrong)?;
        let step = (CHUNK_BYTES / tensor.row_bytes().max(1)).max(1);
        let mut row = 0;
        while row < tensor.rows() {
            let end = tensor.rows().min(row + step);
            self.gguf.read_tensor(tensor, row..end, &mut self.bytes)?;
            builder.push_rows(self.pool, &self.bytes).map_err(wrong)?;
            row = end;
        }
        builder.finish().map_err(wrong)
    }
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
