//! Rotary positions as `config.json` declares them. Formulas: transformers' `modeling_rope_utils.py`; what becomes of them in
//! GGUF: llama.cpp's converter.

use std::f64::consts::PI;

use super::config::Description;
use super::family::Family;
use super::fields::{Fields, narrow};
use crate::FormatError;

/// Since transformers 5: all that is said of rotary positions.
const PARAMETERS: &str = "rope_parameters";
/// Before: how positions are stretched; the base stands beside it.
const SCALING: &str = "rope_scaling";
/// The base of the rotary angles.
const BASE: &str = "rope_theta";
const FACTOR: &str = "factor";
const ORIGINAL_CONTEXT: &str = "original_max_position_embeddings";
/// What the first Llamas, whose files do not say it, have.
const LLAMA_BASE: f64 = 10_000.0;
/// The base of local layers that Gemma 3 has in GGUF.
const GEMMA3_LOCAL_BASE: f64 = 10_000.0;

/// Sets the keys and makes the tensors of rotary positions.
pub(super) fn describe(config: &Fields<'_>, model: &mut Description, head_dim: u32) -> Result<(), FormatError> {
    let scaling = scaling(config, model.family)?;
    let place = scaling.as_ref().filter(|scaling| scaling.names(BASE)).unwrap_or(config);
    let base = match place.optional_float(BASE)? {
        Some(base) if base >= 1.0 => base,
        None if model.family == Family::Llama => LLAMA_BASE,
        _ => return Err(place.wrong(BASE, "a number of at least 1")),
    };
    model.set("rope.freq_base", narrow(base));
    let dims = dims(config, scaling.as_ref(), model, head_dim)?;
    let Some(scaling) = scaling else { return Ok(()) };
    match kind(&scaling)? {
        "default" => {}
        "linear" => {
            model.set("rope.scaling.type", "linear");
            model.set("rope.scaling.factor", narrow(factor(&scaling)?));
        }
        "llama3" => model.made.push(("rope_freqs.weight", llama3(&scaling, base, dims)?)),
        "yarn" => yarn(config, &scaling, model)?,
        // Microsoft's first files call it `su`.
        "longrope" | "su" if model.family == Family::Phi3 => longrope(config, &scaling, model, dims)?,
        _ => {
            let known = "one of \"default\", \"linear\", \"llama3\", \"yarn\" and, for Phi-3, \"longrope\"";
            return Err(scaling.wrong(kind_field(&scaling), known));
        }
    }
    Ok(())
}

/// The object that tells of scaling; for Gemma 3 that of its global layers.
fn scaling<'a>(config: &Fields<'a>, family: Family) -> Result<Option<Fields<'a>>, FormatError> {
    let scaling = match (config.object(PARAMETERS)?, config.object(SCALING)?) {
        (Some(_), Some(_)) => {
            return Err(config.wrong(SCALING, format!("missing where there is \"{PARAMETERS}\"")));
        }
        (parameters, scaling) => parameters.or(scaling),
    };
    if family != Family::Gemma3 {
        return Ok(scaling);
    }
    let is_local_base = |value: &serde_json::Value| value.as_f64() == Some(GEMMA3_LOCAL_BASE);
    let expected = format!("{GEMMA3_LOCAL_BASE}, the base of local layers");
    config.only("rope_local_base_freq", &expected, is_local_base)?;
    let Some(whole) = scaling else { return Ok(None) };
    if let Some(local) = whole.object("sliding_attention")? {
        local.only(BASE, &expected, is_local_base)?;
        if kind(&local)? != "default" {
            return Err(local.wrong(kind_field(&local), "\"default\" for local layers"));
        }
    }
    Ok(Some(whole.object("full_attention")?.unwrap_or(whole)))
}

/// The field that tells how positions are stretched; older files call it `type`.
fn kind_field(scaling: &Fields<'_>) -> &'static str {
    if scaling.names("rope_type") || !scaling.names("type") { "rope_type" } else { "type" }
}

fn kind<'a>(scaling: &Fields<'a>) -> Result<&'a str, FormatError> {
    let field = kind_field(scaling);
    match scaling.text(field)? {
        Some(kind) => Ok(kind),
        // Only a base stands there.
        None if !scaling.names(FACTOR) => Ok("default"),
        None => Err(scaling.wrong(field, "a string")),
    }
}

/// How much longer the context became.
fn factor(scaling: &Fields<'_>) -> Result<f64, FormatError> {
    let factor = scaling.float(FACTOR)?;
    if factor >= 1.0 { Ok(factor) } else { Err(scaling.wrong(FACTOR, "at least 1")) }
}

/// Values of a head that are turned: all but for Phi-3.
fn dims(
    config: &Fields<'_>,
    scaling: Option<&Fields<'_>>,
    model: &mut Description,
    head_dim: u32,
) -> Result<u32, FormatError> {
    const PART: &str = "partial_rotary_factor";
    for fields in scaling.into_iter().chain([config]) {
        let Some(part) = fields.optional_float(PART)?.filter(|&part| part != 1.0) else { continue };
        if model.family != Family::Phi3 {
            return Err(fields.wrong(PART, "1"));
        }
        let turned = f64::from(head_dim) * part;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared with the number below")]
        let dims = turned as u32;
        if !(1..=head_dim).contains(&dims) || !dims.is_multiple_of(2) {
            return Err(
                fields.wrong(PART, format!("such that it leaves an even part of the {head_dim} values of a head"))
            );
        }
        model.set("rope.dimension_count", dims);
        return Ok(dims);
    }
    Ok(head_dim)
}

/// Divisors of the angles' frequencies, `[dims / 2]`: high frequencies stay, low ones are divided by the factor, those
/// between by something between.
fn llama3(scaling: &Fields<'_>, base: f64, dims: u32) -> Result<Vec<f32>, FormatError> {
    const LOW: &str = "low_freq_factor";
    const HIGH: &str = "high_freq_factor";
    let factor = factor(scaling)?;
    let (low, high) = (scaling.float(LOW)?, scaling.float(HIGH)?);
    if low <= 0.0 {
        return Err(scaling.wrong(LOW, "above 0"));
    }
    if high <= low {
        return Err(scaling.wrong(HIGH, format!("above {LOW}, {low}")));
    }
    let context = f64::from(scaling.size(ORIGINAL_CONTEXT)?);
    let divisor = |pair: u32| {
        let wave_len = 2.0 * PI * base.powf(f64::from(2 * pair) / f64::from(dims));
        // 1 and more: high frequencies; 0 and less: low ones.
        let smooth = ((context / wave_len - low) / (high - low)).clamp(0.0, 1.0);
        narrow(1.0 / ((1.0 - smooth) / factor + smooth))
    };
    Ok((0..dims / 2).map(divisor).collect())
}

fn yarn(config: &Fields<'_>, scaling: &Fields<'_>, model: &mut Description) -> Result<(), FormatError> {
    let factor = factor(scaling)?;
    let original = match scaling.optional_size(ORIGINAL_CONTEXT)? {
        Some(original) => original,
        None => config.size("max_position_embeddings")?,
    };
    scaling.only("truncate", "true", |value| value.as_bool() == Some(true))?;
    for field in ["mscale", "mscale_all_dim"] {
        scaling.only(field, "missing", |_| false)?;
    }
    model.set("rope.scaling.type", "yarn");
    model.set("rope.scaling.factor", narrow(factor));
    model.set("rope.scaling.original_context_length", original);
    for (field, key) in [("beta_fast", "rope.scaling.yarn_beta_fast"), ("beta_slow", "rope.scaling.yarn_beta_slow")] {
        if let Some(beta) = scaling.optional_float(field)? {
            model.set(key, narrow(beta));
        }
    }
    if let Some(whole) = attention_factor(scaling)? {
        // GGUF's is beside the usual one, which is not left out.
        model.set("rope.scaling.attn_factor", narrow(whole / (0.1 * factor.ln() + 1.0)));
    }
    Ok(())
}

/// What queries and keys are multiplied with, if the file says it.
fn attention_factor(scaling: &Fields<'_>) -> Result<Option<f64>, FormatError> {
    const FIELD: &str = "attention_factor";
    match scaling.optional_float(FIELD)? {
        Some(given) if given <= 0.0 => Err(scaling.wrong(FIELD, "above 0")),
        given => Ok(given),
    }
}

fn longrope(config: &Fields<'_>, scaling: &Fields<'_>, model: &mut Description, dims: u32) -> Result<(), FormatError> {
    for (field, tensor) in [("long_factor", "rope_factors_long.weight"), ("short_factor", "rope_factors_short.weight")]
    {
        let factors = scaling.factors(field)?;
        if factors.len() as u64 != u64::from(dims / 2) {
            return Err(scaling.wrong(field, format!("a list of {}, half of the values that are turned", dims / 2)));
        }
        model.made.push((tensor, factors));
    }
    let original = match scaling.optional_size(ORIGINAL_CONTEXT)? {
        Some(original) => original,
        None => config.size(ORIGINAL_CONTEXT)?,
    };
    let stretch = f64::from(config.size("max_position_embeddings")?) / f64::from(original);
    let attention_factor = match attention_factor(scaling)? {
        Some(given) => given,
        None if stretch > 1.0 => (1.0 + stretch.ln() / f64::from(original).ln()).sqrt(),
        None => 1.0,
    };
    model.set("rope.scaling.type", "longrope");
    model.set("rope.scaling.original_context_length", original);
    model.set("rope.scaling.attn_factor", narrow(attention_factor));
    Ok(())
}
