//! A position's logits are the same bits however they are computed.

use formats::gguf::TensorType;
use model::{KvType, Model};
use test_support::{Architecture, TinyModel};

use crate::fixture::{Bench, Part, load, table, tokens};

fn assert_same(what: &str, got: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(got.len(), expected.len(), "{what}: number of positions");
    for (position, (got, expected)) in got.iter().zip(expected).enumerate() {
        let differing = got.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        assert_eq!(differing, 0, "{what}: {differing} logits of position {position} differ");
    }
}

/// One token at a time on one thread, in a fresh cache: what everything else is compared with.
fn alone(model: &Model, kv_type: KvType, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut bench = Bench::new(model, kv_type, tokens.len().div_ceil(32));
    let logits = bench.run_in_chunks(tokens, 1, &table(0, tokens.len()));
    assert!(logits.iter().flatten().all(|x| x.is_finite()));
    assert!(logits.windows(2).all(|pair| pair[0] != pair[1]), "each position has its own logits");
    logits
}

/// Llama and Gemma 3 in several weight types, some of them with eight-bit keys and values too; all other architectures and
/// what their files may declare in floats, mixtures and state-space models in eight bits too.
fn models() -> Vec<(TinyModel, KvType)> {
    let types = [TensorType::F32, TensorType::Q8_0, TensorType::Q4_1];
    let of = |tiny: TinyModel| types.map(|ty| tiny.clone().with_weights(ty));
    let others = [
        TensorType::F16,
        TensorType::BF16,
        TensorType::Q4_0,
        TensorType::Q5_0,
        TensorType::Q5_1,
        TensorType::IQ4_NL,
        TensorType::MXFP4,
    ];
    let others = others.map(|ty| TinyModel::llama().with_weights(ty));
    let eight_bits = [TinyModel::llama(), TinyModel::gemma3()].map(|tiny| (tiny, KvType::Q8_0));
    let all = [of(TinyModel::llama()), of(TinyModel::gemma3())].into_iter().flatten().chain(others);
    let variants = || TinyModel::variants().into_iter().filter(|(name, _)| !["llama", "gemma3"].contains(name));
    let mixtures = variants().map(|(_, tiny)| tiny).filter(|tiny| tiny.experts.is_some());
    let mixtures = mixtures.map(|tiny| tiny.with_weights(TensorType::Q8_0));
    let states = variants().map(|(_, tiny)| tiny).filter(|tiny| tiny.architecture == Architecture::Mamba);
    let states = states.map(|tiny| tiny.with_weights(TensorType::Q8_0));
    let variants = variants().map(|(_, tiny)| tiny);
    all.chain(variants).chain(mixtures).chain(states).map(|tiny| (tiny, KvType::F16)).chain(eight_bits).collect()
}

#[test]
fn chunks_and_threads() {
    for (tiny, kv_type) in models() {
        let (one, two) = (load(&tiny, 1), load(&tiny, 2));
        let tokens = tokens(150, 7);
        let expected = alone(&one, kv_type, &tokens);
        for (threads, model) in [(1, &one), (2, &two)] {
            for chunk in [1, 7, 32, 33, 150] {
                let got = Bench::new(model, kv_type, 8).run_in_chunks(&tokens, chunk, &table(2, tokens.len()));
                let what =
                    format!("{:?} {} {kv_type:?}, {chunk}, {threads} threads", tiny.architecture, tiny.weight_type);
                assert_same(&what, &got, &expected);
            }
        }
    }
}

#[test]
fn batches_of_prefill_and_decode() {
    for (tiny, kv_type) in models() {
        let (one, two) = (load(&tiny, 1), load(&tiny, 2));
        // Unequal sequences, past the sliding window; each step runs a different number of tokens of each.
        let sequences: Vec<Vec<u32>> = [131, 70, 33, 90].iter().zip(10..).map(|(&n, seed)| tokens(n, seed)).collect();
        let expected: Vec<_> = sequences.iter().map(|tokens| alone(&one, kv_type, tokens)).collect();
        let tables: Vec<_> = sequences.iter().zip(0..).map(|(tokens, i)| table(i * 6, tokens.len())).collect();
        for model in [&one, &two] {
            let mut bench = Bench::new(model, kv_type, 24);
            let mut done = [0; 4];
            let mut got = vec![Vec::new(); 4];
            for step in 0.. {
                let counts: [usize; 4] = std::array::from_fn(|i| [1, 37, 5, 16, 1][(step + i) % 5]);
                let live: Vec<usize> = (0..4).filter(|&i| done[i] < sequences[i].len()).collect();
                if live.is_empty() {
                    break;
                }
                let end: [usize; 4] = std::array::from_fn(|i| sequences[i].len().min(done[i] + counts[i]));
                let parts: Vec<Part<'_>> = live
                    .iter()
                    .map(|&i| Part {
                        tokens: &sequences[i][done[i]..end[i]],
                        start: done[i],
                        table: &tables[i],
                        adapter: None,
                    })
                    .collect();
                let mut logits = bench.run(&parts).into_iter();
                for (&i, part) in live.iter().zip(&parts) {
                    got[i].extend(logits.by_ref().take(part.tokens.len()));
                }
                done = end;
            }
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert_same(
                    &format!("{:?} {} {kv_type:?}, sequence {i}", tiny.architecture, tiny.weight_type),
                    got,
                    expected,
                );
            }
        }
    }
}

#[test]
fn shared_and_copied_blocks() {
    // A state is not shared, and copied as a whole: see `state_space`.
    for (tiny, kv_type) in models().into_iter().filter(|(tiny, _)| tiny.architecture != Architecture::Mamba) {
        let model = load(&tiny, 2);
        let shared = tokens(76, 20);
        let continued =
            |count: usize, seed| shared[..count].iter().copied().chain(tokens(50, seed)).collect::<Vec<_>>();
        // Another sequence has filled all blocks before.
        let mut bench = Bench::new(&model, kv_type, 12);
        bench.run_in_chunks(&tokens(384, 21), 64, &table(0, 384));
        bench.run_in_chunks(&shared, 76, &[5, 3, 8]);

        let after_blocks = continued(64, 22);
        let part = Part { tokens: &after_blocks[64..], start: 64, table: &[5, 3, 1, 0], adapter: None };
        assert_same("after two shared blocks", &bench.run(&[part]), &alone(&model, kv_type, &after_blocks)[64..]);

        let after_copy = continued(76, 23);
        bench.cache.copy_block(8, 10, 76 - 64);
        let part = Part { tokens: &after_copy[76..], start: 76, table: &[5, 3, 10, 11], adapter: None };
        assert_same("after a copied block", &bench.run(&[part]), &alone(&model, kv_type, &after_copy)[76..]);

        let again = Part { tokens: &shared[75..], start: 75, table: &[5, 3, 8], adapter: None };
        assert_same("the original after the copy", &bench.run(&[again]), &alone(&model, kv_type, &shared)[75..]);
    }
}

/// Models without and with local layers of this window, with each kind of keys and values.
fn ways(window: u32) -> impl Iterator<Item = (TinyModel, KvType)> {
    let local = [TinyModel::gemma2(), TinyModel::gemma3()].map(|tiny| TinyModel { sliding_window: window, ..tiny });
    let models = [TinyModel::llama()].into_iter().chain(local);
    models.flat_map(|tiny| KvType::ALL.map(|ty| (tiny.clone(), ty)))
}

/// Long enough that one sequence's spans run side by side on two threads, and several spans merge.
#[test]
fn long_sequences() {
    for (tiny, kv_type) in ways(600) {
        let tiny = TinyModel { heads: 8, kv_heads: 2, head_dim: 32, ..tiny };
        let (one, two) = (load(&tiny, 1), load(&tiny, 2));
        let tokens = tokens(1300, 30);
        let blocks = table(0, tokens.len());
        let expected = Bench::new(&one, kv_type, blocks.len()).run_in_chunks(&tokens, 300, &blocks);
        let mut bench = Bench::new(&two, kv_type, blocks.len());
        let mut got = bench.run(&[Part { tokens: &tokens[..1200], start: 0, table: &blocks, adapter: None }]);
        for position in 1200..tokens.len() {
            got.extend(bench.run(&[Part {
                tokens: &tokens[position..=position],
                start: position,
                table: &blocks,
                adapter: None,
            }]));
        }
        assert_same("decode after a long prompt", &got, &expected);
    }
}

/// Many sequences of one prefix, in the same blocks: what they share is read once, and each gets what it gets alone.
#[test]
fn many_of_one_prefix() {
    for (tiny, kv_type) in ways(300) {
        let tiny = TinyModel { heads: 8, kv_heads: 2, head_dim: 32, ..tiny };
        let model = load(&tiny, 2);
        let shared = tokens(600, 50);
        let mut bench = Bench::new(&model, kv_type, 100);
        // Eighteen whole blocks are shared, the rest of the prefix is copied.
        bench.run_in_chunks(&shared, 200, &table(0, 600));
        let tables: Vec<Vec<u32>> = (0..16).map(|i| (0..18).chain([20 + 2 * i, 21 + 2 * i]).collect()).collect();
        for table in &tables {
            bench.cache.copy_block(18, table[18], 600 - 18 * 32);
        }
        let own: Vec<Vec<u32>> = (0..16).map(|i| tokens(if i == 5 { 20 } else { 2 }, 60 + i)).collect();
        // Two steps of one token; the sixth sequence has a longer one in between.
        let mut got = vec![Vec::new(); 16];
        for step in 0..2 {
            let rest = |own: &'_ Vec<u32>| if step == 0 { 0..1 } else { 1..own.len() };
            let parts = own.iter().zip(&tables);
            let parts: Vec<Part<'_>> = parts
                .map(|(own, table)| Part { tokens: &own[rest(own)], start: 600 + step, table, adapter: None })
                .collect();
            let mut logits = bench.run(&parts).into_iter();
            for (got, part) in got.iter_mut().zip(&parts) {
                got.extend(logits.by_ref().take(part.tokens.len()));
            }
        }
        for (i, (got, own)) in got.iter().zip(&own).enumerate() {
            let whole: Vec<u32> = shared.iter().chain(own).copied().collect();
            let mut bench = Bench::new(&model, kv_type, 20);
            let expected = bench.run_in_chunks(&whole, 150, &table(0, whole.len()));
            assert_same(&format!("{:?} {kv_type:?}, sequence {i}", tiny.architecture), got, &expected[600..]);
        }
    }
}

/// Eight bits change logits a little, and only a little.
#[test]
fn eight_bits_change_little() {
    for tiny in [TinyModel::llama(), TinyModel::gemma3()] {
        let model = load(&tiny, 1);
        let tokens = tokens(150, 70);
        let [exact, near] = KvType::ALL.map(|kv_type| alone(&model, kv_type, &tokens));
        let mut differing = 0;
        for (exact, near) in exact.iter().zip(&near) {
            let size = exact.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            let off = exact.iter().zip(near).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
            assert!(off < size * 0.05, "{off} of {size}");
            differing += usize::from(off > 0.0);
        }
        assert!(differing > 100, "{differing} positions differ: eight bits are in use");
    }
}

/// Logits of some columns only are those columns' logits.
#[test]
fn wanted_logits_only() {
    use model::{Batch, Column, Workspace};
    let model = load(&TinyModel::llama(), 2);
    let tokens = tokens(40, 40);
    let expected = alone(&model, KvType::F16, &tokens);
    let columns: Vec<Column> =
        tokens.iter().zip(0..).map(|(&token, position)| Column { token, position, sequence: 0 }).collect();
    let mut cache = model.new_kv_cache(KvType::F16, 2).unwrap();
    let vocab = model.config().vocab_size;
    for logits_of in [&[][..], &[39], &[0, 17, 18]] {
        let mut logits = vec![0.0; logits_of.len() * vocab];
        let batch = Batch { columns: &columns, tables: &[&[0, 1]], logits_of, adapters: &[] };
        model.forward(&mut Workspace::new(), &mut cache, &batch, &mut logits).unwrap();
        let expected: Vec<_> = logits_of.iter().map(|&i| expected[i as usize].clone()).collect();
        let got: Vec<_> = logits.chunks(vocab).map(<[f32]>::to_vec).collect();
        assert_same("wanted logits", &got, &expected);
    }
}
