//! How fast the pairs of a head turn with position, and how a file declares that this is stretched to longer contexts:
//! linear, YaRN (<https://arxiv.org/abs/2309.00071>), or factors of the frequencies in tensors (Llama 3, LongRoPE).

use kernels::{RopeFrequencies, RopeOrder};

use crate::LoadError;
use crate::config::{Keys, ModelConfig};
use crate::weights::Loader;

/// How rotary angles are stretched to contexts longer than the original.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RopeScaling {
    /// Positions are divided by this before they are turned into angles.
    pub factor: f64,
    /// Factor of the queries and keys that are turned.
    pub magnitude: f64,
    /// Positions that the model was first trained for.
    pub original_context: usize,
    /// Fast pairs turn as if there were no factor.
    pub yarn: Option<Yarn>,
    /// The frequencies' factors stand in tensors, for short and for long contexts.
    pub longrope: bool,
}

/// Which pairs keep their speed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Yarn {
    /// Pairs that turn at least this often in the original context keep their speed.
    pub beta_fast: f64,
    /// Those that turn at most this often are divided by the whole factor; what lies between is mixed.
    pub beta_slow: f64,
    /// Share of all this; 1 where the file says nothing.
    pub ext_factor: f64,
}

impl RopeScaling {
    /// Angles as they are.
    pub(crate) fn none(context_len: usize) -> Self {
        Self { factor: 1.0, magnitude: 1.0, original_context: context_len, yarn: None, longrope: false }
    }

    /// Reads the keys `rope.scaling.*`, or the older `rope.scale_linear`.
    pub(crate) fn read(keys: &Keys<'_>, context_len: usize) -> Result<Self, LoadError> {
        let kind_key = "rope.scaling.type";
        let kind = keys.text(kind_key)?.unwrap_or("linear");
        if !["none", "linear", "yarn", "longrope"].contains(&kind) {
            let kind = kind.chars().take(40).flat_map(char::escape_debug).collect::<String>();
            return Err(keys.invalid(
                kind_key,
                "\"none\", \"linear\", \"yarn\" or \"longrope\"",
                format!("\"{kind}\""),
            ));
        }
        let factor = match kind {
            "none" => 1.0,
            _ => Self::factor(keys)?,
        };
        let yarn = if kind == "yarn" { Some(Yarn::read(keys)?) } else { None };
        let mut magnitude = f64::from(keys.above_zero("rope.scaling.attn_factor", 1.0)?);
        if yarn.is_some_and(|yarn| yarn.ext_factor > 0.0) {
            // The paper's fit of how much sharper attention has to become.
            magnitude *= 1.0 + 0.1 * factor.ln();
        }
        let original_context = keys.context_or("rope.scaling.original_context_length", context_len)?;
        Ok(Self { factor, magnitude, original_context, yarn, longrope: kind == "longrope" })
    }

    fn factor(keys: &Keys<'_>) -> Result<f64, LoadError> {
        let (key, older) = ("rope.scaling.factor", "rope.scale_linear");
        let (key, factor) = match (keys.float(key)?, keys.float(older)?) {
            (Some(factor), _) => (key, factor),
            (None, factor) => (older, factor.unwrap_or(1.0)),
        };
        if factor >= 1.0 { Ok(f64::from(factor)) } else { Err(keys.invalid(key, "at least 1", factor)) }
    }
}

impl Yarn {
    fn read(keys: &Keys<'_>) -> Result<Self, LoadError> {
        // Other models' variants of the magnitude: to pass over them would give wrong answers.
        for (key, meant) in [("rope.scaling.yarn_attn_factor", 1.0), ("rope.scaling.yarn_log_multiplier", 0.0)] {
            if let Some(value) = keys.float(key)?.filter(|&value| value != meant) {
                return Err(keys.invalid(key, meant.to_string(), value));
            }
        }
        let (fast_key, ext_key) = ("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_ext_factor");
        let beta_slow = keys.above_zero("rope.scaling.yarn_beta_slow", 1.0)?;
        let beta_fast = keys.above_zero(fast_key, 32.0)?;
        if beta_fast <= beta_slow {
            return Err(keys.invalid(fast_key, format!("above yarn_beta_slow, {beta_slow}"), beta_fast));
        }
        let ext_factor = keys.float(ext_key)?.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&ext_factor) {
            return Err(keys.invalid(ext_key, "from 0 to 1", ext_factor));
        }
        let (beta_fast, beta_slow) = (f64::from(beta_fast), f64::from(beta_slow));
        Ok(Self { beta_fast, beta_slow, ext_factor: f64::from(ext_factor) })
    }

    /// Share of its own speed that each pair keeps.
    fn shares(self, config: &ModelConfig) -> impl Fn(f64) -> f64 {
        let dims = size(config.rope_dims);
        let original_context = size(config.rope_scaling.original_context);
        // The pair that turns `turns` times in the original context.
        let pair_of = |turns: f64| {
            dims * (original_context / (turns * std::f64::consts::TAU)).ln() / (2.0 * config.rope_base.ln())
        };
        let first = pair_of(self.beta_fast).floor().max(0.0);
        let last = pair_of(self.beta_slow).ceil().min(dims - 1.0);
        // The least width keeps the share a number.
        let width = (last - first).max(0.001);
        move |pair| (1.0 - ((pair - first) / width).clamp(0.0, 1.0)) * self.ext_factor
    }
}

/// The frequencies of a model's pairs, as its keys and tensors declare them.
pub(crate) fn frequencies(
    config: &ModelConfig,
    loader: &mut Loader<'_>,
    order: RopeOrder,
) -> Result<RopeFrequencies, LoadError> {
    let speeds = speeds(config, loader.rope_divisors()?.as_deref());
    Ok(RopeFrequencies::of_pairs(order, speeds, config.rope_scaling.magnitude))
}

/// Angle per position of each pair; `divisors` of them, `[rope_dims / 2]`, if the file has some.
fn speeds(config: &ModelConfig, divisors: Option<&[f32]>) -> Vec<f64> {
    let scaling = &config.rope_scaling;
    let shares = scaling.yarn.map(|yarn| yarn.shares(config));
    let of_pair = |i: usize| {
        let pair = size(i);
        let own = config.rope_base.powf(-2.0 * pair / size(config.rope_dims));
        let own = own / divisors.map_or(1.0, |divisors| f64::from(divisors[i]));
        let share = shares.as_ref().map_or(0.0, |share| share(pair));
        own * (1.0 - share) / scaling.factor + own * share
    };
    (0..config.rope_dims / 2).map(of_pair).collect()
}

fn size(n: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let size = n as f64;
    size
}

#[cfg(test)]
mod tests {
    use formats::gguf::{Gguf, Value};
    use test_support::{RopeStretch, TinyModel};

    use super::*;

    fn config(tiny: &TinyModel, keys: &[(&str, f32)]) -> ModelConfig {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        let mut writer = tiny.writer().unwrap();
        for &(key, value) in keys {
            writer.key(&format!("llama.rope.scaling.{key}"), Value::F32(value));
        }
        writer.write(&path).unwrap();
        ModelConfig::from_gguf(&Gguf::open(&path).unwrap()).unwrap()
    }

    fn assert_close(got: &[f64], expected: impl Iterator<Item = f64>) {
        let expected: Vec<f64> = expected.collect();
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            assert!((got / expected - 1.0).abs() < 1e-12, "{got} {expected}");
        }
    }

    /// Sixteen values that turn, base 10000.
    fn own(pair: usize) -> f64 {
        10_000f64.powf(-(pair as f64) / 8.0)
    }

    #[test]
    fn linear() {
        let tiny = TinyModel { rope_stretch: RopeStretch::Linear(4.0), ..TinyModel::llama() };
        let config = config(&tiny, &[]);
        assert_close(&speeds(&config, None), (0..8).map(|pair| own(pair) / 4.0));
        assert_eq!((config.rope_scaling.factor, config.rope_scaling.magnitude), (4.0, 1.0));
    }

    #[test]
    fn divisors() {
        let config = config(&TinyModel::llama(), &[]);
        let divisors: Vec<f32> = (1..=8u8).map(f32::from).collect();
        assert_close(&speeds(&config, Some(&divisors)), (0..8).map(|pair| own(pair) / (pair + 1) as f64));
    }

    /// Of 512 positions, pairs turn 512 / 2 pi times and less: the first is faster than 32 turns, the fifth slower than one.
    #[test]
    fn yarn() {
        let tiny = TinyModel { rope_stretch: RopeStretch::Yarn(4.0), ..TinyModel::llama() };
        let kept = [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0];
        let whole = config(&tiny, &[]);
        assert_close(&speeds(&whole, None), (0..8).map(|pair| own(pair) * (kept[pair] + (1.0 - kept[pair]) / 4.0)));
        assert!((whole.rope_scaling.magnitude - 1.138_629_436_111_989).abs() < 1e-12);
        let half = config(&tiny, &[("yarn_ext_factor", 0.5), ("attn_factor", 2.0)]);
        let kept = kept.map(|kept| kept / 2.0);
        assert_close(&speeds(&half, None), (0..8).map(|pair| own(pair) * (kept[pair] + (1.0 - kept[pair]) / 4.0)));
        assert!((half.rope_scaling.magnitude - 2.277_258_872_223_978).abs() < 1e-12);
        let none = config(&tiny, &[("yarn_ext_factor", 0.0)]);
        assert_close(&speeds(&none, None), (0..8).map(|pair| own(pair) / 4.0));
        assert_eq!(none.rope_scaling.magnitude, 1.0);
    }
}
