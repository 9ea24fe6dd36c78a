//! Speed of attention by shape and KV type: a prompt of 512 tokens, and decode at several depths for 1, 8 and 16
//! sequences, and for 16 that share a prefix.
//!
//! Random keys and values in as many layers as the model has, so that caches see what they see in a step. Prints
//! microseconds of a layer: a fifth of all calls were faster (on a shared machine the slow ones tell of the neighbours).
//! Caveat: projections, which share the caches in a step, are absent.
//! `cargo bench -p kernels --bench attention [-- THREADS]`
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Instant;

use kernels::{Attention, AttentionInput, AttentionShape, KV_BLOCK_TOKENS, KvStore, KvType, QueryColumn, ThreadPool};

const PASSES: usize = 9;

struct Model {
    name: &'static str,
    shape: AttentionShape,
    layers: usize,
}

fn values(len: usize, state: &mut u64) -> Vec<f32> {
    let mut next = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from(u16::from_le_bytes([state.to_le_bytes()[6], state.to_le_bytes()[7]])) / 16_384.0 - 2.0
    };
    (0..len).map(|_| next()).collect()
}

/// Microseconds per layer for the last `columns` tokens of each of `sequences` sequences of `depth` tokens, the first
/// `shared` of them in the same blocks.
fn measure(
    pool: &ThreadPool,
    model: &Model,
    kv_type: KvType,
    (sequences, depth, columns): (usize, usize, usize),
    shared: usize,
) -> Result<f64, Box<dyn std::error::Error>> {
    let shape = model.shape;
    let blocks = depth.div_ceil(KV_BLOCK_TOKENS);
    let mut store = KvStore::new(kv_type, model.layers, shape.kv_heads, shape.head_dim, blocks * sequences)?;
    let mut state = 7;
    let kv_width = shape.kv_heads * shape.head_dim;
    let token = values(2 * kv_width, &mut state);
    for (i, layer) in (0..model.layers).flat_map(|layer| (0..blocks * sequences).map(move |block| (block, layer))) {
        for slot in 0..KV_BLOCK_TOKENS {
            let at = (i * 31 + slot * 7) % kv_width;
            store.write(layer, i, slot, &token[at..at + kv_width], &token[kv_width - at..2 * kv_width - at]);
        }
    }
    let tables: Vec<Vec<u32>> = (0..sequences)
        .map(|s| {
            let owner = |b: usize| if (b + 1) * KV_BLOCK_TOKENS <= shared { 0 } else { s };
            (0..blocks).map(|b| u32::try_from(b * sequences + owner(b))).collect()
        })
        .collect::<Result<_, _>>()?;
    let tables: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
    let mut all = Vec::new();
    for sequence in 0..u32::try_from(sequences)? {
        for position in depth - columns..depth {
            all.push(QueryColumn { position: u32::try_from(position)?, sequence });
        }
    }
    let queries = values(all.len() * shape.heads * shape.head_dim, &mut state);
    let mut out = vec![0.0; queries.len()];
    let mut attention = Attention::new();
    let mut seconds: Vec<f64> = Vec::new();
    for _ in 0..PASSES {
        for layer in 0..model.layers {
            let start = Instant::now();
            let input =
                AttentionInput { shape, store: &store, layer, columns: &all, tables: &tables, queries: &queries };
            attention.run(pool, &input, &mut out);
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 5] * 1e6)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(2);
    let pool = ThreadPool::new(threads)?;
    println!("{threads} threads; microseconds per layer");
    let shape = |heads, kv_heads, head_dim, window| {
        let softcap = None;
        AttentionShape { heads, kv_heads, head_dim, scale: 0.1, window, softcap }
    };
    let models = [
        Model { name: "SmolLM2-135M", shape: shape(9, 3, 64, None), layers: 30 },
        Model { name: "Gemma 3 270M, local", shape: shape(4, 1, 256, Some(512)), layers: 18 },
    ];
    for (model, kv_type) in models.iter().flat_map(|model| KvType::ALL.map(|kv_type| (model, kv_type))) {
        let us = |sizes, shared| measure(&pool, model, kv_type, sizes, shared);
        print!("{:<20} {:<4} prefill 512: {:>6.0}; decode", model.name, kv_type.name(), us((1, 512, 512), 0)?);
        for depth in [128, 1024, 4096] {
            print!("  at {depth}:");
            for sequences in [1, 8, 16] {
                if depth * sequences <= 4096 * 8 {
                    print!(" {sequences}x {:>5.1}", us((sequences, depth, 1), 0)?);
                }
            }
        }
        println!();
        let (separate, shared) = (us((16, 1100, 1), 0)?, us((16, 1100, 1), 1000)?);
        println!("{:<20} decode of 16 at 1100, 1000 tokens separate: {separate:>6.1}  shared: {shared:>6.1}", "");
    }
    Ok(())
}
