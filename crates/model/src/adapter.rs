//! LoRA adapters in memory: low-rank changes of a model's projections, `W x + scale * B (A x)`.

use std::fmt;
use std::sync::Arc;

use formats::adapter::{self, Change, Projection};
use kernels::{Matrix, RopeOrder, ThreadPool};

use crate::LoadError;
use crate::config::ModelConfig;
use crate::weights::Loader;

/// A product of a layer that adapters may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

/// Number of [`Part`]s.
const PARTS: usize = 7;

/// What is added to one product.
#[derive(Debug)]
pub(crate) struct Pair {
    /// `[rank][cols of the product's matrix]`; parts that come from one matrix share it.
    pub(crate) a: Arc<Matrix>,
    /// `[rows of the product's matrix][rank]`.
    pub(crate) b: Matrix,
    /// Factor of what `a` gives.
    pub(crate) scale: f32,
}

/// An adapter, loaded for one model.
pub struct Adapter {
    /// `[layers]`, by part.
    layers: Vec<[Option<Pair>; PARTS]>,
    widths: [usize; 4],
    bytes: usize,
    rank: usize,
    reads_floats: bool,
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adapter(rank {}, {} bytes)", self.rank, self.bytes)
    }
}

impl Adapter {
    /// Loads an adapter for a model of this configuration.
    pub(crate) fn load(config: &ModelConfig, file: &adapter::Adapter, pool: &ThreadPool) -> Result<Self, LoadError> {
        if let Some(found) = file.architecture().filter(|found| *found != config.architecture) {
            let found = found.chars().take(40).flat_map(char::escape_debug).collect();
            return Err(LoadError::AdapterArchitecture { found, model: config.architecture });
        }
        let mut layers: Vec<[Option<Pair>; PARTS]> = Vec::new();
        layers.resize_with(config.layers, Default::default);
        let mut loader = Loader::new(file.tensors(), config, pool);
        let order = row_order(config, file.rows_as_trained());
        for change in file.changes() {
            let wrong = |reason: String| LoadError::AdapterMatrix { matrix: change.matrix.clone(), reason };
            let parts = parts(config, change.projection).map_err(wrong)?;
            let layer = layers.get_mut(change.layer);
            let layer = layer.ok_or_else(|| wrong(format!("the model has {} layers, from 0", config.layers)))?;
            let shares = pairs(&mut loader, config, change, &parts, order)?;
            for ((part, _), pair) in parts.into_iter().zip(shares) {
                layer[part as usize] = Some(pair);
            }
        }
        let bytes = loader.finish()?;
        let pairs = || layers.iter().flatten().flatten();
        Ok(Self {
            widths: widths(config),
            bytes,
            rank: file.changes().iter().map(|change| change.rank).max().unwrap_or(0),
            reads_floats: pairs().any(|pair| pair.a.weight_type().is_float()),
            layers,
        })
    }

    /// Bytes of its weights in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its highest rank.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Whether it can be used with a model of this configuration.
    pub(crate) fn fits(&self, config: &ModelConfig) -> bool {
        self.layers.len() == config.layers && self.widths == widths(config)
    }

    pub(crate) fn reads_floats(&self) -> bool {
        self.reads_floats
    }

    /// What it adds to a product, if anything.
    pub(crate) fn pair(&self, layer: usize, part: Part) -> Option<&Pair> {
        self.layers.get(layer)?[part as usize].as_ref()
    }
}

fn widths(config: &ModelConfig) -> [usize; 4] {
    [config.hidden, config.query_width(), config.kv_width(), config.feed_forward]
}

/// The parts that are rows of a projection's matrix, in order, with their rows; why there are none.
fn parts(config: &ModelConfig, projection: Projection) -> Result<Vec<(Part, usize)>, String> {
    let [hidden, queries, kv, middle] = widths(config);
    let is_fused = matches!(projection, Projection::QueryKeyValue);
    let is_own = matches!(projection, Projection::Query | Projection::Key | Projection::Value | Projection::Gate);
    let is_middle = matches!(projection, Projection::Gate | Projection::Up | Projection::Down);
    if (config.fused && is_own) || (!config.fused && is_fused) {
        let has = if config.fused { "attn_qkv and ffn_up (gate and up)" } else { "attn_q, attn_k and attn_v" };
        return Err(format!("a model of architecture \"{}\" has {has} instead", config.architecture));
    }
    if config.state_space.is_some() {
        return Err("the model has state-space layers, which cannot be adapted".to_owned());
    }
    if is_middle && config.experts.is_some() {
        return Err("the model has experts there, which cannot be adapted".to_owned());
    }
    Ok(match projection {
        Projection::Query => vec![(Part::Query, queries)],
        Projection::Key => vec![(Part::Key, kv)],
        Projection::Value => vec![(Part::Value, kv)],
        Projection::QueryKeyValue => vec![(Part::Query, queries), (Part::Key, kv), (Part::Value, kv)],
        Projection::Output => vec![(Part::Output, hidden)],
        Projection::Gate => vec![(Part::Gate, middle)],
        Projection::Up if config.fused => vec![(Part::Gate, middle), (Part::Up, middle)],
        Projection::Up => vec![(Part::Up, middle)],
        Projection::Down => vec![(Part::Down, hidden)],
    })
}

/// Takes the pair of a change out of its file, one for each part.
fn pairs(
    loader: &mut Loader<'_>,
    config: &ModelConfig,
    change: &Change,
    parts: &[(Part, usize)],
    order: Option<fn(usize, usize) -> usize>,
) -> Result<Vec<Pair>, LoadError> {
    let [hidden, queries, _, middle] = widths(config);
    let cols = match change.projection {
        Projection::Output => queries,
        Projection::Down => middle,
        _ => hidden,
    };
    let rows = parts.iter().map(|(_, rows)| rows).sum();
    let a = Arc::new(loader.matrix(&change.a(), change.rank, cols)?);
    let b = loader.tensor(&change.b(), &[change.rank, rows])?;
    let mut first = 0;
    let mut pairs = Vec::with_capacity(parts.len());
    for (part, rows) in parts {
        let range = first..first + rows;
        first += rows;
        let b = match order.filter(|_| matches!(part, Part::Query | Part::Key)) {
            None => loader.rows(b, range)?,
            Some(order) => {
                let head_dim = config.head_dim;
                loader.rows_in_order(b, range, |row| row / head_dim * head_dim + order(row % head_dim, head_dim))?
            }
        };
        pairs.push(Pair { a: Arc::clone(&a), b, scale: change.scale });
    }
    Ok(pairs)
}

/// Which row of a head, as the adapter has them, is the model's row, where they differ. GGUF's Llama has the two rows of a
/// pair side by side, all else the halves of a head one after the other (llama.cpp's converter permutes them:
/// `LlamaModel.permute` in `convert_hf_to_gguf.py`).
fn row_order(config: &ModelConfig, as_trained: bool) -> Option<fn(usize, usize) -> usize> {
    let is_llama = config.architecture == crate::llama::LLAMA.name;
    match config.rope_order {
        RopeOrder::Adjacent if as_trained => Some(|row, head_dim| row / 2 + row % 2 * (head_dim / 2)),
        RopeOrder::Halves if is_llama && !as_trained => Some(|row, head_dim| {
            let half = head_dim / 2;
            2 * (row % half) + row / half
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_have_a_place_each() {
        let all = [Part::Query, Part::Key, Part::Value, Part::Output, Part::Gate, Part::Up, Part::Down];
        assert_eq!(all.len(), PARTS);
        assert!((0..PARTS).zip(all).all(|(place, part)| part as usize == place));
    }
}
