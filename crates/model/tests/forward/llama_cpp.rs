//! The same files give the log-probabilities that llama.cpp gives with keys and values in F32 (`scripts/reference-logits`
//! keeps its answers), and would not if the file said something else. The plain pass, with its keys and values not rounded
//! either, shows that the formulas are the same; ours, whose cache holds half floats, is farther off by their rounding.

use std::collections::BTreeSet;
use std::sync::Arc;

use formats::gguf::{Gguf, Writer};
use kernels::ThreadPool;
use model::{KvType, Model};
use serde_json::Value;
use test_support::{Architecture, RopeStretch, TinyAdapter, TinyModel};

use crate::adapters::written;
use crate::fixture::{Bench, Part, rewritten, table, variant};
use crate::plain::{Spec, Weights, logits};

/// Largest difference of a log-probability, in standard deviations of the logits: of the plain pass.
const TOLERANCE: f64 = 1e-3;
/// And of ours, with keys and values as half floats.
const HALF_TOLERANCE: f64 = 8e-3;
/// What llama.cpp passes over: a window of these architectures.
const NOT_IN_LLAMA_CPP: [&str; 2] = ["mistral", "phi3-window"];

/// A prompt, and the log-probability of each token of the vocabulary after it.
struct Answer {
    ids: Vec<u32>,
    log_probabilities: Vec<f64>,
}

fn answers(name: &str) -> Vec<Answer> {
    let path = format!("{}/tests/reference/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let answer = |answer: &Value| Answer {
        ids: serde_json::from_value(answer["ids"].clone()).unwrap(),
        log_probabilities: serde_json::from_value(answer["log_probabilities"].clone()).unwrap(),
    };
    file["answers"].as_array().unwrap().iter().map(answer).collect()
}

fn log_probabilities(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    logits.iter().map(|x| x - max - sum.ln()).collect()
}

/// Largest difference from llama.cpp's answers, in standard deviations of the logits, which spread over at least 1.
/// `last_logits` gives those after a prompt.
fn difference(name: &str, mut last_logits: impl FnMut(&[u32]) -> Vec<f64>) -> f64 {
    let (mut worst, mut squares, mut count) = (0.0f64, 0.0, 0.0);
    for Answer { ids, log_probabilities: expected } in answers(name) {
        let got = log_probabilities(&last_logits(&ids));
        assert_eq!(got.len(), expected.len(), "{name}: vocabulary");
        let mean = expected.iter().sum::<f64>() / expected.len() as f64;
        for (got, expected) in got.iter().zip(&expected) {
            worst = worst.max((got - expected).abs());
            squares += (expected - mean).powi(2);
            count += 1.0;
        }
    }
    let deviation = (squares / count).sqrt();
    assert!(deviation >= 1.0, "{name}: logits spread over {deviation} only");
    worst / deviation
}

fn opened(writer: &Writer) -> Gguf {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    writer.write(&path).unwrap();
    Gguf::open(&path).unwrap()
}

/// How far our passes over this file are from llama.cpp's answers.
fn ours(name: &str, writer: &Writer) -> f64 {
    ours_with(name, writer, None)
}

/// The same with an adapter.
fn ours_with(name: &str, writer: &Writer, adapter: Option<&Writer>) -> f64 {
    let model = Model::load(&opened(writer), &Arc::new(ThreadPool::new(2).unwrap())).unwrap();
    let adapter = adapter.map(|adapter| written(&model, adapter).unwrap());
    difference(name, |ids| {
        let mut bench = Bench::new(&model, KvType::F16, ids.len().div_ceil(32));
        let all = bench.run(&[Part { tokens: ids, start: 0, table: &table(0, ids.len()), adapter: adapter.as_ref() }]);
        all[ids.len() - 1].iter().map(|&logit| f64::from(logit)).collect()
    })
}

/// Whether all of a model is F32: there are no keys and values to be rounded.
fn has_state(tiny: &TinyModel) -> bool {
    tiny.architecture == Architecture::Mamba
}

/// How far the plain pass is.
fn plain(name: &str, tiny: &TinyModel, writer: &Writer) -> f64 {
    let weights = Weights::read(&opened(writer));
    let spec = Spec { half_cache: false, half_gelu: true, ..Spec::of(tiny) };
    difference(name, |ids| logits(&spec, &weights, ids).pop().unwrap())
}

/// Files of state-space models that say something else.
fn altered_state_space(tiny: &TinyModel) -> Vec<(&'static str, Writer)> {
    let mut norms = tiny.clone();
    norms.state_space.dt_b_c_rms = !norms.state_space.dt_b_c_rms;
    let taps = tiny.state_space.conv_kernel as usize;
    vec![
        ("norms of the selection", norms.writer().unwrap()),
        ("no convolution", with_values(tiny, "ssm_conv1d.weight", |i, x| if i % taps == taps - 1 { x } else { 0.0 })),
        ("no bias of the convolution", with_values(tiny, "ssm_conv1d.bias", |_, _| 0.0)),
        ("no bias of time steps", with_values(tiny, "ssm_dt.bias", |_, _| 0.0)),
        ("no D", with_values(tiny, "ssm_d", |_, _| 0.0)),
        ("faster fading", with_values(tiny, "ssm_a", |_, x| 1.5 * x)),
        ("no memory", with_values(tiny, "ssm_a", |_, _| -1e9)),
    ]
}

/// The model's file with other values in a tensor of each layer, which is F32.
fn with_values(tiny: &TinyModel, part: &str, value: impl Fn(usize, f32) -> f32) -> Writer {
    rewritten(
        tiny,
        |_, value| Some(value),
        |info, bytes| {
            if info.name.ends_with(part) {
                for (i, bytes) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
                    *bytes = value(i, f32::from_le_bytes(*bytes)).to_le_bytes();
                }
            }
        },
    )
}

/// The model's file with two tensors of each layer exchanged.
fn exchanged(tiny: &TinyModel, [one, other]: [&str; 2]) -> Writer {
    rewritten(
        tiny,
        |_, value| Some(value),
        |info, _| {
            let swapped = |from: &str, to: &str| info.name.contains(from).then(|| info.name.replace(from, to));
            if let Some(name) = swapped(one, other).or_else(|| swapped(other, one)) {
                info.name = name;
            }
        },
    )
}

/// Files like this one that say something else.
fn altered(tiny: &TinyModel) -> Vec<(&'static str, Writer)> {
    let with = |alter: fn(&mut TinyModel)| {
        let mut tiny = tiny.clone();
        alter(&mut tiny);
        tiny.writer().unwrap()
    };
    if has_state(tiny) {
        return altered_state_space(tiny);
    }
    let mut all = vec![
        ("rotary base", with(|tiny| tiny.rope_base *= 1.2)),
        ("norms", exchanged(tiny, [".attn_norm.", ".ffn_norm."])),
    ];
    if tiny.sliding_window > 0 {
        all.push(("wider window", with(|tiny| tiny.sliding_window += 1)));
        all.push(("narrower window", with(|tiny| tiny.sliding_window -= 1)));
    }
    if tiny.architecture == Architecture::Gemma2 {
        all.push(("cap of scores", with(|tiny| tiny.softcaps[0] *= 1.2)));
        all.push(("cap of logits", with(|tiny| tiny.softcaps[1] *= 1.2)));
    }
    match tiny.rope_stretch {
        RopeStretch::Yarn(_) => {
            all.push(("factor", with(|tiny| tiny.rope_stretch = RopeStretch::Yarn(5.0))));
            all.push(("original context", with(|tiny| tiny.original_context *= 2)));
        }
        RopeStretch::Linear(_) => all.push(("factor", with(|tiny| tiny.rope_stretch = RopeStretch::Linear(5.0)))),
        RopeStretch::Divisors => all.push(("no divisors", with(|tiny| tiny.rope_stretch = RopeStretch::None))),
        RopeStretch::Longrope => all.push(("short divisors", with(|tiny| tiny.original_context = tiny.context_len))),
        RopeStretch::None => {}
    }
    if tiny.experts.is_some() {
        let one_expert = |tiny: &mut TinyModel| tiny.experts.iter_mut().for_each(|experts| experts.used = 1);
        all.push(("experts used", with(one_expert)));
    }
    all
}

#[test]
fn log_probabilities_are_those_of_llama_cpp() {
    for (name, tiny) in TinyModel::variants() {
        if NOT_IN_LLAMA_CPP.contains(&name) {
            continue;
        }
        let writer = tiny.writer().unwrap();
        let (half, bound) = (ours(name, &writer), if has_state(&tiny) { TOLERANCE } else { HALF_TOLERANCE });
        if !has_state(&tiny) {
            let plain = plain(name, &tiny, &writer);
            assert!(plain <= TOLERANCE, "{name}: the plain pass is {plain} of the logits' standard deviation off");
        }
        assert!(half <= bound, "{name}: {half} of the logits' standard deviation off");
        for (what, writer) in altered(&tiny) {
            let other = ours(name, &writer);
            assert!(other > 5.0 * HALF_TOLERANCE, "{name}, {what}: an altered file differs by {other} only");
        }
    }
}

/// Variants for which llama.cpp's answers with [`TinyAdapter::reference`] are kept.
const WITH_ADAPTER: [&str; 2] = ["llama", "phi3"];

#[test]
fn log_probabilities_with_an_adapter_are_those_of_llama_cpp() {
    for variant_name in WITH_ADAPTER {
        let (tiny, name) = (variant(variant_name), format!("{variant_name}-lora"));
        let (base, made) = (tiny.writer().unwrap(), TinyAdapter::reference());
        let same = plain(&name, &tiny, &made.merged(&tiny).unwrap());
        assert!(same <= TOLERANCE, "{name}: the merged model differs by {same}");
        let same = ours_with(&name, &base, Some(&made.writer(&tiny).unwrap()));
        assert!(same <= HALF_TOLERANCE, "{name}: {same} of the logits' standard deviation");
        let weaker = TinyAdapter { alpha: made.alpha * 0.8, ..made };
        for (what, adapter) in [("the base", None), ("another factor", Some(weaker.writer(&tiny).unwrap()))] {
            let other = ours_with(&name, &base, adapter.as_ref());
            assert!(other > 10.0 * HALF_TOLERANCE, "{name}, {what}: differs by {other} only");
        }
    }
}

#[test]
fn each_variant_has_its_answers() {
    let folder = std::fs::read_dir(format!("{}/tests/reference", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let there: BTreeSet<String> =
        folder.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let expected = TinyModel::variants().into_iter().map(|(name, _)| name.to_owned());
    let expected = expected.filter(|name| !NOT_IN_LLAMA_CPP.contains(&name.as_str()));
    let expected: BTreeSet<_> = expected.chain(WITH_ADAPTER.map(|name| format!("{name}-lora"))).collect();
    assert_eq!(there, expected);
}

/// Rows of queries and keys as they were trained, seen through the key that says so: the same model.
#[test]
fn rotary_halves_of_llama() {
    let tiny = variant("llama");
    let mut halves = tiny.writer().unwrap();
    halves.key("llama.rope.order", formats::gguf::Value::String("halves".to_owned()));
    assert!(ours("llama", &halves) > 5.0 * HALF_TOLERANCE, "the order of pairs changes nothing");
    // Pair i of a head: rows 2i and 2i + 1 in a GGUF file, rows i and i + half as trained.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny.write(&path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let mut writer = Writer::new();
    for (key, value) in gguf.metadata() {
        writer.key(key, value.clone());
    }
    writer.key("llama.rope.order", formats::gguf::Value::String("halves".to_owned()));
    let (head, row) = (tiny.head_dim as usize, tiny.hidden as usize * 4);
    for info in gguf.tensors() {
        let mut bytes = Vec::new();
        gguf.read_tensor(info, 0..info.rows(), &mut bytes).unwrap();
        if info.name.contains("attn_q.") || info.name.contains("attn_k.") {
            let trained = |rows: &[u8]| -> Vec<u8> {
                let order = (0..head).map(|i| if i < head / 2 { 2 * i } else { 2 * (i - head / 2) + 1 });
                order.flat_map(|i| rows[i * row..(i + 1) * row].to_vec()).collect()
            };
            bytes = bytes.chunks(head * row).flat_map(trained).collect();
        }
        writer.tensor(&info.name, info.ty, &info.dims, bytes).unwrap();
    }
    let same = ours("llama", &writer);
    assert!(same <= HALF_TOLERANCE, "{same} of the logits' standard deviation");
}
