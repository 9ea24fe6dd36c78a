//! The model on the test bench: KV blocks, columns, and the runs that are timed.

use std::hint::black_box;
use std::time::Instant;

use model::{Batch, BlockId, Column, KvCache, KvType, Model, Workspace};
use serde::Serialize;

use crate::error::{Error, Result, chain};

/// What one row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub(super) enum Work {
    /// One prompt in chunks as the engine would cut it.
    Prefill {
        /// Its tokens.
        prompt: usize,
    },
    /// Steps of one token for each of some sequences.
    Decode {
        /// Sequences computed together.
        sequences: usize,
        /// Tokens that each of them has before the first step.
        depth: usize,
    },
}

impl Work {
    /// The row's name.
    pub(super) fn name(self) -> String {
        let after = |depth| if depth == 0 { String::new() } else { format!(" after {depth}") };
        match self {
            Self::Prefill { prompt } => format!("prefill of {prompt}"),
            Self::Decode { sequences: 1, depth } => format!("decode{}", after(depth)),
            Self::Decode { sequences, depth } => format!("decode of {sequences} together{}", after(depth)),
        }
    }

    /// Positions that a sequence needs for it.
    pub(super) fn positions(self, decode_tokens: usize) -> usize {
        match self {
            Self::Prefill { prompt } => prompt,
            Self::Decode { depth, .. } => depth + decode_tokens,
        }
    }

    fn sequences(self) -> usize {
        match self {
            Self::Prefill { .. } => 1,
            Self::Decode { sequences, .. } => sequences,
        }
    }

    /// Tokens of one run.
    fn tokens(self, decode_tokens: usize) -> usize {
        match self {
            Self::Prefill { prompt } => prompt,
            Self::Decode { sequences, .. } => sequences * decode_tokens,
        }
    }
}

/// The speeds of some runs of a work, in tokens a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Speeds {
    /// The median.
    #[serde(rename = "tokens_per_second")]
    pub(super) median: f64,
    pub(super) slowest: f64,
    pub(super) fastest: f64,
}

/// The model and what it works on.
pub(super) struct Rig<'a> {
    model: &'a Model,
    workspace: Workspace,
    cache: KvCache,
    tables: Vec<Vec<BlockId>>,
    logits: Vec<f32>,
    decode_tokens: usize,
    chunk: usize,
}

impl<'a> Rig<'a> {
    /// A rig with room for each of these works.
    ///
    /// # Errors
    /// No memory for the KV cache.
    pub(super) fn new(
        (model, kv_type): (&'a Model, KvType),
        works: &[Work],
        decode_tokens: usize,
        chunk: usize,
    ) -> Result<Self> {
        let blocks = |work: &Work| work.sequences() * model.config().blocks_for(work.positions(decode_tokens));
        let cache = model
            .new_kv_cache(kv_type, works.iter().map(blocks).max().unwrap_or(1))
            .map_err(|e| Error::failure("cannot make the KV cache").because(chain(&e)).hint("measure fewer tokens"))?;
        let most = works.iter().map(|work| work.sequences()).max().unwrap_or(1);
        let logits = vec![0.0; most * model.config().vocab_size];
        let workspace = Workspace::new();
        Ok(Self { model, workspace, cache, tables: Vec::new(), logits, decode_tokens, chunk: chunk.max(1) })
    }

    /// Prepares a work, runs it once to warm up, then as often as asked.
    ///
    /// # Errors
    /// The forward pass failed.
    pub(super) fn measure(&mut self, work: Work, repetitions: usize) -> Result<Speeds> {
        self.prepare(work)?;
        speeds(repetitions, work.tokens(self.decode_tokens), || match work {
            Work::Prefill { prompt } => self.prefill(prompt),
            Work::Decode { sequences, depth } => self.decode(sequences, depth),
        })
    }

    /// Lays the block tables out, sequence after sequence, and fills what stands before the first step. What the other
    /// sequences hold does not matter for the time, only that it is memory of their own: they get copies.
    fn prepare(&mut self, work: Work) -> Result<()> {
        let config = self.model.config();
        let each = config.blocks_for(work.positions(self.decode_tokens));
        let id = |n: usize| BlockId::try_from(n).map_err(|e| Error::failure("too many blocks").because(e));
        self.tables = (0..work.sequences())
            .map(|sequence| (sequence * each..(sequence + 1) * each).map(id).collect())
            .collect::<Result<_>>()?;
        if let Work::Decode { sequences, depth } = work
            && depth > 0
        {
            self.prefill(depth)?;
            for (sequence, block) in (1..sequences).flat_map(|s| (0..config.blocks_for(depth)).map(move |b| (s, b))) {
                self.cache.copy_block(self.tables[0][block], self.tables[sequence][block], config.block_tokens());
            }
        }
        Ok(())
    }

    /// A prompt of the first sequence; logits of its last token.
    fn prefill(&mut self, tokens: usize) -> Result<()> {
        let columns: Vec<Column> = (0..tokens).map(|p| self.column(p, 0)).collect::<Result<_>>()?;
        let chunks = columns.len().div_ceil(self.chunk);
        for (i, chunk) in columns.chunks(self.chunk).enumerate() {
            let last = [u32::try_from(chunk.len() - 1).unwrap_or_default()];
            self.forward(chunk, 1, if i + 1 == chunks { &last } else { &[] })?;
        }
        Ok(())
    }

    /// `decode_tokens` steps of one token for each of some sequences.
    fn decode(&mut self, sequences: usize, depth: usize) -> Result<()> {
        let all: Vec<u32> = (0..u32::try_from(sequences).unwrap_or_default()).collect();
        for position in depth..depth + self.decode_tokens {
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
        let batch = Batch { columns, tables: &tables, logits_of, adapters: &[] };
        let logits = &mut self.logits[..logits_of.len() * self.model.config().vocab_size];
        self.model
            .forward(&mut self.workspace, &mut self.cache, &batch, logits)
            .map_err(|e| Error::failure("the forward pass failed").because(chain(&e)))?;
        black_box(logits);
        Ok(())
    }
}

/// Runs `work` once to warm up, then as often as asked.
fn speeds(repetitions: usize, tokens: usize, mut work: impl FnMut() -> Result<()>) -> Result<Speeds> {
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
    let last = speeds.len().saturating_sub(1);
    Ok(Speeds { median: f64::midpoint(at(last / 2), at(speeds.len() / 2)), slowest: at(0), fastest: at(last) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_counts() {
        let mut calls = 0;
        let speeds = speeds(3, 10, || {
            calls += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(calls, 4);
        assert!(speeds.slowest <= speeds.median && speeds.median <= speeds.fastest);
    }
}
