//! The projection head of DINO.

use candle_core::{Result, Tensor, bail};
use candle_nn::{VarBuilder, init};
use selfpatch_nn::ops::Projected;
use selfpatch_nn::{BatchNorm, BatchNormConfig, Linear, Mode, ops, torch_default};
use serde::{Deserialize, Serialize};

/// Shape of a [`ProjectionHead`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadConfig {
    /// Width of the input.
    pub in_dim: usize,
    /// Width of the hidden layers; 2048 in DINO.
    pub hidden_dim: usize,
    /// Width of the bottleneck; 256 in DINO.
    pub bottleneck_dim: usize,
    /// Number of prototypes `K`.
    pub out_dim: usize,
    /// Linear layers before the prototypes; 3 in DINO.
    pub layers: usize,
    /// Batch norm after each hidden linear layer.
    pub batch_norm: bool,
    /// Whether the gain of the prototypes is frozen at 1 (`norm_last_layer`).
    pub norm_last_layer: bool,
}

impl HeadConfig {
    /// DINO's shape: three layers, 2048 hidden, 256 bottleneck, frozen gain.
    pub fn dino(in_dim: usize, out_dim: usize) -> Self {
        Self {
            in_dim,
            hidden_dim: 2048,
            bottleneck_dim: 256,
            out_dim,
            layers: 3,
            batch_norm: false,
            norm_last_layer: true,
        }
    }
}

/// Linear layers with GELU between them, rows normalised to unit length, then weight-normed
/// prototypes without bias. Names `mlp.…` (a lone layer: `mlp`), `last_layer.weight_g`,
/// `last_layer.weight_v`, as in DINO.
#[derive(Clone, Debug)]
pub struct ProjectionHead {
    layers: Vec<(Linear, Option<BatchNorm>)>,
    weight_g: Tensor,
    weight_v: Tensor,
}

impl ProjectionHead {
    /// Builds the head; see [`HeadConfig`].
    pub fn new(config: &HeadConfig, vb: VarBuilder) -> Result<Self> {
        let &HeadConfig { in_dim, hidden_dim, bottleneck_dim, out_dim, layers, batch_norm, .. } = config;
        for (field, value) in
            [("layers", layers), ("hidden_dim", hidden_dim), ("bottleneck_dim", bottleneck_dim), ("out_dim", out_dim)]
        {
            if value == 0 {
                bail!("{field}: must be at least 1")
            }
        }
        let mlp = vb.pp("mlp");
        let mut built = Vec::with_capacity(layers);
        let mut module = 0; // position in the reference's nn.Sequential
        for i in 0..layers {
            let last = i + 1 == layers;
            let inp = if i == 0 { in_dim } else { hidden_dim };
            let out = if last { bottleneck_dim } else { hidden_dim };
            let name = if layers == 1 { mlp.clone() } else { mlp.pp(module) };
            let linear = Linear::new(inp, out, name)?;
            let norm = (batch_norm && !last)
                .then(|| BatchNorm::new(out, BatchNormConfig::default(), mlp.pp(module + 1)))
                .transpose()?;
            module += 2 + usize::from(batch_norm); // linear, (batch norm,) GELU
            built.push((linear, norm));
        }
        let last = vb.pp("last_layer");
        let weight_g = last.get_with_hints((out_dim, 1), "weight_g", init::ONE)?;
        let weight_v = last.get_with_hints((out_dim, bottleneck_dim), "weight_v", torch_default(bottleneck_dim))?;
        let weight_g = if config.norm_last_layer { weight_g.detach() } else { weight_g };
        Ok(Self { layers: built, weight_g, weight_v })
    }

    /// Logits: `[.., in_dim] -> [.., out_dim]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let rows = match shape.last_mut() {
            Some(last) => x.reshape(((), std::mem::replace(last, self.weight_v.dim(0)?)))?,
            None => bail!("a head needs rows"),
        };
        self.logits(&self.embed(&rows)?)?.reshape(shape)
    }

    /// All but the prototypes: `[R, in_dim] -> [R, bottleneck_dim]`, rows of unit length.
    pub fn embed(&self, x: &Tensor) -> Result<Tensor> {
        if self.layers.iter().all(|(_, norm)| norm.is_none()) {
            let layers: Vec<Linear> = self.layers.iter().map(|(linear, _)| linear.clone()).collect();
            return ops::normalize(&ops::mlp(x, &layers)?);
        }
        let mut x = x.clone();
        for (i, (linear, norm)) in self.layers.iter().enumerate() {
            x = linear.forward(&x)?;
            if i + 1 < self.layers.len() {
                if let Some(norm) = norm {
                    x = norm.forward(&x, Mode::Train)?;
                }
                x = ops::gelu(&x)?;
            }
        }
        ops::normalize(&x)
    }

    /// Number of prototypes.
    pub fn prototypes(&self) -> usize {
        self.weight_v.dims()[0]
    }

    /// [`ProjectionHead::embed`] with the prototypes beside it: logits that a loss makes as it needs them.
    pub fn project(&self, x: &Tensor) -> Result<Projected> {
        Ok(Projected { rows: self.embed(x)?, weight_v: self.weight_v.clone(), weight_g: self.weight_g.clone() })
    }

    /// The prototypes alone, which are linear: `[R, bottleneck_dim] -> [R, out_dim]`.
    pub fn logits(&self, embedded: &Tensor) -> Result<Tensor> {
        ops::prototypes(embedded, &self.weight_v, &self.weight_g)
    }

    /// This head with its prototypes out of reach of gradients.
    pub fn with_frozen_prototypes(&self) -> Self {
        Self { weight_g: self.weight_g.detach(), weight_v: self.weight_v.detach(), ..self.clone() }
    }
}
