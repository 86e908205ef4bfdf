//! One network, student or teacher: backbone, class attention, two heads.

use crate::{Config, Error};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use selfpatch_aggregation::{Aggregator, AggregatorConfig, mean_of_positives};
use selfpatch_losses::{HeadConfig, ProjectionHead};
use selfpatch_matching::{Neighbours, positives};
use selfpatch_vit::{DropPath, Vit, VitConfig};

/// Shapes of a network.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The backbone: tokens only.
    pub vit: VitConfig,
    /// The class-attention module.
    pub aggregator: AggregatorConfig,
    /// The class head.
    pub class_head: HeadConfig,
    /// The patch head; `None` trains the image objective alone.
    pub patch_head: Option<HeadConfig>,
}

impl NetworkConfig {
    /// The shapes a run asks for.
    pub fn of(config: &Config) -> std::result::Result<Self, Error> {
        Ok(Self {
            vit: config.vit()?,
            aggregator: config.aggregator()?,
            class_head: config.class_head()?,
            patch_head: config.patch_head()?,
        })
    }
}

/// Names `backbone.…`, `ca_head.…`, `c_head.…`, `p_head.…`, as in the published checkpoints.
#[derive(Clone, Debug)]
pub struct Network {
    /// Pixels to tokens.
    pub backbone: Vit,
    /// Tokens to class token; positives to patch targets; the final norm.
    pub aggregator: Aggregator,
    class_head: ProjectionHead,
    patch_head: Option<ProjectionHead>,
}

/// Logits of one network for all crops of a batch.
#[derive(Clone, Debug)]
pub struct Logits {
    /// `[V, B, K]`, views in crop order.
    pub class: Tensor,
    /// `[R, P]`, rows by crop, image, patch; `None` without a patch head.
    pub patch: Option<Tensor>,
}

/// How the targets of the patch objective are made on the grid of one crop size.
#[derive(Clone, Debug)]
pub enum Target {
    /// Choose the k most similar neighbours, pool them by class attention.
    ClassAttention(Neighbours, usize),
    /// Choose them, take their mean.
    Mean(Neighbours, usize),
    /// The patch itself.
    Own,
}

impl Network {
    /// Builds all parts that the shapes ask for.
    pub fn new(config: &NetworkConfig, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            backbone: Vit::new(&config.vit, vb.pp("backbone"))?,
            aggregator: Aggregator::new(&config.aggregator, vb.pp("ca_head"))?,
            class_head: ProjectionHead::new(&config.class_head, vb.pp("c_head"))?,
            patch_head: config
                .patch_head
                .as_ref()
                .map(|head| ProjectionHead::new(head, vb.pp("p_head")))
                .transpose()?,
        })
    }

    /// The student's side. `crops`: one `[V_g * B, 3, S, S]` per crop size. Its patches bypass the
    /// aggregation: only the final norm touches them (QUIRKS 5).
    pub fn student(&self, crops: &[Tensor], images: usize, mut drop: Option<DropPath>) -> Result<Logits> {
        self.logits(crops, images, |_, x| {
            let tokens = match &mut drop {
                Some(d) => self.backbone.forward_train(x, DropPath { rate: d.rate, rng: &mut *d.rng })?,
                None => self.backbone.forward(x)?,
            };
            let patches = self.aggregator.norm(&tokens)?;
            Ok((tokens, patches))
        })
    }

    /// The teacher's side: targets for the patches of **all** crops (QUIRKS 8), each from its own
    /// crop; `targets`: one per crop size.
    pub fn teacher(&self, crops: &[Tensor], images: usize, targets: &[Target]) -> Result<Logits> {
        self.logits(crops, images, |i, x| {
            let tokens = self.backbone.forward(x)?;
            let patches = match &targets[i] {
                Target::ClassAttention(near, k) => self.aggregator.patches(&tokens, &positives(&tokens, near, *k)?)?,
                Target::Mean(near, k) => {
                    self.aggregator.norm(&mean_of_positives(&tokens, &positives(&tokens, near, *k)?)?)?
                }
                Target::Own => self.aggregator.norm(&tokens)?,
            };
            Ok((tokens, patches))
        })
    }

    fn logits(
        &self,
        crops: &[Tensor],
        images: usize,
        mut branch: impl FnMut(usize, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<Logits> {
        let (mut class, mut patch) = (Vec::new(), Vec::new());
        for (i, x) in crops.iter().enumerate() {
            let (tokens, patches) = branch(i, x)?;
            class.push(self.aggregator.image(&tokens)?);
            patch.push(patches.flatten(0, 1)?);
        }
        let class = self.class_head.forward(&Tensor::cat(&class, 0)?)?;
        let (rows, k) = class.dims2()?;
        Ok(Logits {
            class: class.reshape((rows / images, images, k))?,
            patch: self.patch_head.as_ref().map(|head| head.forward(&Tensor::cat(&patch, 0)?)).transpose()?,
        })
    }
}
