//! Attention against its formula; the same bits in both versions, however columns are grouped, and whatever stands in
//! slots that a query must not see.
#![expect(clippy::cast_possible_truncation, reason = "small numbers")]

use std::ops::Range;

use half::f16;

use super::*;
use crate::{RopeFrequencies, RopeOrder, RopeTable, rms_norm_in_place, rope};

mod sharing;

struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn values(&mut self, len: usize, size: f32) -> Vec<f32> {
        (0..len).map(|_| ((self.bits() % 20_001) as f32 / 10_000.0 - 1.0) * size).collect()
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }
}

/// A sequence with all its queries, keys and values.
struct Sequence {
    kv_type: KvType,
    shape: AttentionShape,
    len: usize,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// What a store of this type makes of heads of `head_dim` values.
fn kept(kv_type: KvType, head_dim: usize, x: &[f32]) -> Vec<f64> {
    let head = |x: &[f32]| -> Vec<f64> {
        let max = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let (scale, inverse) = (f64::from(max / 127.0), f64::from(127.0 / max));
        match kv_type {
            KvType::F16 => x.iter().map(|&x| f16::from_f32(x).to_f64()).collect(),
            KvType::Q8_0 => x.iter().map(|&x| (f64::from(x) * inverse).round_ties_even() * scale).collect(),
        }
    };
    x.chunks(head_dim).flat_map(|x| x.chunks(element::SCALE_DIMS)).flat_map(head).collect()
}

impl Sequence {
    fn new(random: &mut Random, kv_type: KvType, shape: AttentionShape, len: usize, size: f32) -> Self {
        let kv = len * shape.kv_heads * shape.head_dim;
        Self {
            kv_type,
            shape,
            len,
            queries: random.values(len * shape.heads * shape.head_dim, size),
            keys: random.values(kv, size),
            values: random.values(kv, 2.0),
        }
    }

    fn blocks(&self) -> usize {
        self.len.div_ceil(KV_BLOCK_TOKENS)
    }

    /// A store with this sequence in `table`; every other slot holds what is no number.
    fn store(&self, table: &[u32]) -> KvStore {
        let shape = &self.shape;
        let width = shape.kv_heads * shape.head_dim;
        let mut store = KvStore::new(self.kv_type, 2, shape.kv_heads, shape.head_dim, table.len() + 2).unwrap();
        let nothing = vec![f32::NAN; width];
        for block in 0..store.blocks() {
            for slot in 0..KV_BLOCK_TOKENS {
                store.write(1, block, slot, &nothing, &nothing);
            }
        }
        for position in 0..self.len {
            let (keys, values) = (&self.keys[position * width..][..width], &self.values[position * width..][..width]);
            store.write(1, table[position / 32] as usize, position % 32, keys, values);
        }
        store
    }

    /// Runs some of the queries in one call.
    fn run(&self, isa: Isa, threads: usize, store: &KvStore, table: &[u32], positions: &[usize]) -> Vec<f32> {
        let width = self.shape.heads * self.shape.head_dim;
        let columns: Vec<QueryColumn> =
            positions.iter().map(|&p| QueryColumn { position: p as u32, sequence: 0 }).collect();
        let queries: Vec<f32> =
            positions.iter().flat_map(|&p| self.queries[p * width..][..width].iter().copied()).collect();
        let mut out = vec![f32::NAN; queries.len()];
        let input = AttentionInput {
            shape: self.shape,
            store,
            layer: 1,
            columns: &columns,
            tables: &[table],
            queries: &queries,
        };
        Attention::new().run_with(isa, &ThreadPool::new(threads).unwrap(), &input, &mut out);
        out
    }

    /// The formula, in double precision, over keys and values as they are kept.
    fn expected(&self, position: usize) -> Vec<f64> {
        let shape = &self.shape;
        let (dim, width) = (shape.head_dim, shape.heads * shape.head_dim);
        let end = (position + 1) * shape.kv_heads * dim;
        let keys = kept(self.kv_type, dim, &self.keys[..end]);
        let values = kept(self.kv_type, dim, &self.values[..end]);
        let mut out = Vec::new();
        for head in 0..shape.heads {
            let query = &self.queries[position * width + head * dim..][..dim];
            let at = |p: usize| (p * shape.kv_heads + head / (shape.heads / shape.kv_heads)) * dim;
            let seen = shape.window.map_or(0, |w| (position + 1).saturating_sub(w))..=position;
            let scores: Vec<f64> = seen
                .clone()
                .map(|p| {
                    let products = query.iter().zip(&keys[at(p)..]).map(|(&q, &k)| f64::from(q) * k);
                    let score = products.sum::<f64>() * f64::from(shape.scale);
                    shape.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                })
                .collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for d in 0..dim {
                let values = seen.clone().map(|p| values[at(p) + d]);
                out.push(values.zip(&weights).map(|(v, w)| v * w).sum::<f64>() / sum);
            }
        }
        out
    }
}

fn shape(heads: usize, kv_heads: usize, head_dim: usize, window: Option<usize>) -> AttentionShape {
    AttentionShape { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), window, softcap: None }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn shuffled_table(random: &mut Random, blocks: usize) -> Vec<u32> {
    let mut table: Vec<u32> = (0..blocks as u32 + 2).collect();
    for i in (1..table.len()).rev() {
        table.swap(i, random.below(i + 1));
    }
    table.truncate(blocks);
    table
}

#[test]
fn against_the_formula_in_all_shapes() {
    let mut random = Random(1);
    for (heads, kv_heads, head_dim) in [(9, 3, 64), (4, 1, 256), (2, 2, 16), (10, 2, 24), (7, 1, 8), (6, 1, 100)] {
        for window in [None, Some(1), Some(32), Some(45)] {
            for (size, kv_type) in [(0.5, KvType::F16), (3.0, KvType::F16), (3.0, KvType::Q8_0)] {
                let shape = shape(heads, kv_heads, head_dim, window);
                let sequence = Sequence::new(&mut random, kv_type, shape, 131, size);
                let table = shuffled_table(&mut random, sequence.blocks());
                let store = sequence.store(&table);
                let all: Vec<usize> = (0..sequence.len).collect();
                let got = sequence.run(Isa::best(), 2, &store, &table, &all);
                for &isa in Isa::available() {
                    let other = sequence.run(isa, 1, &store, &table, &all);
                    assert_eq!(bits(&got), bits(&other), "{shape:?} {kv_type:?} {isa:?}");
                }
                let width = heads * head_dim;
                for position in 0..sequence.len {
                    for (got, expected) in got[position * width..].iter().zip(sequence.expected(position)) {
                        assert!((f64::from(*got) - expected).abs() < 1e-5, "{got} {expected} at {position}");
                    }
                }
            }
        }
    }
}

/// Scores that a cap bends: the formula's numbers, the same bits in all versions and groupings.
#[test]
fn capped_scores() {
    let mut random = Random(8);
    for (cap, kv_type) in [0.5, 50.0].into_iter().flat_map(|cap| KvType::ALL.map(|ty| (cap, ty))) {
        let shape = AttentionShape { softcap: Some(cap), ..shape(6, 2, 40, Some(70)) };
        let sequence = Sequence::new(&mut random, kv_type, shape, 200, 3.0);
        let table = shuffled_table(&mut random, sequence.blocks());
        let store = sequence.store(&table);
        let all: Vec<usize> = (0..sequence.len).collect();
        let got = sequence.run(Isa::best(), 2, &store, &table, &all);
        for &isa in Isa::available() {
            assert_eq!(bits(&sequence.run(isa, 1, &store, &table, &all)), bits(&got), "{cap} {isa:?}");
        }
        let uncapped = Sequence { shape: AttentionShape { softcap: None, ..shape }, ..sequence };
        let (mut capped_differs, mut plain) = (false, uncapped.run(Isa::best(), 1, &store, &table, &all).into_iter());
        let sequence = Sequence { shape, ..uncapped };
        for (position, got) in got.chunks(6 * 40).enumerate() {
            assert_eq!(bits(&sequence.run(Isa::best(), 1, &store, &table, &[position])), bits(got));
            for (got, expected) in got.iter().zip(sequence.expected(position)) {
                assert!((f64::from(*got) - expected).abs() < 5e-5, "{got} {expected} at {position}");
                capped_differs |= plain.next().is_none_or(|plain| (plain - got).abs() > 1e-3);
            }
        }
        assert!(capped_differs, "a cap of {cap} changes nothing");
    }
}

/// One query at a time, in chunks of any length, split over threads or not: the same bits.
#[test]
fn grouping_changes_no_bit() {
    let mut random = Random(2);
    for (window, kv_type) in [None, Some(40), Some(600)].into_iter().flat_map(|w| KvType::ALL.map(|ty| (w, ty))) {
        let sequence = Sequence::new(&mut random, kv_type, shape(9, 3, 64, window), 1200, 2.0);
        let table = shuffled_table(&mut random, sequence.blocks());
        let store = sequence.store(&table);
        let all: Vec<usize> = (0..sequence.len).collect();
        let expected = sequence.run(Isa::best(), 1, &store, &table, &all);
        let width = 9 * 64;
        let mut position = 0;
        while position < sequence.len {
            let count = [1, 2, 5, 16, 31, 100][random.below(6)].min(sequence.len - position);
            let some: Vec<usize> = (position..position + count).collect();
            let threads = 1 + random.below(3);
            let got = sequence.run(Isa::best(), threads, &store, &table, &some);
            let expected = &expected[position * width..(position + count) * width];
            assert_eq!(
                bits(&got),
                bits(expected),
                "{count} from {position}, {threads} threads, {window:?} {kv_type:?}"
            );
            position += count;
        }
    }
}

/// Few columns far into a sequence take the way of spans side by side; both versions agree there too.
#[test]
fn spans_side_by_side() {
    let mut random = Random(3);
    let asked = [vec![1099], vec![1022, 1023, 1024, 1025], vec![3, 700, 1098]];
    for (positions, kv_type) in asked.into_iter().flat_map(|asked| KvType::ALL.map(|ty| (asked.clone(), ty))) {
        let sequence = Sequence::new(&mut random, kv_type, shape(4, 1, 128, None), 1100, 1.0);
        let table = shuffled_table(&mut random, sequence.blocks());
        let store = sequence.store(&table);
        let one = sequence.run(Isa::best(), 1, &store, &table, &positions);
        assert_eq!(bits(&sequence.run(Isa::best(), 2, &store, &table, &positions)), bits(&one));
        assert_eq!(bits(&sequence.run(Isa::Scalar, 2, &store, &table, &positions)), bits(&one));
        let expected = positions.iter().flat_map(|&p| sequence.expected(p));
        for (got, expected) in one.iter().zip(expected) {
            assert!((f64::from(*got) - expected).abs() < 1e-5, "{got} {expected}");
        }
    }
}

/// Scores so large that all weights but one vanish, and so small that all are equal.
#[test]
fn extreme_scores() {
    let mut random = Random(4);
    for (size, kv_type) in [1e-4, 200.0].into_iter().flat_map(|size| KvType::ALL.map(|ty| (size, ty))) {
        let sequence = Sequence::new(&mut random, kv_type, shape(3, 1, 32, None), 70, size);
        let table = shuffled_table(&mut random, sequence.blocks());
        let store = sequence.store(&table);
        let all: Vec<usize> = (0..sequence.len).collect();
        let got = sequence.run(Isa::best(), 2, &store, &table, &all);
        assert_eq!(bits(&got), bits(&sequence.run(Isa::Scalar, 1, &store, &table, &all)));
        for (position, got) in got.chunks(3 * 32).enumerate() {
            for (got, expected) in got.iter().zip(sequence.expected(position)) {
                // Scores of 10^5 in single precision are off by up to 0.03.
                assert!((f64::from(*got) - expected).abs() < if size > 1.0 { 0.2 } else { 1e-5 }, "{got} {expected}");
            }
        }
    }
}

/// Keys and values of one token, as they are kept.
fn read(store: &KvStore, layer: usize, block: usize, slot: usize) -> (Vec<f32>, Vec<f32>) {
    fn token<E: element::KvElement>(
        blocks: kv_store::Blocks<'_, E>,
        (layer, block, slot): (usize, usize, usize),
        float: impl Fn(E) -> f32,
    ) -> (Vec<f32>, Vec<f32>) {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for head in 0..3 {
            let block = blocks.block(layer, block, head);
            let scales = block.scales.first().map_or([1.0; 2], |scales| scales.map(|scales| scales[slot]));
            keys.extend(block.keys.iter().map(|k| float(k.as_flattened()[slot]) * scales[0]));
            values.extend(block.values.iter().flat_map(|v| v[slot]).take(24).map(|v| float(v) * scales[1]));
        }
        (keys, values)
    }
    let place = (layer, block, slot);
    match store.view() {
        kv_store::KvBlocks::F16(blocks) => token(blocks, place, |bits| f16::from_bits(bits).to_f32()),
        kv_store::KvBlocks::Q8_0(blocks) => token(blocks, place, f32::from),
    }
}

#[test]
fn store_keeps_blocks_apart_and_copies_them() {
    for kv_type in KvType::ALL {
        let mut store = KvStore::new(kv_type, 2, 3, 24, 4).unwrap();
        let mut random = Random(5);
        let (keys, values) = (random.values(72, 1.0), random.values(72, 1.0));
        store.write(1, 2, 31, &keys, &values);
        let rounded = |x: &[f32]| kept(kv_type, 24, x).into_iter().map(|x| x as f32).collect::<Vec<_>>();
        let written = (rounded(&keys), rounded(&values));
        assert_eq!(read(&store, 1, 2, 31), written);
        let zeros = (vec![0.0; 72], vec![0.0; 72]);
        for (layer, block, slot) in [(0, 2, 31), (1, 1, 31), (1, 3, 31), (1, 2, 30), (1, 2, 0)] {
            assert_eq!(read(&store, layer, block, slot), zeros, "layer {layer} block {block} slot {slot}");
        }
        store.copy_block(2, 0);
        assert_eq!(read(&store, 1, 0, 31), written);
        assert_eq!(read(&store, 1, 2, 31), written);
        assert_eq!(read(&store, 0, 0, 31), zeros);
    }
}

/// Codes are at most half a step off; what is no number stays none, and tiny heads become zero.
#[test]
fn eight_bits_are_near() {
    let mut random = Random(7);
    for size in [1e-20f32, 1e-3, 1.0, 500.0, 1e30] {
        let mut store = KvStore::new(KvType::Q8_0, 2, 3, 24, 1).unwrap();
        let (keys, values) = (random.values(72, size), random.values(72, size * 4.0));
        store.write(1, 0, 9, &keys, &values);
        let (got_keys, got_values) = read(&store, 1, 0, 9);
        for (got, x) in got_keys.chunks(24).zip(keys.chunks(24)).chain(got_values.chunks(24).zip(values.chunks(24))) {
            let max = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            for (got, x) in got.iter().zip(x) {
                assert!((got - x).abs() <= max / 254.0 * 1.000_01, "{got} {x} of {max}");
            }
        }
    }
    for odd in [f32::NAN, f32::INFINITY] {
        let mut store = KvStore::new(KvType::Q8_0, 2, 3, 24, 1).unwrap();
        let mut keys = random.values(72, 1.0);
        keys[30] = odd;
        store.write(1, 0, 9, &keys, &vec![1e-35; 72]);
        let (keys, values) = read(&store, 1, 0, 9);
        for (head, keys) in keys.chunks(24).enumerate() {
            assert!(keys.iter().all(|x| x.is_nan() == (head == 1)), "{keys:?}");
        }
        assert_eq!(values, [0.0; 72]);
    }
}

#[test]
fn sizes_and_types() {
    assert_eq!(KvStore::block_bytes(KvType::F16, 30, 3, 64), Some(30 * 3 * 2 * 64 * 32 * 2));
    // Two scales of four bytes for 64 keys and values: 8.5 bits for each.
    assert_eq!(KvStore::block_bytes(KvType::Q8_0, 30, 3, 64), Some(30 * 3 * 2 * (64 + 4) * 32));
    assert_eq!(KvStore::block_bytes(KvType::Q8_0, 18, 1, 256), Some(18 * 2 * (256 + 4 * 4) * 32));
    for kv_type in KvType::ALL {
        assert_eq!(KvStore::new(kv_type, 1, 1, 8, 1).unwrap().kv_type(), kv_type);
        assert_eq!(KvType::from_name(kv_type.name()), Some(kv_type));
        assert_eq!(KvStore::block_bytes(kv_type, usize::MAX / 4, 3, 64), None);
    }
    assert_eq!(KvType::from_name("q4_0"), None);
}

#[test]
fn impossible_stores_are_refused() {
    for kv_type in KvType::ALL {
        for (layers, kv_heads, head_dim, blocks) in [
            (0, 1, 64, 1),
            (1, 0, 64, 1),
            (1, 1, 0, 1),
            (1, 1, 64, 0),
            (usize::MAX, 2, 64, 1),
            (2, 2, usize::MAX - 3, 2),
            (1, 1, 64, usize::MAX),
        ] {
            let store = KvStore::new(kv_type, layers, kv_heads, head_dim, blocks);
            assert!(matches!(store, Err(KvStoreError::Shape)));
        }
        let huge = KvStore::new(kv_type, 1 << 10, 1 << 10, 1 << 10, 1 << 16).map(|_| ());
        assert!(matches!(huge, Err(KvStoreError::OutOfMemory { .. } | KvStoreError::Shape)), "{huge:?}");
    }
}

/// Preparation in one pass: what its operations give one after another, in every version, on any number of threads,
/// also when two sequences write one block.
#[test]
fn preparation_in_one_pass() {
    let mut random = Random(6);
    for (shape, order, dims, normed) in [
        (shape(9, 3, 64, None), RopeOrder::Adjacent, 64, false),
        (shape(4, 1, 256, None), RopeOrder::Halves, 256, true),
        (shape(4, 2, 24, None), RopeOrder::Halves, 16, true),
    ] {
        let (width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let frequencies = RopeFrequencies::new(order, dims, 10_000.0, 1.0);
        let weights = [random.values(shape.head_dim, 1.0), random.values(shape.head_dim, 1.0)];
        let tables: [&[u32]; 3] = [&[4, 2, 0], &[1, 3], &[1, 5]];
        for spans in [vec![(0, 40..90), (1, 31..34)], vec![(0, 7..8)], vec![(1, 10..20), (0, 0..20), (2, 20..31)]] {
            let columns: Vec<QueryColumn> = spans
                .into_iter()
                .flat_map(|(sequence, positions)| positions.map(move |position| QueryColumn { position, sequence }))
                .collect();
            let n = columns.len();
            let (queries, keys, values) =
                (random.values(n * width, 1.0), random.values(n * kv_width, 1.0), random.values(n * kv_width, 1.0));
            let one = ThreadPool::new(1).unwrap();
            let mut angles = RopeTable::new();
            angles.prepare(&one, &frequencies, &columns, |c| c.position);
            let (mut q, mut k) = (queries.clone(), keys.clone());
            if normed {
                rms_norm_in_place(&one, &mut q, &weights[0], 1e-6);
                rms_norm_in_place(&one, &mut k, &weights[1], 1e-6);
            }
            rope(&one, &mut q, width, shape.head_dim, &angles);
            rope(&one, &mut k, kv_width, shape.head_dim, &angles);
            let store = |kv_type| KvStore::new(kv_type, 2, shape.kv_heads, shape.head_dim, 6).unwrap();
            let mut expected = KvType::ALL.map(store);
            for (column, (k, v)) in columns.iter().zip(k.chunks(kv_width).zip(values.chunks(kv_width))) {
                let position = column.position as usize;
                let block = tables[column.sequence as usize][position / 32];
                expected.iter_mut().for_each(|store| store.write(1, block as usize, position % 32, k, v));
            }
            let ways = Isa::available().iter().flat_map(|isa| [(isa, 1, 0), (isa, 3, 0), (isa, 1, 1), (isa, 3, 1)]);
            for (&isa, threads, kept) in ways {
                let expected = &mut expected[kept];
                let (mut got, mut q_got, mut k_got) = (store(expected.kv_type()), queries.clone(), keys.clone());
                let heads = Heads {
                    queries: &mut q_got,
                    keys: &mut k_got,
                    values: &values,
                    norms: normed.then_some(([&*weights[0], &*weights[1]], 1e-6)),
                    angles: &angles,
                };
                let places = KvPlaces { layer: 1, columns: &columns, tables: &tables };
                let pool = ThreadPool::new(threads).unwrap();
                prepare::prepare((isa, &pool), &mut Vec::new(), &mut got, &places, &shape, heads);
                assert_eq!(bits(&q_got), bits(&q), "{isa:?}");
                assert_eq!(bits(&k_got), bits(&k), "{isa:?}");
                assert!(got.memory() == expected.memory(), "{isa:?} {shape:?} {:?}", got.kv_type());
            }
        }
    }
}
