//! A model with an adapter is the model that has it merged into its weights, and batches keep each sequence's own.

use std::path::Path;
use std::sync::Arc;

use formats::gguf::{Gguf, TensorType, Value, Writer};
use kernels::ThreadPool;
use model::{Adapter, Batch, Column, ForwardError, KvType, Model, Workspace};
use test_support::{Architecture, TinyAdapter, TinyModel};

use crate::fixture::{Bench, Part, load, load_written, table, tokens, variant};

/// Root-mean-square difference from the merged model, in standard deviations of the logits. Nearly all of it comes from keys
/// and values: the cache holds half floats at best, and where sums in another order make a rounding tip over, single logits
/// differ by more than 1e-3.
const TOLERANCE: f64 = 3e-4;
/// Largest difference where no key or value differs.
const SAME_CACHE_TOLERANCE: f64 = 1e-3;
const TOKENS: usize = 90;

fn open(model: &Model, path: &Path) -> Result<Adapter, String> {
    let file = formats::adapter::Adapter::open(path).map_err(|error| error.to_string())?;
    model.load_adapter(&file).map_err(|error| error.to_string())
}

pub(crate) fn written(model: &Model, writer: &Writer) -> Result<Adapter, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    writer.write(&path).unwrap();
    open(model, &path)
}

fn folder_of(model: &Model, adapter: &TinyAdapter, tiny: &TinyModel) -> Adapter {
    let folder = tempfile::tempdir().unwrap();
    adapter.write_folder(tiny, folder.path()).unwrap();
    open(model, folder.path()).unwrap()
}

/// A sequence alone, in chunks of `chunk` tokens.
fn run(model: &Model, adapter: Option<&Adapter>, tokens: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let mut bench = Bench::new(model, KvType::F16, tokens.len().div_ceil(32));
    let table = table(0, tokens.len());
    let parts = tokens.chunks(chunk).enumerate();
    parts.flat_map(|(i, tokens)| bench.run(&[Part { tokens, start: i * chunk, table: &table, adapter }])).collect()
}

/// Root-mean-square and largest difference, in standard deviations of the expected logits.
fn differences(got: &[Vec<f32>], expected: &[Vec<f32>]) -> (f64, f64) {
    let all: Vec<f64> = expected.iter().flatten().map(|&x| f64::from(x)).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let deviation = (all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
    assert!(deviation >= 0.9, "logits spread over {deviation} only");
    let (mut squares, mut largest) = (0.0, 0.0_f64);
    for (&got, expected) in got.iter().flatten().zip(&all) {
        squares += (f64::from(got) - expected).powi(2);
        largest = largest.max((f64::from(got) - expected).abs());
    }
    ((squares / all.len() as f64).sqrt() / deviation, largest / deviation)
}

fn difference(got: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    differences(got, expected).0
}

fn same(got: &[Vec<f32>], expected: &[Vec<f32>]) -> bool {
    got.len() == expected.len()
        && got.iter().flatten().zip(expected.iter().flatten()).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Checks an adapter against the merged model, and that it clearly differs from the base and from one with another factor.
fn check(what: &str, tiny: &TinyModel, base: &Model, made: &TinyAdapter, adapter: &Adapter) {
    let tokens = tokens(TOKENS, 4);
    let got = run(base, Some(adapter), &tokens, 33);
    let merged = |made: &TinyAdapter| run(&load_written(&made.merged(tiny).unwrap(), 2).unwrap(), None, &tokens, 33);
    let near = difference(&got, &merged(made));
    assert!(near <= TOLERANCE, "{what}: {near} from the merged model");
    for (other, logits) in [
        ("the base", run(base, None, &tokens, 33)),
        ("another factor", merged(&TinyAdapter { alpha: made.alpha * 1.1, ..made.clone() })),
    ] {
        let far = difference(&got, &logits);
        assert!(far > 20.0 * TOLERANCE, "{what}: only {far} from {other}");
    }
}

/// Models without experts and without state-space layers.
fn with_all_projections() -> impl Iterator<Item = (&'static str, TinyModel)> {
    let adapted = |tiny: &TinyModel| tiny.experts.is_none() && tiny.architecture != Architecture::Mamba;
    TinyModel::variants().into_iter().filter(move |(_, tiny)| adapted(tiny))
}

#[test]
fn gguf_adapters_are_the_merged_model() {
    for (name, tiny) in with_all_projections() {
        let (base, made) = (load(&tiny, 2), TinyAdapter::new(4, 70));
        let adapter = written(&base, &made.writer(&tiny).unwrap()).unwrap();
        check(name, &tiny, &base, &made, &adapter);
    }
}

/// An adapter of the last layer that changes no keys and values: none of them is rounded otherwise.
#[test]
fn beside_the_same_cache_all_logits_are_the_merged_models() {
    for (name, tiny) in with_all_projections() {
        let parts = ["attn_q.", "attn_output.", "ffn_"];
        let only = parts.map(|part| format!("blk.{}.{part}", tiny.layers - 1)).to_vec();
        let made = TinyAdapter { only, ..TinyAdapter::new(4, 75) };
        let (base, tokens) = (load(&tiny, 2), tokens(TOKENS, 6));
        let adapter = written(&base, &made.writer(&tiny).unwrap()).unwrap();
        let got = run(&base, Some(&adapter), &tokens, 33);
        let merged = run(&load_written(&made.merged(&tiny).unwrap(), 2).unwrap(), None, &tokens, 33);
        let (_, largest) = differences(&got, &merged);
        assert!(largest <= SAME_CACHE_TOLERANCE, "{name}: {largest} from the merged model");
        let (_, from_base) = differences(&run(&base, None, &tokens, 33), &merged);
        assert!(from_base > 100.0 * SAME_CACHE_TOLERANCE, "{name}: only {from_base} from the base");
    }
}

#[test]
fn folders_of_peft_are_the_merged_model() {
    let tiny = TinyModel::llama();
    let base = load(&tiny, 2);
    for made in [TinyAdapter::new(5, 71), TinyAdapter { rank_stabilized: true, alpha: 2.0, ..TinyAdapter::new(9, 72) }]
    {
        check("folder", &tiny, &base, &made, &folder_of(&base, &made, &tiny));
    }
}

/// Rows of queries and keys stand in two orders, of models and of adapters.
#[test]
fn each_form_of_adapter_fits_each_form_of_model() {
    let (tiny, made) = (TinyModel::llama(), TinyAdapter::new(4, 73));
    let folder = tempfile::tempdir().unwrap();
    tiny.write_folder(folder.path()).unwrap();
    let base = Model::load(&Gguf::open(folder.path()).unwrap(), &Arc::new(ThreadPool::new(2).unwrap())).unwrap();
    check("folder on folder", &tiny, &base, &made, &folder_of(&base, &made, &tiny));
    check("file on folder", &tiny, &base, &made, &written(&base, &made.writer(&tiny).unwrap()).unwrap());
}

/// Two adapters, one of them twice, and none, in steps of prefill and decode; unequal ranks and projections.
#[test]
fn mixed_batches_give_the_bits_of_each_alone() {
    for tiny in [
        TinyModel::llama(),
        TinyModel::llama().with_weights(TensorType::Q8_0),
        TinyModel::llama().with_weights(TensorType::Q4_0),
        TinyModel::gemma3().with_weights(TensorType::F16),
        variant("phi3"),
    ] {
        let (one, two) = (load(&tiny, 1), load(&tiny, 2));
        let writers = [TinyAdapter::new(3, 80), TinyAdapter::new(8, 81)].map(|made| made.writer(&tiny).unwrap());
        let sequences: Vec<Vec<u32>> =
            [75, 50, 97, 33, 60].iter().zip(20..).map(|(&n, seed)| tokens(n, seed)).collect();
        let chosen = [Some(0), None, Some(1), Some(0), None];
        let load_all = |model: &Model| writers.each_ref().map(|writer| written(model, writer).unwrap());
        let own = load_all(&one);
        let expected: Vec<_> =
            sequences.iter().zip(chosen).map(|(tokens, i)| run(&one, i.map(|i: usize| &own[i]), tokens, 1)).collect();
        let tables: Vec<_> = sequences.iter().zip(0..).map(|(tokens, i)| table(i * 4, tokens.len())).collect();
        for model in [&one, &two] {
            let own = load_all(model);
            let mut bench = Bench::new(model, KvType::F16, 20);
            let (mut done, mut got) = ([0; 5], vec![Vec::new(); 5]);
            for step in 0.. {
                let end: [usize; 5] =
                    std::array::from_fn(|i| sequences[i].len().min(done[i] + [1, 37, 5, 16, 0][(step + i) % 5]));
                let at: Vec<usize> = (0..5).filter(|&i| end[i] > done[i]).collect();
                let part = |&i: &usize| Part {
                    tokens: &sequences[i][done[i]..end[i]],
                    start: done[i],
                    table: &tables[i],
                    adapter: chosen[i].map(|i: usize| &own[i]),
                };
                let mut logits = bench.run(&at.iter().map(part).collect::<Vec<_>>()).into_iter();
                for &i in &at {
                    got[i].extend(logits.by_ref().take(end[i] - done[i]));
                }
                done = end;
                if (0..5).all(|i| done[i] == sequences[i].len()) {
                    break;
                }
            }
            for i in 0..5 {
                assert!(same(&got[i], &expected[i]), "{:?} {}: sequence {i}", tiny.architecture, tiny.weight_type);
            }
        }
    }
}

/// The adapter's file, one number in it exchanged.
fn with_value(tiny: &TinyModel, value: f32) -> Writer {
    altered_bytes(tiny, &[], |name, bytes| {
        if name == "blk.0.ffn_down.weight.lora_b" {
            bytes[36..40].copy_from_slice(&value.to_le_bytes());
        }
        Some(name.to_owned())
    })
}

/// The adapter's file, some of it exchanged.
fn altered(tiny: &TinyModel, keys: &[(&str, &str)], tensors: impl Fn(&str) -> Option<String>) -> Writer {
    altered_bytes(tiny, keys, |name, _| tensors(name))
}

fn altered_bytes(
    tiny: &TinyModel,
    keys: &[(&str, &str)],
    tensors: impl Fn(&str, &mut Vec<u8>) -> Option<String>,
) -> Writer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    TinyAdapter::new(4, 90).writer(tiny).unwrap().write(&path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let mut writer = Writer::new();
    for (key, value) in gguf.metadata() {
        let other = keys.iter().find(|(own, _)| own == key).map(|(_, value)| Value::String((*value).to_owned()));
        writer.key(key, other.unwrap_or_else(|| value.clone()));
    }
    for info in gguf.tensors() {
        let mut bytes = Vec::new();
        gguf.read_tensor(info, 0..info.rows(), &mut bytes).unwrap();
        let Some(name) = tensors(&info.name, &mut bytes) else { continue };
        writer.tensor(&name, info.ty, &info.dims, bytes).unwrap();
    }
    writer
}

#[test]
fn adapters_of_other_models_are_refused() {
    let tiny = TinyModel::llama();
    let base = load(&tiny, 1);
    let keep = |name: &str| Some(name.to_owned());
    let other = |tiny: TinyModel| TinyAdapter::new(4, 90).writer(&tiny).unwrap();
    for (writer, words) in [
        (altered(&tiny, &[("general.architecture", "qwen2")], keep), ["architecture \"qwen2\"", "\"llama\""]),
        (other(TinyModel { layers: 3, ..tiny.clone() }), ["blk.2.attn_q.weight", "has 2 layers"]),
        (other(TinyModel { hidden: 96, ..tiny.clone() }), ["blk.0.attn_q.weight.lora_a", "shape [64, 4]"]),
        (other(TinyModel { feed_forward: 64, ..tiny.clone() }), ["blk.0.ffn_gate.weight.lora_b", "shape [4, 96]"]),
        (
            altered(&tiny, &[], |name| Some(name.replace("attn_q.", "attn_qkv."))),
            ["blk.0.attn_qkv.weight", "has attn_q, attn_k and attn_v instead"],
        ),
    ] {
        let message = written(&base, &writer).unwrap_err();
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    }
    for value in [f32::NAN, f32::INFINITY] {
        let message = written(&base, &with_value(&tiny, value)).unwrap_err();
        assert!(
            message.contains("blk.0.ffn_down.weight.lora_b") && message.contains("is infinite or not a number"),
            "{message}"
        );
    }
    let mixture = variant("mixtral");
    let message = written(&load(&mixture, 1), &TinyAdapter::new(4, 90).writer(&tiny).unwrap()).unwrap_err();
    assert!(message.contains("ffn_") && message.contains("experts"), "{message}");
    let mamba = altered(&tiny, &[("general.architecture", "mamba")], keep);
    let message = written(&load(&variant("mamba"), 1), &mamba).unwrap_err();
    assert!(message.contains("blk.0.attn_q.weight") && message.contains("state-space layers"), "{message}");
    // Attention beside experts may be adapted.
    let attention = altered(&tiny, &[], |name| name.contains(".attn_").then(|| name.to_owned()));
    written(&load(&mixture, 1), &attention).unwrap();
}

#[test]
fn a_batch_with_a_wrong_adapter_is_refused() {
    let (tiny, wider) = (TinyModel::llama(), TinyModel { feed_forward: 64, ..TinyModel::llama() });
    let (base, other) = (load(&tiny, 1), load(&wider, 1));
    let made = TinyAdapter::new(4, 91);
    let own = written(&base, &made.writer(&tiny).unwrap()).unwrap();
    let foreign = written(&other, &made.writer(&wider).unwrap()).unwrap();
    assert_eq!((own.rank(), own.bytes() > 0), (4, true));
    let mut cache = base.new_kv_cache(KvType::F16, 1).unwrap();
    let mut forward = |adapters: &[Option<&Adapter>]| {
        let columns = [Column { token: 1, position: 0, sequence: 0 }];
        let batch = Batch { columns: &columns, tables: &[&[0]], logits_of: &[], adapters };
        base.forward(&mut Workspace::new(), &mut cache, &batch, &mut [])
    };
    assert_eq!(forward(&[Some(&own)]), Ok(()));
    assert_eq!(forward(&[Some(&foreign)]), Err(ForwardError::Adapter { sequence: 0 }));
    assert_eq!(forward(&[None, None]), Err(ForwardError::Adapter { sequence: 2 }));
}
