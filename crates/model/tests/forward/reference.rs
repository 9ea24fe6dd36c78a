//! The fast passes give the plain one's numbers, and would not if a part of it were different.

use std::sync::Arc;

use formats::gguf::Gguf;
use kernels::ThreadPool;
use model::{KvType, Model};
use test_support::TinyModel;

use crate::fixture::{Bench, table, tokens, variant};
use crate::plain::{Spec, Weights, logits};

/// Root-mean-square difference of logits, in standard deviations of the logits. Nearly all of it comes from keys and
/// values whose rounding to half floats tips over.
const TOLERANCE: f64 = 3e-4;
const TOKENS: usize = 100;

/// Standard deviation of all logits, and the root-mean-square difference in such units.
pub(crate) fn distance(ours: &[Vec<f32>], plain: &[Vec<f64>]) -> (f64, f64) {
    let all: Vec<f64> = plain.iter().flatten().copied().collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let deviation = (all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
    let squares = ours.iter().flatten().zip(&all).map(|(&ours, plain)| (f64::from(ours) - plain).powi(2));
    (deviation, (squares.sum::<f64>() / all.len() as f64).sqrt() / deviation)
}

/// What is altered, and how.
type Alteration = (&'static str, fn(&mut Spec));

/// Compares a model with the plain pass, then with altered ones, which must all be far off.
fn check(tiny: &TinyModel, alterations: &[Alteration]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny.write(&path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let model = Model::load(&gguf, &Arc::new(ThreadPool::new(2).unwrap())).unwrap();
    let (weights, spec) = (Weights::read(&gguf), Spec::of(tiny));
    let tokens = tokens(TOKENS, 3);
    let ours = Bench::new(&model, KvType::F16, 4).run_in_chunks(&tokens, 33, &table(0, TOKENS));
    let (deviation, difference) = distance(&ours, &logits(&spec, &weights, &tokens));
    assert!(deviation >= 1.0, "logits spread over {deviation} only");
    assert!(difference <= TOLERANCE, "{difference} of the logits' standard deviation");
    for (what, alter) in alterations {
        let mut altered = spec.clone();
        alter(&mut altered);
        let (_, difference) = distance(&ours, &logits(&altered, &weights, &tokens));
        assert!(difference > 30.0 * TOLERANCE, "{what}: an altered reference differs by {difference} only");
    }
}

const OF_ALL: [Alteration; 7] = [
    ("rotary base", |spec| spec.global_rope_base *= 1.2),
    ("rotary order", |spec| spec.rope_halves = !spec.rope_halves),
    ("activation", |spec| spec.gelu = !spec.gelu),
    ("score scale", |spec| spec.score_scale *= 1.1),
    ("norm before attention", |spec| spec.without_norm = Some("attn_norm")),
    ("norm before feed-forward", |spec| spec.without_norm = Some("ffn_norm")),
    ("last norm", |spec| spec.without_norm = Some("output_norm")),
];

#[test]
fn llama() {
    check(&TinyModel::llama(), &OF_ALL);
    check(&TinyModel { separate_head: true, kv_heads: 1, head_dim: 24, ..TinyModel::llama() }, &OF_ALL);
}

const OF_WINDOWS: [Alteration; 3] = [
    ("window one wider", |spec| spec.window = spec.window.map(|w| w + 1)),
    ("window one narrower", |spec| spec.window = spec.window.map(|w| w - 1)),
    ("no window", |spec| spec.window = None),
];

/// Alterations of all architectures and others.
fn and(others: &[Alteration]) -> Vec<Alteration> {
    OF_ALL.into_iter().chain(others.iter().copied()).collect()
}

#[test]
fn llama_with_what_files_declare() {
    check(&variant("llama-linear"), &and(&[("linear scaling", |spec| spec.rope_divisor = 1.0)]));
    check(&variant("llama3"), &and(&[("divisors of frequencies", |spec| spec.rope_factors = None)]));
    check(&variant("llama-biases"), &and(&[("biases", |spec| spec.biased = false)]));
    check(&variant("mistral"), &and(&OF_WINDOWS));
    check(&variant("mixtral"), &and(&[("experts used", |spec| spec.experts_used = 1)]));
}

#[test]
fn qwen() {
    let norms: [Alteration; 2] = [
        ("norm of queries", |spec| spec.without_norm = Some("attn_q_norm")),
        ("norm of keys", |spec| spec.without_norm = Some("attn_k_norm")),
    ];
    check(&variant("qwen2"), &and(&[("biases", |spec| spec.biased = false)]));
    check(&variant("qwen3"), &and(&norms));
    check(&variant("qwen3moe"), &and(&[norms[0], norms[1], ("experts used", |spec| spec.experts_used = 3)]));
}

#[test]
fn phi3() {
    check(&variant("phi3"), &and(&[("values that turn", |spec| spec.rope_dims *= 2)]));
    check(&variant("phi3-window"), &and(&OF_WINDOWS));
    let longrope: [Alteration; 2] =
        [("divisors of frequencies", |spec| spec.rope_factors = None), ("magnitude", |spec| spec.rope_magnitude = 1.0)];
    check(&variant("phi3-longrope"), &and(&longrope));
    check(&TinyModel { original_context: 2048, ..variant("phi3-longrope") }, &and(&longrope));
}

#[test]
fn gemma2() {
    let of_gemma: [Alteration; 5] = [
        ("global layers first", |spec| spec.global_every = 1),
        ("embedding factor", |spec| spec.embedding_factor = 1.0),
        ("cap of scores", |spec| spec.softcaps[0] = None),
        ("cap of logits", |spec| spec.softcaps[1] = None),
        ("norms after parts", |spec| spec.without_norm = Some("post_")),
    ];
    let all: Vec<_> = and(&of_gemma).into_iter().chain(OF_WINDOWS).collect();
    check(&TinyModel::gemma2(), &all);
}

#[test]
fn gemma3() {
    let of_gemma: [Alteration; 5] = [
        ("local rotary base", |spec| spec.local_rope_base *= 1.2),
        ("embedding factor", |spec| spec.embedding_factor = 1.0),
        ("norm of queries", |spec| spec.without_norm = Some("attn_q_norm")),
        ("norm of keys", |spec| spec.without_norm = Some("attn_k_norm")),
        ("norms after parts", |spec| spec.without_norm = Some("post_")),
    ];
    let all: Vec<_> = and(&of_gemma).into_iter().chain(OF_WINDOWS).collect();
    check(&TinyModel::gemma3(), &all);
    check(&TinyModel { heads: 3, kv_heads: 3, head_dim: 16, ..TinyModel::gemma3() }, &all);
}
