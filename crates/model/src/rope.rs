//! How fast the pairs of a head turn with position, and how a file declares that this is stretched to longer contexts:
//! linear, YaRN (<https://arxiv.org/abs/2309.00071>), or factors of the frequencies in tensors (Llama 3, LongRoPE).

use kernels::{RopeFrequencies, RopeOrder};

use crate::LoadError;
use crate::config::{Keys, ModelConfig};

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
    /// Reads the keys `rope.scaling.*`, or the older `rope.scale_linear`.
    pub(crate) fn read(keys: &Keys<'_>, context_len: usize) -> Result<Self, LoadError> {
        let kind_key = "rope.scaling.type";
        let kind = keys.text(kind_key)?.unwrap_or("linear");
        if !["none", "linear", "yarn", "longrope"].contains(&kind) {
            let kind = kind.chars().take(40).flat_map(char::escape_debug).collect::<String>();
            return Err(keys.invalid(kind_key, "\"none\", \"linear\", \"yarn\" or \"longrope\"", format!("\"{kind}\"")));
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

/// The frequencies of a model's pairs; `divisors` of them, `[rope_dims / 2]`, if the file has some.
pub(crate) fn frequencies(config: &ModelConfig, order: RopeOrder, divisors: Option<&[f32]>) -> RopeFrequencies {
    let scaling = &config.rope_scaling;
    let shares = scaling.yarn.map(|yarn| yarn.shares(config));
    let of_pair = |i: usize| {
        let pair = size(i);
        let own = config.rope_base.powf(-2.0 * pair / size(config.rope_dims));
        let own = own / divisors.map_or(1.0, |divisors| f64::from(divisors[i]));
        let share = shares.as_ref().map_or(0.0, |share| share(pair));
        own * (1.0 - share) / scaling.factor + own * share
    };
    RopeFrequencies::of_pairs(order, (0..config.rope_dims / 2).map(of_pair).collect(), scaling.magnitude)
}

fn size(n: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let size = n as f64;
    size
}
