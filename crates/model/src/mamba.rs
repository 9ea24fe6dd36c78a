//! Mamba (<https://arxiv.org/abs/2312.00752>) and FalconMamba: layers without attention. Each sequence has a state of fixed
//! size instead of keys and values of all its positions; it is F32, whatever the type of KV.

use formats::gguf::Gguf;
use kernels::{Matrix, SsmWeights};

use crate::LoadError;
use crate::architecture::{Architecture, Forward, boxed};
use crate::config::{ModelConfig, StateSpace};
use crate::step::Step;
use crate::weights::{Loader, OuterWeights};

pub(crate) const MAMBA: Architecture =
    Architecture { name: "mamba", config, load: |config, loader| Mamba::load(config, loader).map(boxed) };

/// Projections, convolution and scan of a layer.
pub(crate) struct StateSpaceWeights {
    pub(crate) sizes: StateSpace,
    /// What goes through convolution and scan.
    pub(crate) value: Matrix,
    /// What lets the scan's output through.
    pub(crate) gate: Matrix,
    /// Narrow time steps, `B` and `C`, of the convolution's output.
    pub(crate) selection: [Matrix; 3],
    /// Time steps of all channels out of the narrow ones.
    pub(crate) dt: Matrix,
    pub(crate) ssm: SsmWeights,
    pub(crate) output: Matrix,
}

impl StateSpaceWeights {
    /// Those that read the layer's normed input.
    fn inputs(&self) -> [&Matrix; 2] {
        [&self.value, &self.gate]
    }
}

struct Layer {
    norm: Vec<f32>,
    space: StateSpaceWeights,
}

/// A Mamba model.
struct Mamba {
    outer: OuterWeights,
    layers: Vec<Layer>,
}

fn config(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
    ModelConfig::read_state_space(gguf, MAMBA.name)
}

impl Mamba {
    fn load(config: &ModelConfig, loader: &mut Loader<'_>) -> Result<Self, LoadError> {
        let sizes = config.state_space()?;
        let layer = |index| {
            let norm = loader.norm(index, "attn_norm", config.hidden)?;
            Ok(Layer { norm, space: loader.state_space(index, sizes)? })
        };
        let layers = (0..config.layers).map(layer).collect::<Result<Vec<_>, LoadError>>()?;
        Ok(Self { outer: loader.outer()?, layers })
    }
}

impl Forward for Mamba {
    fn frequencies(&self) -> &[kernels::RopeFrequencies] {
        &[]
    }

    fn forward(&self, step: &mut Step<'_>, logits: &mut [f32]) {
        step.embed(&self.outer.embedding, None);
        for (index, Layer { norm, space }) in self.layers.iter().enumerate() {
            match index {
                0 => step.norm(norm, &space.inputs()),
                _ => step.add_then_norm(norm, &space.inputs()),
            }
            step.state_space(index, space);
        }
        step.add();
        step.head(&self.outer, logits);
    }
}
