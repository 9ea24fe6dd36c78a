//! Tiny models loaded for tests, and short ways to run them.

use std::sync::Arc;

use formats::gguf::{Gguf, TensorInfo, Value, Writer};
use kernels::ThreadPool;
use model::{Adapter, BLOCK_TOKENS, Batch, BlockId, Column, KvCache, KvType, LoadError, Model, Workspace};
use test_support::{Random, TinyModel};

/// Loads what a writer holds.
pub(crate) fn load_written(writer: &Writer, threads: usize) -> Result<Model, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    writer.write(&path).unwrap();
    Model::load(&Gguf::open(&path).unwrap(), &Arc::new(ThreadPool::new(threads).unwrap()))
}

/// Loads a tiny model.
pub(crate) fn load(tiny: &TinyModel, threads: usize) -> Model {
    load_written(&tiny.writer().unwrap(), threads).unwrap()
}

/// The file of a tiny model, written again: with each key's value as `key` gives it (`None`: without the key), and each tensor
/// and its bytes as `tensor` leaves them (no dimensions: without the tensor).
pub(crate) fn rewritten(
    tiny: &TinyModel,
    key: impl Fn(&str, Value) -> Option<Value>,
    tensor: impl Fn(&mut TensorInfo, &mut Vec<u8>),
) -> Writer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny.write(&path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let mut writer = Writer::new();
    for (name, value) in gguf.metadata() {
        if let Some(value) = key(name, value.clone()) {
            writer.key(name, value);
        }
    }
    for info in gguf.tensors() {
        let mut bytes = Vec::new();
        gguf.read_tensor(info, 0..info.rows(), &mut bytes).unwrap();
        let mut info = info.clone();
        tensor(&mut info, &mut bytes);
        if !info.dims.is_empty() {
            writer.tensor(&info.name, info.ty, &info.dims, bytes).unwrap();
        }
    }
    writer
}

/// The tiny model of this name.
pub(crate) fn variant(name: &str) -> TinyModel {
    TinyModel::variants().into_iter().find(|(other, _)| *other == name).unwrap().1
}

/// Some tokens of the tiny vocabulary.
pub(crate) fn tokens(count: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.below(270)).collect()
}

/// A model with a cache and a workspace.
pub(crate) struct Bench<'a> {
    pub(crate) model: &'a Model,
    pub(crate) cache: KvCache,
    workspace: Workspace,
}

/// A part of a sequence to run: its tokens from `start` on, in these blocks.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) start: usize,
    pub(crate) table: &'a [BlockId],
    pub(crate) adapter: Option<&'a Adapter>,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(model: &'a Model, kv_type: KvType, blocks: usize) -> Self {
        Self { model, cache: model.new_kv_cache(kv_type, blocks).unwrap(), workspace: Workspace::new() }
    }

    /// Runs parts of several sequences in one batch; gives the logits of all columns, part after part.
    pub(crate) fn run(&mut self, parts: &[Part<'_>]) -> Vec<Vec<f32>> {
        let mut columns = Vec::new();
        for (sequence, part) in parts.iter().enumerate() {
            columns.extend(part.tokens.iter().enumerate().map(|(i, &token)| Column {
                token,
                position: u32::try_from(part.start + i).unwrap(),
                sequence: u32::try_from(sequence).unwrap(),
            }));
        }
        let tables: Vec<&[BlockId]> = parts.iter().map(|part| part.table).collect();
        let adapters: Vec<Option<&Adapter>> = parts.iter().map(|part| part.adapter).collect();
        let logits_of: Vec<u32> = (0..u32::try_from(columns.len()).unwrap()).collect();
        let vocab = self.model.config().vocab_size;
        let mut logits = vec![0.0; columns.len() * vocab];
        let batch = Batch { columns: &columns, tables: &tables, logits_of: &logits_of, adapters: &adapters };
        self.model.forward(&mut self.workspace, &mut self.cache, &batch, &mut logits).unwrap();
        logits.chunks(vocab).map(<[f32]>::to_vec).collect()
    }

    /// Runs one sequence from its start in chunks of `chunk` tokens.
    pub(crate) fn run_in_chunks(&mut self, tokens: &[u32], chunk: usize, table: &[BlockId]) -> Vec<Vec<f32>> {
        let mut logits = Vec::new();
        for (i, tokens) in tokens.chunks(chunk).enumerate() {
            logits.extend(self.run(&[Part { tokens, start: i * chunk, table, adapter: None }]));
        }
        logits
    }
}

/// Blocks `first`, `first + 1`, … for `tokens` tokens.
pub(crate) fn table(first: BlockId, tokens: usize) -> Vec<BlockId> {
    (first..).take(tokens.div_ceil(BLOCK_TOKENS)).collect()
}
