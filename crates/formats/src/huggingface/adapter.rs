//! Folders as PEFT writes them: `adapter_config.json` beside `adapter_model.safetensors`. Tensors are given out under GGUF's
//! names. What `adapter_config.json` may ask for is read or refused by name: a setting that is passed over would give other
//! answers than PEFT does.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use super::fields::{Fields, narrow};
use super::{names, read_json};
use crate::FormatError;
use crate::adapter::{Adapter, pair};
use crate::data_file::{Run, TensorData};
use crate::error::shown;
use crate::gguf::{Gguf, Origin, TensorInfo};
use crate::safetensors::Safetensors;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// Real ones have a few KiB.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Before the names of the base's modules.
const PREFIX: &str = "base_model.model.";
/// Ends of the names of a pair's halves, and GGUF's.
const HALVES: [(&str, &str); 2] = [(".lora_A.weight", ".lora_a"), (".lora_B.weight", ".lora_b")];

/// Fields that make an adapter more, or other, than low-rank products added to projections.
const REFUSED: [(&str, &str); 13] = [
    ("use_dora", "false (DoRA is not supported)"),
    ("lora_bias", "false (biases of adapters are not supported)"),
    ("modules_to_save", "null (whole modules beside the low-rank pairs are not supported)"),
    ("trainable_token_indices", "null (trained embeddings are not supported)"),
    ("layer_replication", "null (replicated layers are not supported)"),
    ("target_parameters", "null (parameters outside of modules are not supported)"),
    ("alora_invocation_tokens", "null (activated LoRA is not supported)"),
    ("fan_in_fan_out", "false (the models here have no such matrices)"),
    ("megatron_config", "null (Megatron's modules are not supported)"),
    ("use_qalora", "false (QALoRA is not supported)"),
    ("arrow_config", "null (Arrow is not supported)"),
    ("use_bdlora", "null (BD-LoRA is not supported)"),
    ("velora_config", "null (VeLoRA is not supported)"),
];
/// Ways to initialize that leave the base as it is; others change it, and the pairs belong to the changed one.
const INITIALIZED: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Opens a folder.
pub(crate) fn open(folder: &Path) -> Result<Adapter, FormatError> {
    for (name, hint) in [(CONFIG, ""), (WEIGHTS, "; PEFT writes it with safe_serialization=True")] {
        if !folder.join(name).exists() {
            let reason = format!("has no {name}: an adapter's folder has {CONFIG} and {WEIGHTS}{hint}");
            return Err(FormatError::Folder { path: folder.to_owned(), reason });
        }
    }
    let json = read_json(folder, CONFIG, CONFIG_BYTES_MAX)?;
    let scales = Scales::read(&Fields::new(CONFIG, &json))?;
    let mut tensors = Gguf::new(folder, Origin::HuggingFace, BTreeMap::new());
    let mut modules = BTreeMap::new();
    let Safetensors { file, header } = Safetensors::open(&folder.join(WEIGHTS))?;
    let file = tensors.add_file(file);
    for tensor in header.tensors {
        let run = Run { file, offset: header.data_start + tensor.offset, len: tensor.byte_len };
        let (module, matrix, half) = place(&tensor.name)?;
        modules.insert(matrix.clone(), module.to_owned());
        let name = format!("{matrix}{half}");
        tensors.add_tensor(TensorInfo { name, ..tensor }, TensorData::Stored(vec![run]))?;
    }
    let module = |matrix: &str| modules.get(matrix).map_or("", String::as_str);
    let changes = pair(tensors.tensors(), |matrix, rank| scales.scale(module(matrix), rank))?;
    Ok(Adapter { tensors, architecture: None, changes })
}

/// The module of a tensor, GGUF's name of its matrix and of the half.
fn place(name: &str) -> Result<(&str, String, &'static str), FormatError> {
    let refused = |reason: &str| FormatError::Tensor { tensor: shown(name), reason: reason.to_owned() };
    let own = name.strip_prefix(PREFIX).ok_or_else(|| refused("the names of PEFT begin with base_model.model."))?;
    let half = HALVES.iter().find_map(|(end, half)| Some((own.strip_suffix(end)?, *half)));
    let Some((module, half)) = half else {
        return Err(refused(match own {
            _ if own.contains("lora_magnitude_vector") => "it belongs to DoRA, which is not supported",
            _ if own.contains("lora_embedding") => "adapters of embeddings are not supported",
            _ if own.ends_with("bias") => "biases of adapters are not supported",
            _ => "it is no half of a low-rank pair (lora_A.weight, lora_B.weight): whole modules are not supported",
        }));
    };
    let matrix = names::projection(module).ok_or_else(|| {
        refused("an adapter can change q_proj, k_proj, v_proj and o_proj, gate_proj, up_proj and down_proj of layers")
    })?;
    Ok((module, matrix, half))
}

/// Factors of the products.
struct Scales<'a> {
    rank: f32,
    alpha: f32,
    /// Of modules whose names end so.
    ranks: Vec<(&'a str, f32)>,
    alphas: Vec<(&'a str, f32)>,
    /// Rank-stabilized (<https://arxiv.org/abs/2312.03732>): alpha over the root of the rank.
    stabilized: bool,
}

impl<'a> Scales<'a> {
    fn read(config: &Fields<'a>) -> Result<Self, FormatError> {
        if config.text("peft_type")? != Some("LORA") {
            return Err(config.wrong("peft_type", "\"LORA\""));
        }
        for (field, expected) in REFUSED {
            config.only(field, expected, is_off)?;
        }
        config
            .only("bias", "\"none\" (biases of adapters are not supported)", |value| value.as_str() == Some("none"))?;
        let expected = format!("true, false or one of {} (others change the base)", INITIALIZED.join(", "));
        config.only("init_lora_weights", &expected, |value| {
            value.is_boolean() || value.as_str().is_some_and(|value| INITIALIZED.contains(&value))
        })?;
        let pattern = |field: &str| {
            let numbers = config.numbers(field)?.into_iter().map(|(module, number)| (module, narrow(number)));
            let numbers: Vec<_> = numbers.collect();
            let is_name = |module: &str| module.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
            if numbers.iter().all(|(module, number)| is_name(module) && *number > 0.0) {
                return Ok(numbers);
            }
            Err(config.wrong(field, "an object of names of modules (no other patterns) and numbers above 0"))
        };
        let rank = narrow(f64::from(config.size("r")?));
        Ok(Self {
            rank,
            alpha: narrow(config.float("lora_alpha")?),
            ranks: pattern("rank_pattern")?,
            alphas: pattern("alpha_pattern")?,
            stabilized: config.flag("use_rslora", false)?,
        })
    }

    /// The factor of a module's product, whose pair has this rank.
    fn scale(&self, module: &str, rank: f32) -> Result<f32, FormatError> {
        let told = choose(&self.ranks, module)?.unwrap_or(self.rank);
        if told != rank {
            let reason = format!("its rank is {rank}, but {CONFIG} says {told}");
            return Err(FormatError::Tensor { tensor: shown(module), reason });
        }
        let alpha = choose(&self.alphas, module)?.unwrap_or(self.alpha);
        Ok(alpha / if self.stabilized { rank.sqrt() } else { rank })
    }
}

/// The number of the pattern that names a module.
fn choose(patterns: &[(&str, f32)], module: &str) -> Result<Option<f32>, FormatError> {
    let named = |name: &str| module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let mut found = patterns.iter().filter(|(name, _)| named(name)).map(|(_, number)| *number);
    let first = found.next();
    if first.is_some_and(|first| found.any(|other| other != first)) {
        let reason = format!("several patterns of {CONFIG} name it");
        return Err(FormatError::Tensor { tensor: shown(module), reason });
    }
    Ok(first)
}

/// Whether a value asks for nothing.
fn is_off(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Array(list) => list.is_empty(),
        Json::Object(map) => map.is_empty(),
        _ => false,
    }
}
