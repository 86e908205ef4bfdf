//! The published recipes, every field of them.

use super::{
    Aggregation, Algorithm, Border, Checkpointing, Config, Data, DinoObjective, Eval, Head, HealthWatch,
    ImageObjective, Model, Optim, PatchObjective, Precision,
};
use crate::Error;
use selfpatch_datasets::MultiCrop;
use std::path::PathBuf;

/// A recipe that fills every field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A recipe for minutes on two cores on synthetic images; see `docs/method.md`.
    Default,
    /// The published program's defaults, 1024 images per step (8 GPUs x 128).
    Paper,
    /// A recipe for one's own folder on one machine: the published one with ViT-Ti/16, 8 images per step, and a rate to
    /// match.
    Folder,
    /// The recipe of [`Preset::Folder`] for images that are not 8-bit RGB: without what needs colours.
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
                crate::near::did_you_mean(name, Self::ALL.iter().map(|(n, _)| *n))
            ),
        })
    }

    /// The whole configuration of the recipe.
    pub fn config(self) -> Config {
        match self {
            Preset::Default => procedural(),
            Preset::Paper => paper(),
            Preset::Folder => {
                let mut c = paper();
                c.name = "folder".into();
                c.model = Model { arch: "vit_tiny".into(), ..c.model }.settled();
                c.optim.batch_size = 8;
                c.optim.epochs = 100;
                // The published 5e-4, but at 8 images: scaled down to them it would be 1.6e-5, at
                // which nothing moves in the steps that one machine can take.
                c.optim.lr = 5e-4 * 256. / 8.;
                c.optim.warmup_epochs = 1.;
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
            mlp_ratio: 4,
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
        objective: ImageObjective::Dino(DinoObjective::default()),
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
            precision: Precision::F32,
            max_steps: None,
        },
        checkpoint: Checkpointing::default(),
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
            mlp_ratio: 4,
        },
        head: Head { out_dim: 512, out_dim_selfpatch: 512, hidden_dim: 256, bottleneck_dim: 64, ..paper.head },
        objective: ImageObjective::Dino(DinoObjective {
            warmup_teacher_temp: 0.03,
            teacher_temp: 0.03,
            ..DinoObjective::default()
        }),
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
