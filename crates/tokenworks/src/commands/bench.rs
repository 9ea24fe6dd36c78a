//! `bench`: how fast this machine runs a model, measured at the model itself (no sampling, no HTTP).
//!
//! Each figure is the median of the repetitions, beside the share of the limit that bounds it. Decode of one sequence
//! reads all weights (of an embedding beside a separate output head only some rows, which is not taken into account)
//! and its keys and values in each step: its limit is the memory bandwidth measured here. Prefill and batches use what
//! they read many times: their limit is the integer peak of the instruction set, measured here; the operations are
//! those of the weights' products, without attention.

mod rig;

use kernels::{Isa, probe};
use model::{KvType, Model, ModelConfig};
use rig::{Rig, Speeds, Work};
use serde::Serialize;

use super::Context;
use super::pull::consent;
use crate::assembly;
use crate::calibration::processor;
use crate::cli;
use crate::error::{Error, Result};
use crate::output::{bytes, table};

/// As `bench --json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    architecture: &'static str,
    weight_bytes: u64,
    kv_type: &'static str,
    kv_bytes_per_token: u64,
    machine: Machine,
    threads: usize,
    repetitions: u32,
    decode_tokens: u32,
    rows: Vec<Row>,
}

/// What it was measured on.
#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    system: String,
    memory_bytes: Option<u64>,
    /// Read by all threads together, best of the repetitions.
    memory_bytes_per_second: f64,
    instruction_set: &'static str,
    /// Of the instruction set's dot products, all threads together, best of the repetitions.
    integer_operations_per_second: f64,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    work: Work,
    #[serde(flatten)]
    speeds: Speeds,
    limit: Limit,
    share_of_limit: f64,
}

/// What bounds a speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Limit {
    MemoryBandwidth,
    IntegerPeak,
}

/// Runs `bench`.
///
/// # Errors
/// No such model, or it does not fit.
pub fn bench(context: &Context, args: &cli::Bench) -> Result<()> {
    let reference = context.model(args.model.as_deref())?;
    let pool = assembly::thread_pool(context)?;
    // Weights alone: what is measured needs no tokenizer.
    let gguf = assembly::open(context, &reference, &|builtin| consent(context, builtin, false))?;
    let model = &*assembly::load_weights(&gguf, &pool)?;
    let decode_tokens = args.decode_tokens as usize;
    let works = works(args, &reference.name, model.config().context_len)?;
    let engine = &context.settings.engine;
    let settings = context.settings.models.get(&reference.name).cloned().unwrap_or_default();
    let kv_type = settings.kv_type(engine);
    let mut rig = Rig::new((model, kv_type), &works, decode_tokens, engine.prefill_chunk(model.config()))?;
    let repetitions = args.repetitions as usize;
    context.output.note("measuring; other work on this machine falsifies the figures");
    let machine = Machine {
        processor: processor(),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        memory_bytes: crate::memory::total(),
        memory_bytes_per_second: probe::memory_bandwidth(&pool, repetitions.min(5)),
        instruction_set: Isa::best().name(),
        integer_operations_per_second: probe::integer_peak(Isa::best(), &pool, repetitions.min(5)),
    };
    let mut rows = Vec::new();
    for work in works {
        let speeds = rig.measure(work, repetitions)?;
        let (limit, share_of_limit) = share(work, speeds.median, decode_tokens, (model, kv_type, &machine));
        rows.push(Row { work, speeds, limit, share_of_limit });
    }
    let report = Report {
        model: reference.name,
        architecture: model.config().architecture,
        weight_bytes: model.weight_bytes() as u64,
        kv_type: kv_type.name(),
        kv_bytes_per_token: (model.kv_block_bytes(kv_type) / model.config().block_tokens()) as u64,
        machine,
        threads: pool.threads(),
        repetitions: args.repetitions,
        decode_tokens: args.decode_tokens,
        rows,
    };
    if args.json { context.output.json(&report) } else { context.output.text(shown(&report)) }
}

/// What is measured: what the arguments name, or the usual, as far as the context allows.
fn works(args: &cli::Bench, model: &str, context_len: usize) -> Result<Vec<Work>> {
    let decode_tokens = args.decode_tokens as usize;
    let all = |prompt: &[u32], depth: &[u32], sequences: &[u32]| {
        let mut works: Vec<Work> = prompt.iter().map(|n| Work::Prefill { prompt: *n as usize }).collect();
        works.extend(depth.iter().map(|n| Work::Decode { sequences: 1, depth: *n as usize }));
        let depth = args.sequences_depth.unwrap_or(0) as usize;
        let together = |n: &u32| Work::Decode { sequences: *n as usize, depth };
        for work in sequences.iter().map(together) {
            if !works.contains(&work) {
                works.push(work);
            }
        }
        works
    };
    let fits = |work: &Work| work.positions(decode_tokens) <= context_len;
    let mut works = all(&args.prompt, &args.depth, &args.sequences);
    if works.is_empty() {
        works = all(&[512], &[0, 4096], &[1, 8, 16]);
        // Of the usual, what does not fit is left out; a depth that was asked for is not.
        let asked = |work: &Work| match *work {
            Work::Decode { sequences, depth } => (sequences > 1 && args.sequences_depth.is_some()) || depth == 0,
            Work::Prefill { .. } => false,
        };
        works.retain(|work| fits(work) || asked(work));
    }
    match works.iter().find(|work| !fits(work)) {
        None => Ok(works),
        Some(work) => {
            let room = context_len.saturating_sub(decode_tokens);
            let hint = match *work {
                Work::Prefill { .. } => format!("set --prompt to at most {context_len}"),
                Work::Decode { depth: 0, .. } => format!("set --decode-tokens to at most {context_len}"),
                Work::Decode { depth, .. } => {
                    let asked = args.depth.iter().any(|asked| *asked as usize == depth);
                    let option = if asked { "--depth" } else { "--sequences-depth" };
                    format!("set {option} to at most {room} with --decode-tokens {decode_tokens}")
                }
            };
            let what = format!("{} does not fit: {model} has a context of {context_len} tokens", work.name());
            Err(Error::usage(what).hint(hint))
        }
    }
}

/// The limit of a work, and how much of it a speed uses.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn share(
    work: Work,
    speed: f64,
    decode_tokens: usize,
    (model, kv_type, machine): (&Model, KvType, &Machine),
) -> (Limit, f64) {
    let config = model.config();
    let (layers, head) = weights(config);
    let peak = machine.integer_operations_per_second.max(1.0);
    match work {
        Work::Prefill { prompt } => {
            let each_token = 2.0 * (layers as f64 + head as f64 / prompt.max(1) as f64);
            (Limit::IntegerPeak, speed * each_token / peak)
        }
        Work::Decode { sequences: 1, depth } => {
            // Which layers see only a window is the model's own affair: all of them count as if they did.
            let seen = (depth + decode_tokens / 2).min(config.sliding_window.unwrap_or(usize::MAX));
            let block = model.kv_block_bytes(kv_type);
            // A state is read whole, and written.
            let kv = if config.state_space.is_some() { 2 * block } else { block / config.block_tokens() * seen };
            let read = model.weight_bytes() + kv;
            (Limit::MemoryBandwidth, speed * read as f64 / machine.memory_bytes_per_second.max(1.0))
        }
        Work::Decode { .. } => (Limit::IntegerPeak, speed * 2.0 * (layers + head) as f64 / peak),
    }
}

/// Weights that a token is multiplied with: of all layers, and of the output head.
fn weights(config: &ModelConfig) -> (usize, usize) {
    (config.layers * config.layer_weights_per_token(), config.vocab_size * config.hidden)
}

fn shown(report: &Report) -> String {
    let machine = &report.machine;
    let mut rows = vec![["", "TOKENS/S", "SLOWEST", "FASTEST", "SHARE", "OF"].map(str::to_owned).to_vec()];
    for Row { work, speeds, limit, share_of_limit } in &report.rows {
        let [median, slowest, fastest] =
            [speeds.median, speeds.slowest, speeds.fastest].map(|speed| format!("{speed:.1}"));
        let limit = match limit {
            Limit::MemoryBandwidth => "memory bandwidth",
            Limit::IntegerPeak => "integer peak",
        };
        let share = format!("{:.0} %", 100.0 * share_of_limit);
        rows.push(vec![work.name(), median, slowest, fastest, share, limit.to_owned()]);
    }
    format!(
        "{} ({}, {} of weights, {} keys and values), {} threads, medians of {}\n{}, {}, memory read at {:.1} GB/s, {} at {:.0} Gop/s\n\n{}",
        report.model,
        report.architecture,
        bytes(report.weight_bytes),
        report.kv_type,
        report.threads,
        report.repetitions,
        machine.processor,
        machine.system,
        machine.memory_bytes_per_second / 1e9,
        machine.instruction_set,
        machine.integer_operations_per_second / 1e9,
        table(&rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(prompt: &[u32], depth: &[u32], sequences: &[u32]) -> cli::Bench {
        let lists = [prompt, depth, sequences].map(<[u32]>::to_vec);
        let [prompt, depth, sequences] = lists;
        cli::Bench {
            model: None,
            prompt,
            depth,
            sequences,
            sequences_depth: Some(10),
            decode_tokens: 64,
            repetitions: 1,
            kv_type: None,
            json: false,
        }
    }

    #[test]
    fn only_what_is_named_is_measured() {
        let works =
            |prompt, depth, sequences| works(&args(prompt, depth, sequences), "m", 600).map_err(|e| e.to_string());
        let decode = |sequences, depth| Work::Decode { sequences, depth };
        assert_eq!(works(&[], &[536], &[]).unwrap(), [decode(1, 536)]);
        assert_eq!(works(&[9], &[10], &[1, 4]).unwrap(), [Work::Prefill { prompt: 9 }, decode(1, 10), decode(4, 10)]);
        let usual = [Work::Prefill { prompt: 512 }, decode(1, 0), decode(1, 10), decode(8, 10), decode(16, 10)];
        assert_eq!(works(&[], &[], &[]).unwrap(), usual, "no room for 4096");
        assert!(works(&[], &[537], &[]).unwrap_err().contains("decode after 537 does not fit"));
    }

    #[test]
    fn a_depth_without_room_is_refused_by_its_option() {
        let refused = |sequences: &[u32], depth| {
            let args = cli::Bench { sequences_depth: depth, ..args(&[], &[], sequences) };
            works(&args, "m", 600).map(|works| works.len()).map_err(|e| e.hint.unwrap())
        };
        let hint = "set --sequences-depth to at most 536 with --decode-tokens 64".to_owned();
        assert_eq!(refused(&[8], Some(537)), Err(hint.clone()));
        assert_eq!(
            refused(&[], Some(8192)),
            Err(hint),
            "the usual numbers of sequences with a depth that was asked for"
        );
        assert_eq!(refused(&[], Some(536)), Ok(5));
        assert_eq!(refused(&[], None), Ok(4));
        let long = cli::Bench { decode_tokens: 601, ..args(&[], &[], &[]) };
        assert_eq!(works(&long, "m", 600).unwrap_err().hint.unwrap(), "set --decode-tokens to at most 600");
    }
}
