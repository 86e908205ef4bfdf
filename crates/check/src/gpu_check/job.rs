//! What a worker is asked to do, one line of JSON each. The PyTorch peer reads the same lines.

use selfpatch_train::config::Precision;
use selfpatch_train::{Config, Preset};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One job.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "lowercase")]
pub enum Job {
    /// Say what the device is and how fast its products are.
    Device {
        /// Side of the matrices of a product.
        side: usize,
    },
    /// Compare with the fixtures of a folder.
    Parity {
        /// Precision of the computation.
        autocast: Precision,
        /// Folder of the fixtures.
        fixtures: PathBuf,
    },
    /// Train, and tell the losses.
    Train {
        /// Precision of the training.
        autocast: Precision,
        /// Number of steps.
        steps: usize,
        /// The run's folder, which is removed afterwards.
        folder: PathBuf,
    },
    /// Time whole training steps.
    Speed(Speed),
}

/// Which steps to time. The names are those of the peer's flags.
#[derive(Clone, Serialize, Deserialize)]
pub struct Speed {
    /// What a step computes.
    #[serde(flatten)]
    pub shape: Shape,
    /// Precision of the steps.
    pub autocast: Precision,
    /// Images of a step.
    pub batch: usize,
    /// Steps before those that are timed.
    pub warmup: usize,
    /// The most steps that are timed.
    pub steps: usize,
    /// Seconds of timing after which five timed steps are enough.
    pub seconds: f64,
}

/// The sizes of a network and its crops.
#[derive(Clone, Serialize, Deserialize)]
pub struct Shape {
    /// Name of the architecture.
    pub arch: String,
    width: usize,
    heads: usize,
    depth: usize,
    patch_size: usize,
    global_size: usize,
    local_size: usize,
    local: usize,
    hidden_dim: usize,
    bottleneck_dim: usize,
    out_dim: usize,
    out_dim_selfpatch: usize,
    k_num: usize,
}

impl Shape {
    /// A ViT of 12 blocks in the published recipe.
    pub fn vit(arch: &str, width: usize, heads: usize) -> Self {
        Self {
            arch: arch.into(),
            width,
            heads,
            depth: 12,
            patch_size: 16,
            global_size: 224,
            local_size: 96,
            local: 8,
            hidden_dim: 2048,
            bottleneck_dim: 256,
            out_dim: 65536,
            out_dim_selfpatch: 4096,
            k_num: 4,
        }
    }

    /// A shape that costs nothing, to try the check.
    pub fn toy() -> Self {
        let (global_size, local_size, hidden_dim, bottleneck_dim) = (48, 24, 32, 16);
        Self {
            depth: 2,
            patch_size: 8,
            global_size,
            local_size,
            local: 2,
            hidden_dim,
            bottleneck_dim,
            out_dim: 64,
            out_dim_selfpatch: 32,
            ..Self::vit("toy", 32, 2)
        }
    }
}

impl Speed {
    /// The published recipe with these sizes.
    pub fn config(&self) -> Config {
        let (mut config, shape) = (Preset::Paper.config(), &self.shape);
        config.model.arch = "custom".into();
        config.model.embed_dim = shape.width;
        config.model.num_heads = shape.heads;
        config.model.depth = shape.depth;
        config.model.patch_size = shape.patch_size;
        config.model.image_size = shape.global_size;
        config.crops.globals.iter_mut().for_each(|view| view.size = shape.global_size);
        config.crops.locals.size = shape.local_size;
        config.crops.local_count = shape.local;
        config.head.hidden_dim = shape.hidden_dim;
        config.head.bottleneck_dim = shape.bottleneck_dim;
        config.head.out_dim = shape.out_dim;
        config.head.out_dim_selfpatch = shape.out_dim_selfpatch;
        config.patch_loss.k_num = shape.k_num;
        config.optim.batch_size = self.batch;
        config.optim.precision = self.autocast;
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfpatch_train::Settings;

    /// The peer takes the keys for its flags.
    #[test]
    fn jobs_travel_as_flat_json() -> Result<(), serde_json::Error> {
        let (autocast, shape) = (Precision::Bf16, Shape::vit("vit_small", 384, 6));
        let job = Job::Speed(Speed { shape, autocast, batch: 64, warmup: 3, steps: 20, seconds: 3. });
        let line = serde_json::to_string(&job)?;
        assert!(line.starts_with(r#"{"job":"speed","arch":"vit_small","width":384"#), "{line}");
        assert!(line.contains(r#""autocast":"bf16","batch":64"#), "{line}");
        let Job::Speed(back) = serde_json::from_str(&line)? else { panic!("{line}") };
        assert!(Settings::of(&back.config()).is_ok() && back.config().optim.batch_size == 64);
        Ok(())
    }
}
