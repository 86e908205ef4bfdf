//! What a run is: one TOML file, every field of it, and the published recipes.

mod data;
mod eval;
mod objective;
mod preset;
mod saved;

pub use data::{Data, VideoRate};
pub use eval::{DavisEval, Eval, KnnEval};
pub use objective::{DinoObjective, ImageObjective};
pub use preset::Preset;
pub use selfpatch_matching::Border;
pub use selfpatch_nn::Precision;
pub use selfpatch_optim::Algorithm;
pub use selfpatch_run::{Checkpointing, HealthWatch, NonFinite};

use selfpatch_datasets::MultiCrop;
use selfpatch_vit::VitConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A whole run. A recipe ([`Preset`]) fills every field; a TOML file and flags overwrite some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the run; its folder is `runs/<name>` unless `output_dir` says otherwise.
    pub name: String,
    /// Folder of the run; empty in a recipe: `runs/<name>`.
    pub output_dir: PathBuf,
    /// Seed of everything random.
    pub seed: u64,
    /// Weights that a new run begins with (`--init-from`): a backbone, a training checkpoint, or a run; empty for
    /// none.
    #[serde(default)]
    pub init_from: String,
    /// The data.
    pub data: Data,
    /// The backbone.
    pub model: Model,
    /// The projection heads.
    pub head: Head,
    /// The image objective.
    pub objective: ImageObjective,
    /// The patch objective (SelfPatch).
    pub patch_loss: PatchObjective,
    /// The optimiser and its schedules.
    pub optim: Optim,
    /// Saving.
    pub checkpoint: Checkpointing,
    /// The views; DINO's multi-crop.
    pub crops: MultiCrop,
    /// Alarms, and what happens when a number is non-finite.
    #[serde(default)]
    pub health: HealthWatch,
    /// How the teacher is measured on the way.
    #[serde(default)]
    pub eval: Eval,
}

/// The names that `model.arch` may have.
pub const ARCHITECTURES: [&str; 4] = ["vit_tiny", "vit_small", "vit_base", "custom"];

/// The backbone: a named architecture, or `custom` with its own numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// `vit_tiny`, `vit_small`, `vit_base`, or `custom`.
    pub arch: String,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Side of the images that the position table is made for; must be a multiple of the patch.
    pub image_size: usize,
    /// Stochastic depth of the student's last block.
    pub drop_path_rate: f64,
    /// Width of the tokens; a named architecture has its own.
    pub embed_dim: usize,
    /// Number of blocks; a named architecture has its own.
    pub depth: usize,
    /// Number of attention heads; a named architecture has its own.
    pub num_heads: usize,
    /// Hidden width of the blocks' feed-forward part over `embed_dim`; 4 for a named architecture.
    #[serde(default = "four")]
    pub mlp_ratio: usize,
}

fn four() -> usize {
    4
}

impl Model {
    /// The model with the width, depth, heads and feed-forward part that its architecture has, whatever stood there;
    /// unchanged for `custom` and for unknown names.
    pub fn settled(mut self) -> Self {
        if let Ok(vit) = VitConfig::arch(&self.arch, self.patch_size) {
            (self.embed_dim, self.depth, self.num_heads) = (vit.embed_dim, vit.depth, vit.num_heads);
            self.mlp_ratio = vit.mlp_ratio;
        }
        self
    }
}

/// Both projection heads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Class prototypes (`--out-dim`).
    pub out_dim: usize,
    /// Patch prototypes (`--out-dim-selfpatch`).
    pub out_dim_selfpatch: usize,
    /// Width of the hidden layers.
    pub hidden_dim: usize,
    /// Width of the bottleneck.
    pub bottleneck_dim: usize,
    /// Linear layers before the prototypes.
    pub layers: usize,
    /// Batch norm in the heads.
    pub use_bn_in_head: bool,
    /// Freeze the gain of the prototypes at 1.
    pub norm_last_layer: bool,
}

/// How the positives of a patch are aggregated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Class attention over the positives: SelfPatch.
    ClassAttention,
    /// Mean of the positives: no aggregation module.
    Mean,
    /// No neighbours at all: the target is the teacher's own patch.
    None,
}

/// SelfPatch's loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchObjective {
    /// Weight of the patch loss; 0 trains the image objective alone.
    pub lambda: f64,
    /// Positives per patch (`--k-num`).
    pub k_num: usize,
    /// Side of the neighbourhood in patches, odd.
    pub window: usize,
    /// The border of the grid.
    pub border: Border,
    /// Choose the most similar neighbours; if false, all of the window are positives.
    pub matching: bool,
    /// How the positives are aggregated.
    pub aggregation: Aggregation,
    /// Class-attention blocks, which also make the class token.
    pub aggregation_depth: usize,
    /// Temperature of the patch teacher; absent: that of the image teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_temp: Option<f64>,
}

/// The optimiser and the values that change over the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optim {
    /// `adamw`, `sgd` or `lars`.
    pub optimizer: Algorithm,
    /// Images per step.
    pub batch_size: usize,
    /// Passes over the data.
    pub epochs: usize,
    /// Learning rate for 256 images per step; scaled with `batch_size / 256`.
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Epochs of linear warm-up; may be a fraction.
    pub warmup_epochs: f64,
    /// Weight decay at the start.
    pub weight_decay: f64,
    /// Weight decay at the end.
    pub weight_decay_end: f64,
    /// Largest norm of one gradient tensor; 0 for no clipping.
    pub clip_grad: f64,
    /// Epochs during which the prototypes stay as they are.
    pub freeze_last_layer: usize,
    /// Momentum of the teacher at the start; it ends at 1.
    pub momentum_teacher: f64,
    /// Parts in which the images of a step are taken, to save memory (`--accumulate`); the result is
    /// that of all at once, up to rounding.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Compute activations a second time for the backward pass instead of keeping them: less memory,
    /// about a tenth more time; the result is the same.
    #[serde(default)]
    pub recompute: bool,
    /// `f32`, `bf16` or `fp16`: what layers and heads compute in (`--precision`). Weights, losses, norms and the
    /// optimiser stay in f32.
    #[serde(default)]
    pub precision: Precision,
    /// Stop after this many steps, the schedules unchanged; absent: all epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
}

fn one() -> usize {
    1
}
