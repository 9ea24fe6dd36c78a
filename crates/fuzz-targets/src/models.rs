//! What is done with a model that could be opened.

use std::sync::{Arc, LazyLock};

use formats::gguf::Gguf;
use kernels::ThreadPool;
use model::{Adapter, Batch, Column, KvType, Model, Workspace};

/// Columns of each sequence in the pass that a model runs.
const COLUMNS: u32 = 3;

#[expect(clippy::expect_used, reason = "nothing can be tried without it")]
pub(crate) static POOL: LazyLock<Arc<ThreadPool>> =
    LazyLock::new(|| Arc::new(ThreadPool::new(1).expect("a pool of one thread")));

/// Reads all tensors, loads the weights and runs a few tokens through them. False: the model was refused.
///
/// # Panics
/// A tensor that was given out cannot be read, or a model that was loaded cannot run.
pub(crate) fn run(gguf: &Gguf) -> bool {
    let mut bytes = Vec::new();
    for tensor in gguf.tensors() {
        let last = tensor.rows() - 1;
        let read = gguf.read_tensor(tensor, last..tensor.rows(), &mut bytes);
        assert!(read.is_ok(), "{} was given out, but {read:?}", tensor.name);
        assert_eq!(tensor.rows().checked_mul(tensor.row_bytes()), Some(tensor.byte_len), "{}", tensor.name);
    }
    Model::load(gguf, &POOL).is_ok_and(|model| pass(&model, None))
}

/// Runs a few tokens of two sequences, the first of which has the adapter. False: there is no memory for it.
///
/// # Panics
/// The model cannot run.
pub(crate) fn pass(model: &Model, adapter: Option<&Adapter>) -> bool {
    let config = model.config();
    let (vocab_size, context_len) = (config.vocab_size, u32::try_from(config.context_len).unwrap_or(u32::MAX));
    let last_token = u32::try_from(vocab_size - 1).unwrap_or(0);
    let positions = || 0..COLUMNS.min(context_len);
    let column = |sequence, position: u32| Column { token: last_token.min(position), position, sequence };
    let columns: Vec<Column> = (0..2).flat_map(|sequence| positions().map(move |at| column(sequence, at))).collect();
    let logits_of = [u32::try_from(columns.len()).unwrap_or(1) - 1];
    let batch = Batch { columns: &columns, tables: &[&[0], &[1]], logits_of: &logits_of, adapters: &[adapter, None] };
    let mut logits = vec![0.0; vocab_size];
    for kv_type in KvType::ALL {
        // Memory is no promise.
        let Ok(mut cache) = model.new_kv_cache(kv_type, 2) else { return false };
        let ran = model.forward(&mut Workspace::new(), &mut cache, &batch, &mut logits);
        assert_eq!(ran, Ok(()), "a model that was loaded runs");
    }
    true
}
