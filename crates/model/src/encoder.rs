//! A backbone, and what makes features of its tokens.

use crate::export::{class_attention, named};
use candle_core::{DType, Device, Result, Tensor};
use selfpatch_aggregation::{Aggregator, AggregatorConfig};
use selfpatch_nn::Params;
use selfpatch_vit::{Pretrained, Vit, VitConfig};
use selfpatch_weights::{WeightsError, read};
use std::collections::BTreeMap;
use std::path::Path;

/// Blocks whose class tokens a linear probe sees (DINO's `--n_last_blocks`).
const LAST_BLOCKS: usize = 4;

/// A backbone, with the class attention that it was trained with where that is known.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Images to tokens.
    pub backbone: Vit,
    /// Tokens to a class token, of a network of SelfPatch.
    pub attention: Option<Aggregator>,
}

impl Encoder {
    /// One with the initial values of `seed`: those that a run of this seed begins with.
    ///
    /// # Errors
    /// When the shapes are impossible.
    pub fn new(vit: &VitConfig, attention: Option<&AggregatorConfig>, seed: u64, device: &Device) -> Result<Self> {
        let params = Params::frozen(seed);
        let vb = || params.builder(DType::F32, device);
        Ok(Self {
            backbone: Vit::new(vit, vb().pp("backbone"))?,
            attention: attention.map(|config| Aggregator::new(config, vb().pp("ca_head"))).transpose()?,
        })
    }

    /// An encoder of the same shapes with the initial values of `seed`.
    ///
    /// # Errors
    /// None that [`Encoder::new`] had not.
    pub fn untrained(&self, seed: u64, device: &Device) -> Result<Self> {
        Self::new(self.backbone.config(), self.attention.as_ref().map(Aggregator::config), seed, device)
    }

    /// The class attention that lies in the same weight file as the backbone `of` (`ca_head.…`, as in checkpoints);
    /// `None` where there is none. `key` picks one network of a training checkpoint.
    ///
    /// # Errors
    /// When the file cannot be read or the class attention does not fit the backbone.
    pub fn attention_beside(
        path: &Path,
        key: Option<&str>,
        of: &VitConfig,
        device: &Device,
    ) -> std::result::Result<Option<Aggregator>, WeightsError> {
        let found = Pretrained::read(path, key, of.num_heads, device)?;
        attention(&found.beside, path, of, device)
    }

    /// The class attention that a run has exported; `None` of runs of older versions.
    ///
    /// # Errors
    /// When the file cannot be read or the class attention does not fit the backbone.
    pub fn attention_of_run(
        run: &Path,
        of: &VitConfig,
        device: &Device,
    ) -> std::result::Result<Option<Aggregator>, WeightsError> {
        let path = class_attention(run);
        if !path.is_file() {
            return Ok(None);
        }
        let file = read(&path, device)?;
        attention(&file.tensors, &path, of, device)
    }

    /// What stands for an image, in words.
    pub fn feature(&self) -> &'static str {
        match &self.attention {
            Some(_) => "class token after class attention",
            None => self.backbone.pooled_words(),
        }
    }

    /// One feature per image, `[B, C, H, W] -> [B, D]`: the class token after the class attention, normalised, where there
    /// is one (token 0 of the published head's output), else [`Vit::pooled`].
    ///
    /// # Errors
    /// When the images do not fit the backbone.
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        let tokens = self.backbone.forward(images)?;
        match &self.attention {
            Some(attention) => attention.image(&tokens),
            None => self.backbone.pooled(&tokens),
        }
    }

    /// What a linear probe sees of an image, in words.
    pub fn probe_feature(&self) -> String {
        match (&self.attention, self.backbone.config().class_token) {
            (Some(_), _) => self.feature().into(),
            (None, true) => format!("class tokens of the last {} blocks", self.last_blocks()),
            (None, false) => format!("means of the patch tokens of the last {} blocks", self.last_blocks()),
        }
    }

    /// Width of what a linear probe sees.
    pub fn probe_width(&self) -> usize {
        let dim = self.backbone.config().embed_dim;
        if self.attention.is_some() { dim } else { self.last_blocks() * dim }
    }

    /// What a linear probe sees of each image, `[B, C, H, W] -> [B, W]`: with class attention the same as
    /// [`Encoder::features`]; else of the last four blocks, through the final norm, the class tokens side by side
    /// (`eval_linear.py` of DINO), or the means of the patches where there is no class token.
    ///
    /// # Errors
    /// When the images do not fit the backbone.
    pub fn probe_features(&self, images: &Tensor) -> Result<Tensor> {
        if self.attention.is_some() {
            return self.features(images);
        }
        let config = self.backbone.config();
        let (first, class) = (config.leading(), config.class_token);
        let one = |tokens: Tensor| match class {
            true => tokens.narrow(1, 0, 1)?.squeeze(1),
            false => tokens.narrow(1, first, tokens.dim(1)? - first)?.mean(1),
        };
        let layers = self.backbone.intermediate_layers(images, self.last_blocks())?;
        Tensor::cat(&layers.into_iter().map(one).collect::<Result<Vec<_>>>()?, 1)
    }

    fn last_blocks(&self) -> usize {
        LAST_BLOCKS.min(self.backbone.config().depth)
    }
}

/// Class attention of these tensors, if there is one among them.
fn attention(
    tensors: &BTreeMap<String, Tensor>,
    path: &Path,
    of: &VitConfig,
    device: &Device,
) -> std::result::Result<Option<Aggregator>, WeightsError> {
    let weights = named(tensors, "ca_head.");
    if weights.is_empty() {
        return Ok(None);
    }
    let block = |name: &String| name.strip_prefix("cls_blocks.")?.split('.').next()?.parse::<usize>().ok();
    let depth = weights.keys().filter_map(block).max().map_or(0, |last| last + 1);
    let config = AggregatorConfig { depth, ..AggregatorConfig::new(of.embed_dim, of.num_heads) };
    let params = Params::frozen(0);
    let made = Aggregator::new(&config, params.builder(DType::F32, device));
    let made = made.map_err(|e| WeightsError::Model { path: path.into(), source: Box::new(e) })?;
    params.load(&weights, path)?;
    Ok(Some(made))
}
