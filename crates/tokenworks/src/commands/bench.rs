//! `bench`: how fast this machine runs a model, measured at the model itself (no sampling, no HTTP).
//!
//! Prefill is one prompt in chunks as the engine would cut it; decode is one token a step for 1, 8 and 16 sequences.
//! Each figure is the median of the repetitions. Decode reads all weights in each step (of an embedding beside a
//! separate output head only some rows, which is not taken into account), so its share of the memory bandwidth measured
//! here says how far it is from what this machine could do at best.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use model::{BLOCK_TOKENS, Batch, BlockId, Column, KvCache, Model, Workspace};
use serde::Serialize;

use super::Context;
use super::pull::consent;
use crate::assembly;
use crate::cli;
use crate::error::{Error, Result, chain};
use crate::output::{bytes, table};

/// Sequences of the decode measurements.
const SEQUENCES: [usize; 3] = [1, 8, 16];
/// Large enough to be in no cache.
const BANDWIDTH_BYTES: usize = 256 << 20;

/// As `bench --json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    architecture: &'static str,
    weight_bytes: u64,
    machine: Machine,
    threads: usize,
    repetitions: u32,
    prefill: Measured,
    decode: Vec<Decode>,
}

/// What it was measured on.
#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    system: String,
    memory_bytes: Option<u64>,
    /// Read by all threads together, best of the repetitions.
    memory_bytes_per_second: f64,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Measured {
    tokens: usize,
    tokens_per_second: f64,
    slowest: f64,
    fastest: f64,
}

/// Decode of some sequences together.
#[derive(Debug, Serialize)]
struct Decode {
    sequences: usize,
    #[serde(flatten)]
    measured: Measured,
    /// Bytes of weights read in a second, over what the memory gave.
    share_of_memory_bandwidth: f64,
}

/// Runs `bench`.
///
/// # Errors
/// No such model, or it does not fit.
pub fn bench(context: &Context, args: &cli::Bench) -> Result<()> {
    let reference = context.model(args.model.as_deref())?;
    let pool = assembly::thread_pool(context)?;
    let loaded = assembly::load(context, &reference, &pool, &|builtin| consent(context, builtin, false))?;
    let model = &loaded.model;
    let decode_tokens = args.decode_tokens as usize;
    let prompt_tokens = args.prompt_tokens as usize;
    let context_len = model.config().context_len;
    if prompt_tokens.max(decode_tokens) > context_len {
        return Err(Error::usage(format!("{} has a context of {context_len} tokens", loaded.name))
            .hint("lower --prompt-tokens or --decode-tokens"));
    }
    let mut bench = Bench::new(model, prompt_tokens, decode_tokens, context.settings.engine.prefill_chunk)?;
    let repetitions = args.repetitions as usize;
    context.output.note("measuring; other work on this machine falsifies the figures");
    let bandwidth = memory_bandwidth(pool.threads(), repetitions.min(5));
    let prefill = measure(repetitions, prompt_tokens, || bench.prefill())?;
    let mut decode = Vec::new();
    for sequences in SEQUENCES {
        let measured = measure(repetitions, sequences * decode_tokens, || bench.decode(sequences))?;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let read = measured.tokens_per_second / sequences as f64 * model.weight_bytes() as f64;
        decode.push(Decode { sequences, measured, share_of_memory_bandwidth: read / bandwidth });
    }
    let report = Report {
        model: loaded.name,
        architecture: model.config().architecture,
        weight_bytes: model.weight_bytes() as u64,
        machine: Machine {
            processor: processor(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            memory_bytes: crate::memory::total(),
            memory_bytes_per_second: bandwidth,
        },
        threads: pool.threads(),
        repetitions: args.repetitions,
        prefill,
        decode,
    };
    if args.json { context.output.json(&report) } else { context.output.text(shown(&report)) }
}

fn shown(report: &Report) -> String {
    let machine = &report.machine;
    let mut rows = vec![["", "TOKENS/S", "SLOWEST", "FASTEST", "MEMORY"].map(str::to_owned).to_vec()];
    let row = |name: String, m: &Measured, share: String| {
        let [median, slowest, fastest] = [m.tokens_per_second, m.slowest, m.fastest].map(|v| format!("{v:.1}"));
        vec![name, median, slowest, fastest, share]
    };
    rows.push(row(format!("prefill of {}", report.prefill.tokens), &report.prefill, String::new()));
    for decode in &report.decode {
        let name = match decode.sequences {
            1 => "decode".to_owned(),
            n => format!("decode of {n} together"),
        };
        rows.push(row(name, &decode.measured, format!("{:.0} %", 100.0 * decode.share_of_memory_bandwidth)));
    }
    format!(
        "{} ({}, {} of weights), {} threads, medians of {}\n{}, {}, memory read at {:.1} GB/s\n\n{}",
        report.model,
        report.architecture,
        bytes(report.weight_bytes),
        report.threads,
        report.repetitions,
        machine.processor,
        machine.system,
        machine.memory_bytes_per_second / 1e9,
        table(&rows)
    )
}

/// What the measurements work on. Block tables are laid out once: sequence `i` owns `blocks_each` blocks.
struct Bench<'a> {
    model: &'a Model,
    workspace: Workspace,
    cache: KvCache,
    tables: Vec<Vec<BlockId>>,
    logits: Vec<f32>,
    prompt_tokens: usize,
    decode_tokens: usize,
    chunk: usize,
}

impl<'a> Bench<'a> {
    fn new(model: &'a Arc<Model>, prompt_tokens: usize, decode_tokens: usize, chunk: usize) -> Result<Self> {
        let most = SEQUENCES.into_iter().max().unwrap_or(1);
        let (long, short) =
            (prompt_tokens.max(decode_tokens).div_ceil(BLOCK_TOKENS), decode_tokens.div_ceil(BLOCK_TOKENS));
        let mut next: BlockId = 0;
        let mut tables = Vec::new();
        for sequence in 0..most {
            let blocks = if sequence == 0 { long } else { short };
            let end = next + BlockId::try_from(blocks).map_err(|e| Error::failure("too many blocks").because(e))?;
            tables.push((next..end).collect());
            next = end;
        }
        let cache = model
            .new_kv_cache(next as usize)
            .map_err(|e| Error::failure("cannot make the KV cache").because(chain(&e)).hint("measure fewer tokens"))?;
        let logits = vec![0.0; most * model.config().vocab_size];
        Ok(Self { model, workspace: Workspace::new(), cache, tables, logits, prompt_tokens, decode_tokens, chunk })
    }

    /// One prompt in chunks; logits of its last token.
    fn prefill(&mut self) -> Result<()> {
        let columns: Vec<Column> = (0..self.prompt_tokens).map(|p| self.column(p, 0)).collect::<Result<_>>()?;
        let chunks = columns.len().div_ceil(self.chunk);
        for (i, chunk) in columns.chunks(self.chunk).enumerate() {
            let last = [u32::try_from(chunk.len() - 1).unwrap_or_default()];
            self.forward(chunk, 1, if i + 1 == chunks { &last } else { &[] })?;
        }
        Ok(())
    }

    /// `decode_tokens` steps of one token for each of some sequences.
    fn decode(&mut self, sequences: usize) -> Result<()> {
        let all: Vec<u32> = (0..u32::try_from(sequences).unwrap_or_default()).collect();
        for position in 0..self.decode_tokens {
            let columns = (0..sequences).map(|s| self.column(position, s)).collect::<Result<Vec<_>>>()?;
            self.forward(&columns, sequences, &all)?;
        }
        Ok(())
    }

    /// Tokens are scattered over the vocabulary, always the same way.
    fn column(&self, position: usize, sequence: usize) -> Result<Column> {
        let vocab = self.model.config().vocab_size;
        let token = (position * 7919 + sequence * 104_729 + 17) % vocab.max(1);
        let small = |n: usize| u32::try_from(n).map_err(|e| Error::failure("a position is out of range").because(e));
        Ok(Column { token: small(token)?, position: small(position)?, sequence: small(sequence)? })
    }

    fn forward(&mut self, columns: &[Column], sequences: usize, logits_of: &[u32]) -> Result<()> {
        let tables: Vec<&[BlockId]> = self.tables.iter().take(sequences).map(Vec::as_slice).collect();
        let batch = Batch { columns, tables: &tables, logits_of };
        let logits = &mut self.logits[..logits_of.len() * self.model.config().vocab_size];
        self.model
            .forward(&mut self.workspace, &mut self.cache, &batch, logits)
            .map_err(|e| Error::failure("the forward pass failed").because(chain(&e)))?;
        black_box(logits);
        Ok(())
    }
}

/// Runs `work` once to warm up, then as often as asked, and takes the median speed.
fn measure(repetitions: usize, tokens: usize, mut work: impl FnMut() -> Result<()>) -> Result<Measured> {
    work()?;
    let mut speeds = Vec::with_capacity(repetitions);
    for _ in 0..repetitions {
        let start = Instant::now();
        work()?;
        #[expect(clippy::cast_precision_loss, reason = "a count of tokens")]
        speeds.push(tokens as f64 / start.elapsed().as_secs_f64().max(1e-9));
    }
    speeds.sort_by(f64::total_cmp);
    let at = |i: usize| speeds.get(i).copied().unwrap_or(0.0);
    let tokens_per_second = (at((speeds.len() - 1) / 2) + at(speeds.len() / 2)) / 2.0;
    Ok(Measured { tokens, tokens_per_second, slowest: at(0), fastest: at(speeds.len() - 1) })
}

/// Bytes that all threads together read from memory in a second.
fn memory_bandwidth(threads: usize, repetitions: usize) -> f64 {
    let words = vec![1_u64; BANDWIDTH_BYTES / 8];
    let share = words.len().div_ceil(threads.max(1));
    let mut best = 0.0_f64;
    for _ in 0..repetitions.max(1) {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in words.chunks(share) {
                scope.spawn(move || black_box(part.iter().fold(0_u64, |sum, w| sum.wrapping_add(*w))));
            }
        });
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let speed = BANDWIDTH_BYTES as f64 / start.elapsed().as_secs_f64().max(1e-9);
        best = best.max(speed);
    }
    best
}

/// The processor's name, where the system tells.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':')).map(|(_, n)| n.trim());
    name.map_or_else(|| format!("a processor of kind {}", std::env::consts::ARCH), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_counts() {
        let mut calls = 0;
        let measured = measure(3, 10, || {
            calls += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(calls, 4);
        assert!(measured.slowest <= measured.tokens_per_second && measured.tokens_per_second <= measured.fastest);
    }
}
