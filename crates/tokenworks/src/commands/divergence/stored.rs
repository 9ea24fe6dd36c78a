//! Log-probabilities that another program stored: the files of `llama-perplexity --kl-divergence-base`.
//!
//! Little-endian: `_logits_`, the window's length, the vocabulary's size, the number of windows (32 bits each) and the
//! windows' tokens (32 bits each); then for each scored position of each window (the second half but the last) 16-bit words:
//! two F32, a step and the lowest log-probability, and of each token how many steps it is above the lowest; an odd vocabulary
//! is followed by one word more.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use formats::gguf::Gguf;

use super::{COLUMNS, Scores, Windows};
use crate::assembly::{file_error, read_tokenizer};
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"_logits_";
/// The writer raises log-probabilities that are further below the highest to there.
const MOST_BELOW: f32 = 16.0;

const HINT: &str = "give a file that llama-perplexity --kl-divergence-base wrote for this model";

/// A file's positions, read in order.
pub(super) struct Stored {
    path: PathBuf,
    file: BufReader<File>,
    vocab: usize,
    words: Vec<u8>,
    log_probabilities: Vec<f32>,
    /// Of each position the log-probability to which lower ones were raised; minus infinity where there were none.
    bounds: Vec<f32>,
}

impl Stored {
    /// Opens a file for a model, and the first `most` of its windows.
    ///
    /// # Errors
    /// It cannot be read, is no such file, shorter than it says, or of a model with another vocabulary or a longer context.
    pub(super) fn open(path: &Path, model: &Gguf, most: Option<u32>) -> Result<(Self, Windows)> {
        let shown = path.display();
        let refused = |why: String| Error::usage(format!("{shown} does not fit")).because(why).hint(HINT);
        let unreadable = |e| Error::usage(format!("cannot read {shown}")).because(e).hint("give the path of the file");
        let file = File::open(path).map_err(unreadable)?;
        let len = file.metadata().map_err(unreadable)?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut head = [0; 20];
        if len < head.len() as u64 {
            return Err(refused("it is too short for such a file".to_owned()));
        }
        file.read_exact(&mut head).map_err(unreadable)?;
        let (magic, sizes) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(refused("it does not begin with \"_logits_\"".to_owned()));
        }
        let sizes: Vec<u64> = sizes.as_chunks().0.iter().map(|&size| u32::from_le_bytes(size).into()).collect();
        let (ctx, vocab, count) = (sizes[0], sizes[1], sizes[2]);
        let config = model::ModelConfig::from_gguf(model).map_err(|e| file_error(model.path(), &e))?;
        if vocab != config.vocab_size as u64 {
            return Err(refused(format!("it has {vocab} tokens, the model {}", config.vocab_size)));
        }
        if !(4..=config.context_len as u64).contains(&ctx) {
            return Err(refused(format!("its windows have {ctx} tokens, the model's context {}", config.context_len)));
        }
        let position = 2 * (vocab.next_multiple_of(2) + 4);
        // Products of three numbers below 2^32 need more than 64 bits.
        let expected =
            20 + u128::from(count) * (4 * u128::from(ctx) + u128::from(ctx - 1 - ctx / 2) * u128::from(position));
        if count == 0 || u128::from(len) < expected {
            return Err(refused(format!("it has {len} bytes, but {expected} with what it says of itself")));
        }
        let windows = windows(&mut file, path, (ctx, count), most).map_err(unreadable)?;
        if let Some(token) = windows.windows.iter().flatten().find(|token| u64::from(**token) >= vocab) {
            return Err(refused(format!("it has a token {token}, the model {vocab} tokens from 0")));
        }
        let start = read_tokenizer(model)?.encode("", true, false).first().copied();
        let windows = windows.starting_with(start);
        let (vocab, position) = (config.vocab_size, 2 * (config.vocab_size.next_multiple_of(2) + 4));
        let log_probabilities = vec![0.0; COLUMNS * vocab];
        let (words, bounds) = (vec![0; position], vec![0.0; COLUMNS]);
        Ok((Self { path: path.to_owned(), file, vocab, words, log_probabilities, bounds }, windows))
    }

    /// Reads the next positions, at most [`COLUMNS`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(&mut self, positions: usize) -> Result<()> {
        let values = self.log_probabilities.chunks_exact_mut(self.vocab);
        for (values, bound) in values.zip(&mut self.bounds).take(positions) {
            self.file
                .read_exact(&mut self.words)
                .map_err(|e| Error::failure(format!("cannot read {}", self.path.display())).because(e))?;
            let float = |at: usize| f32::from_le_bytes([0, 1, 2, 3].map(|i| self.words[at + i]));
            let (step, lowest) = (float(0), float(4));
            let raised = step * f32::from(u16::MAX) > 0.999 * MOST_BELOW;
            *bound = if raised { lowest } else { f32::NEG_INFINITY };
            let mut sum = 0.0;
            for (value, &word) in values.iter_mut().zip(&self.words.as_chunks().0[4..]) {
                *value = step.mul_add(f32::from(u16::from_le_bytes(word)), lowest);
                sum += f64::from(*value).exp();
            }
            // Raised ones add a hundredth at most, rounding less. Written so that it refuses what is no number, too.
            if !(0.9..1.1).contains(&sum) {
                return Err(Error::usage(format!("{} does not fit", self.path.display()))
                    .because(format!("the probabilities of a position add up to {sum:.3}"))
                    .hint(HINT));
            }
        }
        Ok(())
    }

    /// Those of the position `index` of the last that were read.
    pub(super) fn log_probabilities(&self, index: usize) -> Scores<'_> {
        let stored = &self.log_probabilities[index * self.vocab..][..self.vocab];
        Scores::LogProbabilities { stored, bound: self.bounds[index] }
    }
}

/// The tokens of the first windows; the file stands behind those of all.
fn windows(file: &mut impl Read, path: &Path, (ctx, count): (u64, u64), most: Option<u32>) -> std::io::Result<Windows> {
    let most = most.map_or(u64::MAX, u64::from);
    let ctx = usize::try_from(ctx).unwrap_or(usize::MAX);
    let mut windows = Vec::new();
    let mut bytes = vec![0; 4 * ctx];
    for index in 0..count {
        file.read_exact(&mut bytes)?;
        if index < most {
            windows.push(bytes.as_chunks().0.iter().map(|&token| u32::from_le_bytes(token)).collect());
        }
    }
    Ok(Windows { file: path.display().to_string(), ctx, windows })
}
