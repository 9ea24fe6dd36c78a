//! Files and batches with faults are refused, naming what is wrong.

use formats::gguf::{Array, TensorType, Value, Writer};
use model::{Batch, Column, ForwardError, KvType, Model, Workspace};
use test_support::{RopeStretch, TinyModel};

use crate::fixture::{load, load_written, rewritten, variant};

/// The tiny file with its keys and tensors passed through `key` and `tensor`: each gives back what to write instead.
fn rewrite(
    tiny: &TinyModel,
    key: impl Fn(&str) -> Option<Value>,
    tensor: impl Fn(&str, &[u64]) -> Option<Vec<u64>>,
) -> Writer {
    rewritten(
        tiny,
        |name, value| match key(name) {
            // A bool stands for a missing key.
            Some(Value::Bool(_)) => None,
            Some(other) => Some(other),
            None => Some(value),
        },
        |info, bytes| {
            if let Some(dims) = tensor(&info.name, &info.dims) {
                info.dims = dims;
            }
            info.ty = TensorType::F32;
            *bytes = vec![0; usize::try_from(info.dims.iter().product::<u64>() * 4).unwrap()];
        },
    )
}

fn refusal(writer: &Writer) -> String {
    load_written(writer, 1).unwrap_err().to_string()
}

fn with_key(tiny: &TinyModel, name: &str, value: &Value) -> String {
    refusal(&rewrite(tiny, |key| (key == name).then(|| value.clone()), |_, _| None))
}

#[test]
fn keys() {
    let llama = TinyModel::llama();
    let cases = [
        ("general.architecture", Value::String("rwkv7".into()), "architecture \"rwkv7\" is not supported"),
        ("general.architecture", Value::Bool(false), "\"general.architecture\" is missing"),
        ("llama.block_count", Value::U32(0), "\"llama.block_count\" should be from 1 to 1024, but is 0"),
        ("llama.block_count", Value::U32(1 << 30), "\"llama.block_count\" should be from 1"),
        ("llama.block_count", Value::U32(3), "tensor \"blk.2.attn_norm.weight\" is missing"),
        ("llama.block_count", Value::U32(1), "tensor \"blk.1.attn_norm.weight\" is not supported"),
        ("llama.block_count", Value::Bool(false), "\"llama.block_count\" is missing"),
        ("llama.block_count", Value::String("2".into()), "\"llama.block_count\""),
        ("llama.embedding_length", Value::U32(96), "tensor \"blk.0.attn_norm.weight\" should have shape [96]"),
        ("llama.attention.head_count", Value::U32(0), "\"llama.attention.head_count\" should be from 1"),
        ("llama.attention.head_count", Value::U32(3), "\"llama.attention.head_count_kv\" should be a divisor of the 3"),
        ("llama.attention.head_count_kv", Value::U32(3), "\"llama.attention.head_count_kv\" should be a divisor"),
        ("llama.attention.key_length", Value::U32(100_000), "\"llama.attention.key_length\" should be from 1 to 1024"),
        ("llama.attention.key_length", Value::U32(32), "\"llama.attention.value_length\" should be 32"),
        ("llama.attention.value_length", Value::U32(0), "\"llama.attention.value_length\" should be from 1"),
        ("llama.feed_forward_length", Value::U32(64), "tensor \"blk.0.ffn_gate.weight\" should have shape [64, 64]"),
        ("llama.rope.freq_base", Value::F32(0.0), "\"llama.rope.freq_base\" should be at least 1, but is 0"),
        ("llama.rope.freq_base", Value::F32(f32::NAN), "\"llama.rope.freq_base\""),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(-1.0), "should be between 0 and 1, but is -1"),
        ("llama.attention.layer_norm_rms_epsilon", Value::Bool(true), "layer_norm_rms_epsilon\" is missing"),
    ];
    for (name, value, expected) in cases {
        let refusal = with_key(&llama, name, &value);
        assert!(refusal.contains(expected), "{name}: {refusal}");
    }
    let window = with_key(&TinyModel::gemma3(), "gemma3.attention.sliding_window", &Value::Bool(false));
    assert!(window.contains("\"gemma3.attention.sliding_window\" is missing"), "{window}");
}

#[test]
fn vocabularies_that_contradict_the_embedding() {
    let tiny = TinyModel::llama();
    let rows = tiny.vocab_size();
    let mut writer = tiny.writer().unwrap();
    writer.key("llama.vocab_size", Value::U32(u32::try_from(rows + 1).unwrap()));
    let told = refusal(&writer);
    assert!(told.contains(&format!("should be {rows}, the rows")) && told.contains(&(rows + 1).to_string()), "{told}");
    let mut writer = tiny.writer().unwrap();
    writer.key("llama.vocab_size", Value::U32(u32::try_from(rows).unwrap()));
    load_written(&writer, 1).unwrap();
    let tokens = Value::Array(Array::String(["a", "b", "c"].into_iter().collect()));
    let told = with_key(&tiny, "tokenizer.ggml.tokens", &tokens);
    assert!(told.contains(&format!("a list of {rows}")) && told.contains("is a list of 3"), "{told}");
}

#[test]
fn rotary_extensions() {
    let with = |key: &str, value: Value| {
        let mut writer = TinyModel::llama().writer().unwrap();
        writer.key(key, value);
        load_written(&writer, 1).map(drop).map_err(|error| error.to_string())
    };
    let dynamic = with("llama.rope.scaling.type", Value::String("dynamic".into())).unwrap_err();
    let expected = "should be \"none\", \"linear\", \"yarn\" or \"longrope\", but is \"dynamic\"";
    assert!(dynamic.contains(expected), "{dynamic}");
    for known in ["none", "linear", "yarn"] {
        with("llama.rope.scaling.type", Value::String(known.into())).unwrap();
    }
    let longrope = with("llama.rope.scaling.type", Value::String("longrope".into())).unwrap_err();
    assert_eq!(longrope, "tensor \"rope_factors_long.weight\" is missing");
    let factor = with("llama.rope.scaling.factor", Value::F32(0.5)).unwrap_err();
    assert!(factor.contains("\"llama.rope.scaling.factor\" should be at least 1, but is 0.5"), "{factor}");
    let order = with("llama.rope.order", Value::String("quarters".into())).unwrap_err();
    assert!(order.contains("should be \"adjacent\" or \"halves\", but is \"quarters\""), "{order}");
    with("llama.rope.order", Value::String("halves".into())).unwrap();
    let dims = with("llama.rope.dimension_count", Value::U32(18)).unwrap_err();
    assert!(dims.contains("at most the head's 16 values, but is 18"), "{dims}");
    with("llama.rope.dimension_count", Value::U32(8)).unwrap();
}

#[test]
fn yarn_and_divisors() {
    let refused = |key: &str, value: f32| {
        let tiny = TinyModel { rope_stretch: RopeStretch::Yarn(4.0), ..TinyModel::llama() };
        let mut writer = tiny.writer().unwrap();
        writer.key(&format!("llama.rope.scaling.{key}"), Value::F32(value));
        refusal(&writer)
    };
    let cases = [
        ("yarn_beta_fast", 1.0, "yarn_beta_fast\" should be above yarn_beta_slow, 1, but is 1"),
        ("yarn_beta_slow", 0.0, "yarn_beta_slow\" should be above 0, but is 0"),
        ("yarn_ext_factor", 1.5, "yarn_ext_factor\" should be from 0 to 1, but is 1.5"),
        ("yarn_log_multiplier", 0.1, "yarn_log_multiplier\" should be 0, but is 0.1"),
        ("attn_factor", -1.0, "attn_factor\" should be above 0, but is -1"),
    ];
    for (key, value, expected) in cases {
        let refusal = refused(key, value);
        assert!(refusal.contains(expected), "{refusal}");
    }
    let zero = rewrite(&variant("llama3"), |_| None, |_, _| None);
    let expected = "tensor \"rope_freqs.weight\" should hold numbers above 0, but holds 0 at 0";
    assert_eq!(refusal(&zero), expected);
}

#[test]
fn experts() {
    let mixtral = variant("mixtral");
    let cases = [
        ("llama.expert_count", Value::U32(0), "\"llama.expert_count\" should be from 1 to 4096, but is 0"),
        ("llama.expert_count", Value::Bool(false), "\"llama.expert_count\" is missing"),
        ("llama.expert_used_count", Value::U32(0), "\"llama.expert_used_count\" should be from 1"),
        ("llama.expert_used_count", Value::U32(6), "expert_used_count\" should be at most the 5 experts, but is 6"),
        ("llama.expert_used_count", Value::Bool(false), "\"llama.expert_used_count\" is missing"),
        ("llama.expert_count", Value::U32(4), "tensor \"blk.0.ffn_gate_exps.weight\" should have shape [64, 96, 4]"),
    ];
    for (name, value, expected) in cases {
        let refusal = with_key(&mixtral, name, &value);
        assert!(refusal.contains(expected), "{name}: {refusal}");
    }
    let router = |tensor: &str, _: &[u64]| (tensor == "blk.1.ffn_gate_inp.weight").then(|| vec![64, 3]);
    assert_eq!(
        refusal(&rewrite(&mixtral, |_| None, router)),
        "tensor \"blk.1.ffn_gate_inp.weight\" should have shape [64, 5] (row length first), but has [64, 3]"
    );
    let mut phi = TinyModel::phi3().writer().unwrap();
    phi.key("phi3.expert_count", Value::U32(16)).key("phi3.expert_used_count", Value::U32(2));
    assert_eq!(refusal(&phi), "metadata key \"phi3.expert_count\" should be absent, but is 16");
    let none = rewrite(&variant("qwen3moe"), |key| key.contains("expert").then_some(Value::Bool(false)), |_, _| None);
    assert_eq!(refusal(&none), "metadata key \"qwen3moe.expert_count\" is missing");
}

#[test]
fn parts_of_architectures() {
    let cases = [
        ("qwen2", "blk.1.attn_k.bias", "tensor \"blk.1.attn_k.bias\" is missing"),
        ("qwen3", "blk.0.attn_q_norm.weight", "tensor \"blk.0.attn_q_norm.weight\" is missing"),
        ("phi3", "blk.0.attn_qkv.weight", "tensor \"blk.0.attn_qkv.weight\" is missing"),
        ("gemma2", "blk.3.post_ffw_norm.weight", "tensor \"blk.3.post_ffw_norm.weight\" is missing"),
    ];
    for (name, tensor, expected) in cases {
        let without = rewrite(&variant(name), |_| None, |other, _| (other == tensor).then(Vec::new));
        assert_eq!(refusal(&without), expected);
    }
    let short =
        rewrite(&variant("phi3"), |_| None, |tensor, _| (tensor == "blk.0.ffn_up.weight").then(|| vec![64, 96]));
    let expected = "tensor \"blk.0.ffn_up.weight\" should have shape [64, 192] (row length first), but has [64, 96]";
    assert_eq!(refusal(&short), expected);
    let mut biased = TinyModel::qwen3().writer().unwrap();
    biased.tensor("blk.0.attn_q.bias", TensorType::F32, &[96], vec![0; 384]).unwrap();
    assert_eq!(refusal(&biased), "tensor \"blk.0.attn_q.bias\" is not supported for architecture \"qwen3\"");
    let cap = with_key(&TinyModel::gemma2(), "gemma2.final_logit_softcapping", &Value::F32(0.0));
    assert!(cap.contains("\"gemma2.final_logit_softcapping\" should be above 0, but is 0"), "{cap}");
}

#[test]
fn tensors() {
    let llama = TinyModel::llama();
    let without = |name: &'static str| rewrite(&llama, |_| None, move |tensor, _| (tensor == name).then(Vec::new));
    for name in ["token_embd.weight", "output_norm.weight", "blk.1.attn_v.weight", "blk.0.ffn_norm.weight"] {
        assert_eq!(refusal(&without(name)), format!("tensor \"{name}\" is missing"));
    }
    let turned =
        rewrite(&llama, |_| None, |tensor, dims| (tensor == "blk.0.attn_k.weight").then(|| vec![dims[1], dims[0]]));
    let expected = "tensor \"blk.0.attn_k.weight\" should have shape [64, 32] (row length first), but has [32, 64]";
    assert_eq!(refusal(&turned), expected);
    let mut extra = llama.writer().unwrap();
    extra.tensor("blk.0.attn_q_norm.weight", TensorType::F32, &[16], vec![0; 64]).unwrap();
    assert_eq!(refusal(&extra), "tensor \"blk.0.attn_q_norm.weight\" is not supported for architecture \"llama\"");
}

fn forward(
    model: &Model,
    columns: &[(u32, u32, u32)],
    tables: &[&[u32]],
    logits_of: &[u32],
) -> Result<(), ForwardError> {
    let columns: Vec<Column> =
        columns.iter().map(|&(token, position, sequence)| Column { token, position, sequence }).collect();
    let mut cache = model.new_kv_cache(KvType::F16, 4).unwrap();
    let mut logits = vec![0.0; logits_of.len() * model.config().vocab_size];
    model.forward(
        &mut Workspace::new(),
        &mut cache,
        &Batch { columns: &columns, tables, logits_of, adapters: &[] },
        &mut logits,
    )
}

#[test]
fn batches() {
    let model = load(&TinyModel::llama(), 1);
    let vocab_size = model.config().vocab_size;
    let token = u32::try_from(vocab_size).unwrap();
    assert_eq!(forward(&model, &[], &[], &[]), Ok(()));
    assert_eq!(forward(&model, &[(1, 31, 0)], &[&[3]], &[0]), Ok(()));
    let cases = [
        (forward(&model, &[(token, 0, 0)], &[&[0]], &[]), ForwardError::Token { column: 0, token, vocab_size }),
        (
            forward(&model, &[(1, 2048, 0)], &[&[0; 65]], &[]),
            ForwardError::Position { column: 0, position: 2048, context_len: 2048 },
        ),
        (
            forward(&model, &[(1, 0, 0), (1, 0, 1)], &[&[0]], &[]),
            ForwardError::Sequence { column: 1, sequence: 1, tables: 1 },
        ),
        (
            forward(&model, &[(1, 4, 0), (1, 6, 0)], &[&[0]], &[]),
            ForwardError::Order { column: 1, position: 6, previous: 4 },
        ),
        (forward(&model, &[(1, 32, 0)], &[&[0]], &[]), ForwardError::Table { column: 0, position: 32, blocks: 1 }),
        (forward(&model, &[(1, 40, 0)], &[&[4, 0]], &[]), ForwardError::Block { block: 4, blocks: 4 }),
        (forward(&model, &[(1, 31, 0), (1, 32, 0)], &[&[0, 9]], &[]), ForwardError::Block { block: 9, blocks: 4 }),
        (forward(&model, &[(1, 0, 0)], &[&[0]], &[1]), ForwardError::LogitsOf { column: 1 }),
        (forward(&model, &[(1, 0, 0), (1, 1, 0)], &[&[0]], &[1, 0]), ForwardError::LogitsOf { column: 0 }),
    ];
    for (got, expected) in cases {
        assert_eq!(got, Err(expected));
    }
}

#[test]
fn caches_and_room_for_logits() {
    let model = load(&TinyModel::llama(), 1);
    let mut other = load(&TinyModel::gemma3(), 1).new_kv_cache(KvType::F16, 1).unwrap();
    let columns = [Column { token: 1, position: 0, sequence: 0 }];
    let batch = Batch { columns: &columns, tables: &[&[0]], logits_of: &[0], adapters: &[] };
    let mut workspace = Workspace::new();
    let vocab = model.config().vocab_size;
    assert_eq!(model.forward(&mut workspace, &mut other, &batch, &mut vec![0.0; vocab]), Err(ForwardError::Cache));
    let mut cache = model.new_kv_cache(KvType::F16, 1).unwrap();
    let short = model.forward(&mut workspace, &mut cache, &batch, &mut [0.0; 7]);
    assert_eq!(short, Err(ForwardError::LogitsLen { expected: vocab, actual: 7 }));
    assert!(model.new_kv_cache(KvType::F16, 0).is_err());
    assert!(model.new_kv_cache(KvType::F16, usize::MAX).is_err());
    assert_eq!(model.kv_block_bytes(KvType::F16), 2 * 2 * 16 * 32 * 2 * 2);
    assert_eq!(model.kv_block_bytes(KvType::Q8_0), 2 * 2 * (16 + 4) * 32 * 2);
}
