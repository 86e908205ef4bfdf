//! The aggregation module, which is also the module that makes the class token.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use selfpatch_matching::Positives;
use selfpatch_nn::{ClassBlock, LayerNorm, Sequences, WEIGHT_INIT, ops};

/// Shape of an [`Aggregator`].
#[derive(Clone, Debug, PartialEq)]
pub struct AggregatorConfig {
    /// Width `D` of a token.
    pub dim: usize,
    /// Attention heads; must divide `dim`.
    pub num_heads: usize,
    /// Number of class-attention blocks; 2 in the reference.
    pub depth: usize,
    /// Hidden width of the MLP divided by `dim`.
    pub mlp_ratio: usize,
    /// Epsilon of every layer norm.
    pub norm_eps: f64,
}

impl AggregatorConfig {
    /// A configuration with two blocks, as in the reference.
    pub fn new(dim: usize, num_heads: usize) -> Self {
        Self { dim, num_heads, depth: 2, mlp_ratio: 4, norm_eps: 1e-6 }
    }
}

/// Class-attention blocks with one learned query, and the final norm of the whole network.
///
/// The same blocks and the same query pool a whole image into its class token and the positives of
/// each patch into that patch's target (QUIRKS 5).
#[derive(Clone, Debug)]
pub struct Aggregator {
    config: AggregatorConfig,
    cls_token: Tensor,
    blocks: Vec<ClassBlock>,
    norm: LayerNorm,
}

impl Aggregator {
    /// Parameter names are `cls_token`, `cls_blocks.i…`, `norm`.
    pub fn new(config: &AggregatorConfig, vb: VarBuilder) -> Result<Self> {
        let AggregatorConfig { dim, num_heads, depth, mlp_ratio, norm_eps } = *config;
        if num_heads == 0 || !dim.is_multiple_of(num_heads) {
            bail!("num_heads: {num_heads} heads do not divide a width of {dim}")
        }
        if depth == 0 {
            bail!("aggregation_depth: must be at least 1, since the class token is made by these blocks")
        }
        Ok(Self {
            config: config.clone(),
            cls_token: vb.get_with_hints((1, 1, dim), "cls_token", WEIGHT_INIT)?,
            blocks: (0..depth)
                .map(|i| ClassBlock::new(dim, num_heads, mlp_ratio, norm_eps, vb.pp(format!("cls_blocks.{i}"))))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(dim, norm_eps, vb.pp("norm"))?,
        })
    }

    /// The configuration that this module was made with.
    pub fn config(&self) -> &AggregatorConfig {
        &self.config
    }

    /// Class token of each image: `x [B, N, D]` -> `[B, D]`, normalised.
    pub fn image(&self, x: &Tensor) -> Result<Tensor> {
        let (b, n, _) = x.dims3()?;
        self.images(&x.flatten(0, 1)?, &Sequences::new(&[(b, n)]))
    }

    /// Class token of each of several packed images, which may differ in size: `x [T, D]` -> `[B, D]`,
    /// normalised.
    pub fn images(&self, x: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        self.norm.forward(&ops::class_attention(x, sequences, &self.cls_token, &self.blocks)?)
    }

    /// One vector per patch from its positives: `x [B, N, D]` -> `[B, N, D]`, normalised. The patch itself
    /// contributes only by the choice of its positives.
    pub fn patches(&self, x: &Tensor, positives: &Positives) -> Result<Tensor> {
        let (b, n, d) = x.dims3()?;
        let k = positives.ids.dim(2)?;
        let rows = positives.rows()?.reshape((b * n, k))?;
        let valid = match &positives.valid {
            Some(valid) => Some(valid.unsqueeze(0)?.broadcast_as((b, n, k))?.reshape((b * n, k))?),
            None => None,
        };
        let c = ops::pool_positives(&x.reshape((b * n, d))?, &rows, valid.as_ref(), &self.cls_token, &self.blocks)?;
        self.norm.forward(&c)?.reshape(x.shape())
    }

    /// The final norm alone, which is all that student patches pass through: `[.., D] -> [.., D]`.
    pub fn norm(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(x)
    }

    /// Class-attention probabilities of each block over a whole image, `[B, heads, 1, 1 + N]`; entry 0
    /// is the class token itself.
    pub fn attention(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let (b, n, d) = x.dims3()?;
        let sequences = Sequences::new(&[(b, n)]);
        let x = x.reshape((b * n, d))?;
        let (_, maps) = ops::class_attention_with_probabilities(&x, &sequences, &self.cls_token, &self.blocks)?;
        Ok(maps.into_iter().flatten().collect())
    }
}

/// The plain alternative to [`Aggregator::patches`]: the mean of the positives, `[B, N, D]`, not normalised. It
/// replaces the aggregation module when that is switched off.
pub fn mean_of_positives(x: &Tensor, positives: &Positives) -> Result<Tensor> {
    let (b, n, d) = x.dims3()?;
    let k = positives.ids.dim(2)?;
    let rows = positives.rows()?;
    let near = x.reshape((b * n, d))?.index_select(&rows, 0)?.reshape((b, n, k, d))?;
    match &positives.valid {
        None => near.mean(2),
        Some(valid) => {
            let count = valid.sum_keepdim(1)?;
            near.broadcast_mul(&valid.broadcast_div(&count)?.unsqueeze(2)?.unsqueeze(0)?)?.sum(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use selfpatch_matching::{Border, Neighbours, positives};
    use selfpatch_nn::Params;

    /// The patch path must equal the image path on "images" made of one patch's positives.
    #[test]
    fn patches_are_images_of_their_positives() -> Result<()> {
        for border in [Border::Torus, Border::Clipped] {
            let params = Params::frozen(3);
            let vb = params.builder(DType::F64, &Device::Cpu);
            let head = Aggregator::new(&AggregatorConfig::new(12, 3), vb)?;
            let x = selfpatch_nn::random::normal(1, (2, 12, 12))?.to_dtype(DType::F64)?;
            let near = Neighbours::new(3, 4, 3, border)?;
            let chosen = positives(&x, &near, 4)?;
            let pooled = head.patches(&x, &chosen)?;
            let ids = chosen.ids.to_vec3::<u32>()?;
            for (image, ids) in ids.iter().enumerate() {
                for (patch, ids) in ids.iter().enumerate() {
                    let mut ids = ids.clone();
                    ids.truncate(near.of(patch).len());
                    let n = ids.len();
                    let context = x.get(image)?.index_select(&Tensor::from_vec(ids, n, &Device::Cpu)?, 0)?;
                    let want = head.image(&context.unsqueeze(0)?)?.squeeze(0)?;
                    let got = pooled.get(image)?.get(patch)?;
                    let error = (got - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
                    assert!(error < 1e-12, "{border:?}, patch {patch}: {error}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn mean_skips_missing_neighbours() -> Result<()> {
        let x = Tensor::arange(0f32, 9f32, &Device::Cpu)?.reshape((1, 9, 1))?;
        let near = Neighbours::new(3, 3, 3, Border::Clipped)?;
        let mean = mean_of_positives(&x, &positives(&x, &near, 8)?)?.flatten_all()?.to_vec1::<f32>()?;
        assert!((mean[0] - (1. + 3. + 4.) / 3.).abs() < 1e-6 && (mean[4] - 4.0).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let vb = || Params::frozen(0).builder(DType::F32, &Device::Cpu);
        assert!(Aggregator::new(&AggregatorConfig::new(10, 3), vb()).is_err());
        assert!(Aggregator::new(&AggregatorConfig { depth: 0, ..AggregatorConfig::new(12, 3) }, vb()).is_err());
    }
}
