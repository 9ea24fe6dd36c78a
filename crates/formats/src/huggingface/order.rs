//! The order of rows. In GGUF's Llama the two rows of queries and keys that turn together stand side by side; in folders they
//! are half a head apart (`LlamaModel.permute` in llama.cpp's `convert_hf_to_gguf.py`).

use crate::FormatError;
use crate::data_file::{Run, TensorData};
use crate::error::shown;
use crate::gguf::{Gguf, TensorInfo};

/// Says that rows stand as in folders; GGUF files of other programs do not have it.
const ORDER_KEY: &str = "llama.rope.order";
const HEAD_DIM_KEY: &str = "llama.attention.key_length";
/// Ends of the names of what is reordered.
const TURNED: [&str; 4] = ["attn_q.weight", "attn_q.bias", "attn_k.weight", "attn_k.bias"];

/// Brings the rows of a folder's model into the order of GGUF files.
pub(crate) fn in_gguf_order(gguf: &mut Gguf) -> Result<(), FormatError> {
    let Some(head_dim) = gguf.get_u32(HEAD_DIM_KEY)?.filter(|_| gguf.get(ORDER_KEY).is_some()) else { return Ok(()) };
    gguf.change_data(|tensor, data| match data {
        TensorData::Stored(runs) if TURNED.iter().any(|end| tensor.name.ends_with(end)) => {
            *runs = side_by_side(tensor, runs, u64::from(head_dim))?;
            Ok(())
        }
        _ => Ok(()),
    })?;
    gguf.remove(ORDER_KEY);
    Ok(())
}

/// Each row (of a bias: each value) of a tensor that is stored in one run, in the order of GGUF.
fn side_by_side(tensor: &TensorInfo, runs: &[Run], head_dim: u64) -> Result<Vec<Run>, FormatError> {
    let rows = tensor.dims.last().copied().unwrap_or_default();
    let (&[run], true) = (runs, rows > 0 && rows.is_multiple_of(head_dim)) else {
        let reason = format!("its {rows} rows are not whole heads of {head_dim}");
        return Err(FormatError::Tensor { tensor: shown(&tensor.name), reason });
    };
    let len = tensor.byte_len / rows;
    let place = |row: u64| {
        let (head, row) = (row / head_dim, row % head_dim);
        head * head_dim + row / 2 + row % 2 * (head_dim / 2)
    };
    Ok((0..rows).map(|row| Run { offset: run.offset + place(row) * len, len, ..run }).collect())
}
