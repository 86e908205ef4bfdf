//! One network, student or teacher: backbone, class attention, two heads.

use crate::{Config, Error};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use selfpatch_aggregation::{Aggregator, AggregatorConfig, mean_of_positives};
use selfpatch_losses::{HeadConfig, Projected, ProjectionHead};
use selfpatch_matching::{Neighbours, positives};
use selfpatch_nn::Backbone;
use selfpatch_nn::Sequences;
use selfpatch_vit::{Pass, Patches, Vit, VitConfig};

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

/// A network, student or teacher. Names `backbone.…`, `ca_head.…`, `c_head.…`, `p_head.…`, as in the published
/// checkpoints.
#[derive(Clone, Debug)]
pub struct Network<B = Vit> {
    /// The backbone: pixels to tokens.
    pub backbone: B,
    /// The class attention: tokens to class token, positives to patch targets; and the final norm.
    pub aggregator: Aggregator,
    class_head: ProjectionHead,
    patch_head: Option<ProjectionHead>,
}

/// What a network made of all crops of a batch: rows before the prototypes, in crop order.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Rows for the image objective, `[V * B, b]`, views first.
    pub class: Projected,
    /// Rows for the patch objective, `[R, b]`, by crop, image, patch; `None` without a patch head.
    pub patch: Option<Projected>,
}

/// How the targets of the patch objective are made on the grid of one crop size.
#[derive(Clone, Debug)]
pub enum PatchTarget {
    /// Choose the k most similar neighbours, pool them by class attention.
    ClassAttention(Neighbours, usize),
    /// Choose the k most similar neighbours, take their mean.
    Mean(Neighbours, usize),
    /// The patch itself, without neighbours.
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

    /// Features of whole images: their class tokens after the class attention, normalised, `[B, C, H, W] -> [B, D]`.
    pub fn image_features(&self, images: &Tensor) -> Result<Tensor> {
        self.aggregator.image(&self.backbone.forward(images)?)
    }
}

impl<B: Backbone + Clone> Network<B> {
    /// The student's side: all crops. Its patches bypass the aggregation: only the final norm touches
    /// them (QUIRKS 5).
    pub fn student(&self, patches: &Patches, pass: &Pass) -> Result<Rows> {
        let (tokens, sequences) = self.backbone.packed(patches, pass)?;
        let class = self.class_head.project(&self.aggregator.images(&tokens, &sequences)?)?;
        let patch = match &self.patch_head {
            Some(head) => Some(head.project(&self.aggregator.norm(&tokens)?)?),
            None => None,
        };
        Ok(Rows { class, patch })
    }

    /// The teacher's side: all crops, and targets for the patches of **all** of them (QUIRKS 8), each from its own
    /// crop; `targets`: one per crop size.
    pub fn teacher(&self, patches: &Patches, targets: &[PatchTarget]) -> Result<Rows> {
        let (tokens, sequences) = self.backbone.packed(patches, &Pass::default())?;
        let class = self.class_head.project(&self.aggregator.images(&tokens, &sequences)?)?;
        let patch = match &self.patch_head {
            Some(head) => Some(head.project(&self.targets(&tokens, patches, targets)?)?),
            None => None,
        };
        Ok(Rows { class, patch })
    }

    /// What the patch head of the teacher is given: `tokens [T, D]` -> `[T, D]`.
    fn targets(&self, tokens: &Tensor, patches: &Patches, targets: &[PatchTarget]) -> Result<Tensor> {
        let dim = tokens.dim(1)?;
        let mut first = 0;
        let pooled = patches.groups().iter().zip(targets).map(|(group, target)| {
            let n = group.rows * group.cols;
            let tokens = tokens.narrow(0, first, group.count * n)?.reshape((group.count, n, dim))?;
            first += group.count * n;
            match target {
                PatchTarget::ClassAttention(near, k) => {
                    self.aggregator.patches(&tokens, &positives(&tokens, near, *k)?)
                }
                PatchTarget::Mean(near, k) => {
                    self.aggregator.norm(&mean_of_positives(&tokens, &positives(&tokens, near, *k)?)?)
                }
                PatchTarget::Own => self.aggregator.norm(&tokens),
            }
        });
        Sequences::join(&pooled.collect::<Result<Vec<_>>>()?)
    }

    /// This network with its prototypes out of reach of gradients.
    pub fn with_frozen_prototypes(&self) -> Self {
        Self {
            class_head: self.class_head.with_frozen_prototypes(),
            patch_head: self.patch_head.as_ref().map(ProjectionHead::with_frozen_prototypes),
            ..self.clone()
        }
    }
}
