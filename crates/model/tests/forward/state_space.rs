//! State-space models: the numbers of the plainest possible pass in double precision, which an altered one does not give,
//! and states that never mix.

use std::collections::HashMap;
use std::sync::Arc;

use formats::gguf::{Gguf, TensorInfo, TensorType, Value};
use kernels::ThreadPool;
use model::{Batch, Column, ForwardError, KvType, Model, Workspace};
use test_support::TinyModel;

use crate::fixture::{Bench, Part, load, load_written, rewritten, tokens, variant};
use crate::plain::{Weights, add, times};
use crate::reference::distance;

/// Root-mean-square difference of logits, in standard deviations of the logits: all is F32.
const TOLERANCE: f64 = 1e-5;
const TOKENS: usize = 100;

/// A part that is left out, or done otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Altered {
    Nothing,
    ConvOfPresentOnly,
    ConvReversed,
    NoConvBias,
    NoSilu,
    NoD,
    NoDtBias,
    ReluForSoftplus,
    NoGate,
    NormsOfSelection,
    BAndCExchanged,
    /// What is remembered does not fade.
    NoFading,
    /// Nothing is remembered.
    NoMemory,
    /// A position is remembered before the one that came before it.
    ScanOfPairsReversed,
}

const ALTERED: [Altered; 13] = [
    Altered::ConvOfPresentOnly,
    Altered::ConvReversed,
    Altered::NoConvBias,
    Altered::NoSilu,
    Altered::NoD,
    Altered::NoDtBias,
    Altered::ReluForSoftplus,
    Altered::NoGate,
    Altered::NormsOfSelection,
    Altered::BAndCExchanged,
    Altered::NoFading,
    Altered::NoMemory,
    Altered::ScanOfPairsReversed,
];

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn normed(x: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().map(|x| x / (mean + f64::from(1e-5f32)).sqrt()).collect()
}

fn weighted(x: &[f64], weight: &[Vec<f64>]) -> Vec<f64> {
    normed(x).iter().zip(&weight[0]).map(|(x, w)| x * w).collect()
}

/// Logits of each position.
fn logits(tiny: &TinyModel, weights: &Weights, tokens: &[u32], altered: Altered) -> Vec<Vec<f64>> {
    let mut hidden: Vec<Vec<f64>> =
        tokens.iter().map(|&token| weights.get("token_embd.weight")[token as usize].clone()).collect();
    for layer in 0..tiny.layers {
        let norm = weights.get(&format!("blk.{layer}.attn_norm.weight"));
        let inputs: Vec<Vec<f64>> = hidden.iter().map(|x| weighted(x, norm)).collect();
        for (x, delta) in hidden.iter_mut().zip(layer_outputs(tiny, weights, layer, &inputs, altered)) {
            add(x, &delta);
        }
    }
    let head = if tiny.separate_head { "output.weight" } else { "token_embd.weight" };
    hidden.iter().map(|x| times(weights.get(head), &weighted(x, weights.get("output_norm.weight")))).collect()
}

/// What a layer makes of all positions.
fn layer_outputs(
    tiny: &TinyModel,
    weights: &Weights,
    layer: u32,
    inputs: &[Vec<f64>],
    altered: Altered,
) -> Vec<Vec<f64>> {
    let get = |part: &str| weights.get(&format!("blk.{layer}.{part}"));
    let inner = 2 * tiny.hidden as usize;
    let xz: Vec<Vec<f64>> = inputs.iter().map(|x| times(get("ssm_in.weight"), x)).collect();
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    if altered == Altered::ScanOfPairsReversed {
        order.chunks_mut(2).for_each(<[usize]>::reverse);
    }
    let mut state = vec![vec![0.0; tiny.state_space.state_size as usize]; inner];
    let mut outputs = vec![Vec::new(); inputs.len()];
    for t in order {
        let x = convolved(&xz, t, get("ssm_conv1d.weight"), &get("ssm_conv1d.bias")[0], altered);
        let y = scanned(tiny, &get, &mut state, &x, altered);
        let gated: Vec<f64> = match altered {
            Altered::NoGate => y,
            _ => y.iter().zip(&xz[t][inner..]).map(|(y, z)| y * silu(*z)).collect(),
        };
        outputs[t] = times(get("ssm_out.weight"), &gated);
    }
    outputs
}

fn convolved(xz: &[Vec<f64>], t: usize, taps: &[Vec<f64>], bias: &[f64], altered: Altered) -> Vec<f64> {
    let channel = |(channel, (taps, bias)): (usize, (&Vec<f64>, &f64))| {
        let past = |i: usize| (t + i + 1).checked_sub(taps.len()).map_or(0.0, |at| xz[at][channel]);
        let last = taps.len() - 1;
        let sum: f64 = match altered {
            Altered::ConvOfPresentOnly => taps[last] * past(last),
            Altered::ConvReversed => taps.iter().rev().enumerate().map(|(i, tap)| tap * past(i)).sum(),
            _ => taps.iter().enumerate().map(|(i, tap)| tap * past(i)).sum(),
        };
        let sum = if altered == Altered::NoConvBias { sum } else { sum + bias };
        if altered == Altered::NoSilu { sum } else { silu(sum) }
    };
    taps.iter().zip(bias).enumerate().map(channel).collect()
}

fn scanned<'a>(
    tiny: &TinyModel,
    get: &impl Fn(&str) -> &'a [Vec<f64>],
    state: &mut [Vec<f64>],
    x: &[f64],
    altered: Altered,
) -> Vec<f64> {
    let sizes = tiny.state_space;
    let selection = times(get("ssm_x.weight"), x);
    let (narrow_dt, rest) = selection.split_at(sizes.time_step_rank as usize);
    let (b, c) = rest.split_at(sizes.state_size as usize);
    let norms = sizes.dt_b_c_rms != (altered == Altered::NormsOfSelection);
    let [narrow_dt, mut b, mut c] = [narrow_dt, b, c].map(|x| if norms { normed(x) } else { x.to_vec() });
    if altered == Altered::BAndCExchanged {
        std::mem::swap(&mut b, &mut c);
    }
    let mut dt = times(get("ssm_dt.weight"), &narrow_dt);
    if altered != Altered::NoDtBias {
        add(&mut dt, &get("ssm_dt.bias")[0]);
    }
    let (a, d) = (get("ssm_a"), &get("ssm_d")[0]);
    let channel = |(channel, h): (usize, &mut Vec<f64>)| {
        let dt = if altered == Altered::ReluForSoftplus { dt[channel].max(0.0) } else { dt[channel].exp().ln_1p() };
        let mut y = if altered == Altered::NoD { 0.0 } else { d[channel] * x[channel] };
        for (n, h) in h.iter_mut().enumerate() {
            let kept = match altered {
                Altered::NoFading => 1.0,
                Altered::NoMemory => 0.0,
                _ => (dt * a[channel][n]).exp(),
            };
            *h = kept * *h + dt * b[n] * x[channel];
            y += c[n] * *h;
        }
        y
    };
    state.iter_mut().enumerate().map(channel).collect()
}

#[test]
fn a_plain_pass_and_altered_ones() {
    for name in ["mamba", "falcon-mamba"] {
        let tiny = variant(name);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        tiny.write(&path).unwrap();
        let gguf = Gguf::open(&path).unwrap();
        let model = Model::load(&gguf, &Arc::new(ThreadPool::new(2).unwrap())).unwrap();
        let (weights, tokens) = (Weights::read(&gguf), tokens(TOKENS, 3));
        let ours = Bench::new(&model, KvType::F16, 1).run_in_chunks(&tokens, 33, &[0]);
        let off = |altered| distance(&ours, &logits(&tiny, &weights, &tokens, altered));
        let (deviation, difference) = off(Altered::Nothing);
        assert!(deviation >= 1.0, "{name}: logits spread over {deviation} only");
        assert!(difference <= TOLERANCE, "{name}: {difference} of the logits' standard deviation");
        for altered in ALTERED {
            let (_, difference) = off(altered);
            assert!(difference > 1e-2, "{name}, {altered:?}: an altered reference differs by {difference} only");
        }
    }
}

/// A sequence that begins in a slot, one that goes on after a copy, and the original after that: each as if alone.
#[test]
fn states_never_mix() {
    for tiny in [variant("mamba"), variant("falcon-mamba").with_weights(TensorType::Q8_0)] {
        let model = load(&tiny, 2);
        let (begun, other) = (tokens(76, 20), tokens(50, 21));
        let alone = |tokens: &[u32]| Bench::new(&model, KvType::F16, 1).run_in_chunks(tokens, 7, &[0]);
        let mut bench = Bench::new(&model, KvType::F16, 3);
        for slot in 0..3 {
            bench.run_in_chunks(&other, 50, &[slot]);
        }
        assert!(bench.run_in_chunks(&begun, 76, &[1]) == alone(&begun), "in a slot that another sequence left");
        bench.cache.copy_block(1, 2, 76);
        let continued = |seed| begun.iter().copied().chain(tokens(20, seed)).collect::<Vec<u32>>();
        let (one, two) = (continued(22), continued(23));
        let after = |tokens: &[u32]| alone(tokens)[76..].to_vec();
        let parts = [(&one, &[2]), (&two, &[1])].map(|(tokens, table)| Part {
            tokens: &tokens[76..],
            start: 76,
            table,
            adapter: None,
        });
        let got = bench.run(&parts);
        assert!(got[..20] == after(&one)[..], "after the copy");
        assert!(got[20..] == after(&two)[..], "the original after the copy");
    }
}

#[test]
fn refusals() {
    let tiny = variant("mamba");
    for (key, value, expected) in [
        ("mamba.ssm.conv_kernel", 0, "from 1 to"),
        ("mamba.ssm.state_size", 1 << 20, "from 1 to"),
        ("mamba.ssm.inner_size", 96, "\"blk.0.ssm_in.weight\" should have shape [64, 192]"),
        ("mamba.ssm.time_step_rank", 31, "\"blk.0.ssm_x.weight\" should have shape [128, 63]"),
    ] {
        let writer =
            rewritten(&tiny, |other, told| Some(if other == key { Value::U32(value) } else { told }), |_, _| {});
        let error = load_written(&writer, 1).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let slots = |tables: &[&[u32]], order: [u32; 3]| {
        let model = load(&tiny, 1);
        let mut cache = model.new_kv_cache(KvType::F16, 2).unwrap();
        let mut next = HashMap::new();
        let columns = order.map(|sequence| {
            let position = next.entry(sequence).or_insert(0);
            *position += 1;
            Column { token: 1, position: *position - 1, sequence }
        });
        let batch = Batch { columns: &columns, tables, ..Batch::default() };
        model.forward(&mut Workspace::new(), &mut cache, &batch, &mut [])
    };
    assert_eq!(slots(&[&[0], &[1]], [0, 0, 1]), Ok(()));
    assert_eq!(slots(&[&[1], &[1]], [0, 0, 1]), Err(ForwardError::State { column: 2, block: 1 }));
    assert_eq!(slots(&[&[0], &[1]], [0, 1, 0]), Err(ForwardError::State { column: 2, block: 0 }));
    assert_eq!(slots(&[&[0], &[]], [0, 0, 1]), Err(ForwardError::Table { column: 2, position: 0, blocks: 0 }));
    assert_eq!(slots(&[&[0], &[2]], [0, 0, 1]), Err(ForwardError::Block { block: 2, blocks: 2 }));
}

/// What is remembered must not grow: a file with the logarithms that `A` is trained as has positive ones.
#[test]
fn a_that_grows_is_refused() {
    for (wrong, reason) in [(0.5f32, "numbers of at most 0"), (f32::NAN, "row 0"), (f32::NEG_INFINITY, "row 0")] {
        let grows = |info: &mut TensorInfo, bytes: &mut Vec<u8>| {
            if info.name == "blk.1.ssm_a" {
                bytes[4..8].copy_from_slice(&wrong.to_le_bytes());
            }
        };
        let writer = rewritten(&variant("mamba"), |_, value| Some(value), grows);
        let error = load_written(&writer, 1).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("\"blk.1.ssm_a\"") && error.contains(reason), "{error}");
    }
}

#[test]
fn a_cache_of_states() {
    let model = load(&variant("mamba"), 1);
    let config = model.config();
    // Three layers of 128 channels: three inputs of the convolution and sixteen values of the scan, in F32.
    for kv_type in KvType::ALL {
        assert_eq!(model.kv_block_bytes(kv_type), 3 * 128 * (3 + 16) * 4);
    }
    assert_eq!((config.block_tokens(), config.blocks_for(1), config.blocks_for(2048)), (2048, 1, 1));
    let mut of_attention = load(&TinyModel::llama(), 1).new_kv_cache(KvType::F16, 1).unwrap();
    let columns = [Column { token: 1, position: 0, sequence: 0 }];
    let batch = Batch { columns: &columns, tables: &[&[0]], ..Batch::default() };
    let wrong = model.forward(&mut Workspace::new(), &mut of_attention, &batch, &mut []);
    assert_eq!(wrong, Err(ForwardError::Cache));
}
