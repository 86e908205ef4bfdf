//! What a run is: one TOML file, every field of it, and the published recipes.

use crate::Error;
use crate::pixels::{MEAN, STD};
use selfpatch_datasets::{Decoding, MultiCrop};
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
    /// The image objective (DINO).
    pub image_loss: ImageLoss,
    /// The patch objective (SelfPatch).
    pub patch_loss: PatchObjective,
    /// The optimiser and its schedules.
    pub optim: Optim,
    /// Saving.
    pub checkpoint: Checkpointing,
    /// The views; DINO's multi-crop.
    pub crops: MultiCrop,
    /// Alarms, and what happens when a number is not finite.
    #[serde(default)]
    pub health: HealthWatch,
    /// How the teacher is measured on the way.
    #[serde(default)]
    pub eval: Eval,
}

/// What watches over a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthWatch {
    /// Say in plain words when the numbers look like collapse, divergence or standstill.
    pub alarms: bool,
    /// What follows a loss or gradient that is not finite, which never reaches the weights.
    pub not_finite: NotFinite,
    /// Steps in a row that may be skipped for it before the run stops all the same.
    pub most_skipped: usize,
}

impl Default for HealthWatch {
    fn default() -> Self {
        Self { alarms: true, not_finite: NotFinite::Stop, most_skipped: 10 }
    }
}

/// What follows a number that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotFinite {
    /// Save and stop.
    Stop,
    /// Leave the step out and go on.
    Skip,
}

/// How the teacher is measured during training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// By label propagation through videos.
    #[serde(default)]
    pub davis: DavisEval,
    /// By classifying labelled images after their nearest neighbours.
    #[serde(default)]
    pub knn: KnnEval,
}

/// Classification by nearest neighbours during training; the fields mean what the flags of `eval-knn` mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KnnEval {
    /// Epochs between measurements; 0 for none.
    pub every: usize,
    /// The images that vote, with classes: a folder per class, or any other source that has them.
    pub train: String,
    /// The images that are classified, likewise; empty: every fifth of `train`, which then does not vote.
    pub val: String,
    /// Images that vote on each.
    pub k: usize,
    /// Divisor of the cosine in the exponent of a vote.
    pub temperature: f64,
    /// Most images of each source, evenly spread over it.
    pub most: usize,
}

impl Default for KnnEval {
    fn default() -> Self {
        Self { every: 0, train: String::new(), val: String::new(), k: 20, temperature: 0.07, most: 10_000 }
    }
}

/// Label propagation during training; the fields mean what the flags of `eval-davis` mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DavisEval {
    /// Epochs between measurements; 0 for none.
    pub every: usize,
    /// `procedural` for the made-up videos, or a folder in DAVIS's or a similar layout.
    pub data_path: String,
    /// `ImageSets/YEAR`.
    pub year: String,
    /// `ImageSets/YEAR/SPLIT.txt`.
    pub split: String,
    /// `JPEGImages/RESOLUTION`.
    pub resolution: String,
    /// Frames before the current one that vote, besides the first.
    pub n_last_frames: usize,
    /// Radius of the window in patches; 0 for none.
    pub size_mask_neighborhood: usize,
    /// Patches that vote.
    pub topk: usize,
}

impl Default for DavisEval {
    fn default() -> Self {
        Self {
            every: 0,
            data_path: "procedural".into(),
            year: "2017".into(),
            split: "val".into(),
            resolution: "480p".into(),
            n_last_frames: 7,
            size_mask_neighborhood: 12,
            topk: 5,
        }
    }
}

/// Where the images come from and how they are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// `procedural` for the made-up world; a folder of images at any depth; a list of them (txt, csv,
    /// tsv); tar or parquet files, several by braces and wildcards; IDX or CIFAR files; videos; or
    /// `hf://owner/name[@revision][#split]` (`--data`).
    pub path: String,
    /// Number of procedural images; unused for other data.
    pub procedural_images: usize,
    /// Side of a procedural image in pixels; unused for other data.
    pub procedural_size: usize,
    /// Threads that load and augment; 0 for one per core. They do not change the result.
    pub workers: usize,
    /// Batches prepared ahead.
    #[serde(default = "two")]
    pub prefetch: usize,
    /// Greatest part of the images that may be broken before the run stops (`--max-bad`).
    #[serde(default = "one_percent")]
    pub max_bad: f64,
    /// Leave out the images that do not fill a last batch; otherwise that batch is smaller.
    #[serde(default = "yes")]
    pub drop_last: bool,
    /// Values per pixel. 3 without a `range`: whatever an image holds becomes RGB.
    #[serde(default = "three")]
    pub channels: usize,
    /// The values that become 0 and 1, for images of more than 8 bits; absent: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f32; 2]>,
    /// Mean of each channel, between 0 and 1.
    #[serde(default = "imagenet_mean")]
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, likewise.
    #[serde(default = "imagenet_std")]
    pub std: Vec<f32>,
    /// Turn images as their EXIF orientation says. The published program does not.
    #[serde(default)]
    pub exif_orientation: bool,
    /// Decode JPEG files to the very bytes of Pillow and OpenCV (libjpeg), which takes about twice as long;
    /// otherwise they differ by a few levels.
    #[serde(default)]
    pub exact_jpeg: bool,
    /// Most pixels of an image; larger claims are taken for broken or hostile headers.
    #[serde(default = "max_pixels")]
    pub max_pixels: u64,
    /// Most bytes of an image file.
    #[serde(default = "max_bytes")]
    pub max_bytes: u64,
    /// Frames of a video per second of it; 0 for all.
    #[serde(default)]
    pub video_fps: f32,
}

fn two() -> usize {
    2
}

fn three() -> usize {
    3
}

fn one_percent() -> f64 {
    0.01
}

fn yes() -> bool {
    true
}

fn imagenet_mean() -> Vec<f32> {
    MEAN.to_vec()
}

fn imagenet_std() -> Vec<f32> {
    STD.to_vec()
}

fn max_pixels() -> u64 {
    Decoding::default().max_pixels
}

fn max_bytes() -> u64 {
    Decoding::default().max_bytes
}

impl Data {
    /// RGB from `path`, everything else as usual.
    fn of(path: &str) -> Self {
        Self {
            path: path.into(),
            procedural_images: 0,
            procedural_size: 0,
            workers: 0,
            prefetch: two(),
            max_bad: one_percent(),
            drop_last: yes(),
            channels: three(),
            range: None,
            mean: imagenet_mean(),
            std: imagenet_std(),
            exif_orientation: false,
            exact_jpeg: false,
            max_pixels: max_pixels(),
            max_bytes: max_bytes(),
            video_fps: 0.,
        }
    }

    /// How files become pixels.
    pub fn decoding(&self) -> Decoding {
        Decoding {
            channels: self.channels,
            range: self.range,
            exif_orientation: self.exif_orientation,
            exact_jpeg: self.exact_jpeg,
            max_pixels: self.max_pixels,
            max_bytes: self.max_bytes,
        }
    }
}

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
    /// Width, for `custom`.
    pub embed_dim: usize,
    /// Blocks, for `custom`.
    pub depth: usize,
    /// Heads, for `custom`.
    pub num_heads: usize,
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

/// DINO's loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageLoss {
    /// Temperature of the student.
    pub student_temp: f64,
    /// Temperature of the teacher at the start.
    pub warmup_teacher_temp: f64,
    /// Temperature of the teacher after its warm-up.
    pub teacher_temp: f64,
    /// Epochs of that warm-up.
    pub warmup_teacher_temp_epochs: usize,
    /// Momentum of the centres.
    pub center_momentum: f64,
}

/// What becomes of a patch's positives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Class attention over the positives: SelfPatch.
    ClassAttention,
    /// Their mean: no aggregation module.
    Mean,
    /// No neighbours at all: the target is the teacher's own patch.
    None,
}

/// How windows end at the border of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Border {
    /// They wrap around, as in the reference.
    Torus,
    /// They are cut off.
    Clipped,
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
    /// What becomes of the positives.
    pub aggregation: Aggregation,
    /// Class-attention blocks, which also make the class token.
    pub aggregation_depth: usize,
    /// Temperature of the patch teacher; absent: that of the image teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_temp: Option<f64>,
}

/// Which optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// AdamW.
    AdamW,
    /// SGD with momentum 0.9.
    Sgd,
    /// LARS.
    Lars,
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
    /// Stop after this many steps, the schedules unchanged; absent: all epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
}

fn one() -> usize {
    1
}

/// When to save and how much to keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpointing {
    /// Save after every this many epochs, and always at the end.
    pub every_epochs: usize,
    /// And after this many minutes; 0 for epochs alone. It changes no result.
    #[serde(default = "ten_minutes")]
    pub every_minutes: f64,
    /// Newest checkpoints kept.
    pub keep: usize,
    /// Checkpoints at the end of every this many epochs are kept for good; 0 for none.
    #[serde(default)]
    pub milestone_epochs: usize,
}

fn ten_minutes() -> f64 {
    10.
}

/// A recipe that fills every field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Minutes on two cores on made-up images; see `docs/method.md`.
    Default,
    /// The published program's defaults, 1024 images per step (8 GPUs x 128).
    Paper,
    /// For one's own folder on one machine: the published recipe with ViT-Ti/16, 8 images per step,
    /// and a rate to match.
    Folder,
    /// The same for images that are not 8-bit RGB: without what needs colours.
    Multichannel,
}

impl Preset {
    /// All recipes with their names.
    pub const ALL: [(&'static str, Preset); 4] = [
        ("default", Preset::Default),
        ("paper", Preset::Paper),
        ("folder", Preset::Folder),
        ("multichannel", Preset::Multichannel),
    ];

    /// The recipe called `name`.
    pub fn named(name: &str) -> Result<Self, Error> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, p)| *p).ok_or_else(|| Error::Config {
            field: "preset".into(),
            reason: format!(
                "there is no {name:?}{}",
                crate::overlay::did_you_mean(name, Self::ALL.iter().map(|(n, _)| *n))
            ),
        })
    }

    /// The whole configuration.
    pub fn config(self) -> Config {
        match self {
            Preset::Default => procedural(),
            Preset::Paper => paper(),
            Preset::Folder => {
                let mut c = paper();
                c.name = "folder".into();
                c.model.arch = "vit_tiny".into();
                c.optim.batch_size = 8;
                c.optim.epochs = 100;
                // The published 5e-4, but at 8 images: scaled down to them it would be 1.6e-5, at
                // which nothing moves in the steps that one machine can take.
                c.optim.lr = 5e-4 * 256. / 8.;
                c.optim.warmup_epochs = 1.;
                c.data.exif_orientation = true;
                c
            }
            Preset::Multichannel => {
                let mut c = Preset::Folder.config();
                c.name = "multichannel".into();
                for view in c.crops.globals.iter_mut().chain([&mut c.crops.locals]) {
                    (view.saturation, view.hue, view.grayscale) = (0., 0., 0.);
                }
                c
            }
        }
    }
}

/// The published program's defaults (its argument parser; specs in `docs/method.md`).
fn paper() -> Config {
    Config {
        name: "paper".into(),
        output_dir: PathBuf::new(),
        seed: 0,
        data: Data::of(""),
        model: Model {
            arch: "vit_small".into(),
            patch_size: 16,
            image_size: 224,
            drop_path_rate: 0.1,
            embed_dim: 384,
            depth: 12,
            num_heads: 6,
        },
        head: Head {
            out_dim: 65536,
            out_dim_selfpatch: 4096,
            hidden_dim: 2048,
            bottleneck_dim: 256,
            layers: 3,
            use_bn_in_head: false,
            norm_last_layer: true,
        },
        image_loss: ImageLoss {
            student_temp: 0.1,
            warmup_teacher_temp: 0.04,
            teacher_temp: 0.04,
            warmup_teacher_temp_epochs: 0,
            center_momentum: 0.9,
        },
        patch_loss: PatchObjective {
            lambda: 0.1,
            k_num: 4,
            window: 3,
            border: Border::Torus,
            matching: true,
            aggregation: Aggregation::ClassAttention,
            aggregation_depth: 2,
            teacher_temp: None,
        },
        optim: Optim {
            optimizer: Algorithm::AdamW,
            batch_size: 1024,
            epochs: 300,
            lr: 5e-4,
            min_lr: 1e-6,
            warmup_epochs: 10.,
            weight_decay: 0.04,
            weight_decay_end: 0.4,
            clip_grad: 3.0,
            freeze_last_layer: 1,
            momentum_teacher: 0.996,
            accumulate: 1,
            recompute: false,
            max_steps: None,
        },
        checkpoint: Checkpointing { every_epochs: 1, every_minutes: ten_minutes(), keep: 3, milestone_epochs: 0 },
        crops: MultiCrop::dino(224, 96, 8, [0.25, 1.0], [0.05, 0.25]),
        init_from: String::new(),
        health: HealthWatch::default(),
        eval: Eval::default(),
    }
}

/// A recipe in which learning shows within minutes on two cores.
fn procedural() -> Config {
    let paper = paper();
    Config {
        name: "default".into(),
        data: Data { procedural_images: 10240, procedural_size: 96, ..Data::of("procedural") },
        model: Model {
            arch: "custom".into(),
            patch_size: 8,
            image_size: 48,
            drop_path_rate: 0.,
            embed_dim: 96,
            depth: 4,
            num_heads: 3,
        },
        head: Head { out_dim: 512, out_dim_selfpatch: 512, hidden_dim: 256, bottleneck_dim: 64, ..paper.head },
        image_loss: ImageLoss { warmup_teacher_temp: 0.03, teacher_temp: 0.03, ..paper.image_loss },
        patch_loss: PatchObjective { teacher_temp: Some(0.04), ..paper.patch_loss },
        optim: Optim {
            batch_size: 16,
            epochs: 1,
            lr: 3e-4 * 256. / 16.,
            min_lr: 1e-5,
            warmup_epochs: 0.1,
            weight_decay_end: 0.1,
            freeze_last_layer: 0,
            momentum_teacher: 0.99,
            ..paper.optim
        },
        crops: MultiCrop::procedural(),
        ..paper
    }
}
