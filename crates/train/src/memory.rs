//! How much memory a training step takes, known before it runs.

use crate::{Config, Error};

/// Bytes of what a step holds at once, f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Weights of both networks, gradients (of the part at hand and of all before it, where there are
    /// several), both moments.
    pub parameters: u64,
    /// What the forward pass keeps for the backward pass, and the working memory beside it. Grows with
    /// the images of a part (`batch_size / accumulate`).
    pub activations: u64,
    /// The pixels of the whole batch.
    pub pixels: u64,
}

/// Factor from the sum to what a process takes, as measured (`docs/benchmarks.md`): packed products, sizes rounded up.
const BESIDE: f64 = 1.15;

impl Memory {
    /// Memory of a run as `config` describes it, its student having `parameters` numbers.
    ///
    /// With `T` tokens of width `D` in all `V` crops, crop `i` having `n_i` of them, and a feed-forward part of `r`
    /// times the width: each of `d` blocks keeps `(6 + 2 r) T D` values and `heads * sum(n_i^2)` probabilities, or with
    /// `optim.recompute` its input `T D` alone; each class block `3 (T + V) D`; the patch head `2 H` per hidden layer,
    /// twice the bottleneck and one gradient per prototype for each token; the class head the same for each crop, its
    /// logits twice. Working memory is the largest of the two backward passes: a block's `(6 + 4 r) T D`, or two hidden
    /// layers of the patch head.
    pub fn of(config: &Config, parameters: usize) -> Result<Self, Error> {
        let (vit, optim, head) = (config.vit()?, &config.optim, &config.head);
        // Exact up to 2^53, and nothing that a file asks for overflows.
        let number = |n: usize| n as f64;
        let (dim, patch, hidden_dim) = (number(vit.embed_dim), number(vit.patch_size), number(head.hidden_dim));
        let images = optim.batch_size.div_ceil(optim.accumulate.max(1));
        let views = [config.crops.globals.len(), config.crops.local_count];
        let (mut crops, mut tokens, mut squares) = (0., 0., 0.);
        for (views, size) in views.into_iter().zip(config.crop_sizes()) {
            let n = number(size / vit.patch_size).powi(2);
            let of_size = number(views) * number(images);
            crops += of_size;
            tokens += of_size * n;
            squares += of_size * n * n;
        }
        let depth = number(vit.depth);
        let probabilities = number(vit.num_heads) * squares;
        let block = (6. + 2. * number(vit.mlp_ratio)) * tokens * dim + probabilities;
        let blocks = if optim.recompute { depth * tokens * dim + block } else { depth * block };
        let class = number(config.patch_loss.aggregation_depth) * 3. * (tokens + crops) * dim;
        let hidden = 2. * hidden_dim * number(head.layers.saturating_sub(1)) + 2. * number(head.bottleneck_dim);
        let with_patches = config.patch_loss.lambda > 0.;
        let patch_head = if with_patches { tokens * (hidden + number(head.out_dim_selfpatch)) } else { 0. };
        let class_head = crops * (hidden + 2. * number(head.out_dim));
        let unfolded = tokens * patch * patch * number(vit.in_channels);
        let working = ((6. + 4. * number(vit.mlp_ratio)) * tokens * dim).max(if with_patches {
            2. * tokens * hidden_dim
        } else {
            0.
        });
        let values = blocks + class + patch_head + class_head + unfolded + working;
        let copies = if optim.accumulate > 1 { 6. } else { 5. };
        let pixels = unfolded / number(images.max(1)) * number(optim.batch_size);
        let bytes = |values: f64| (4. * values) as u64; // the greatest of all for what is beyond
        Ok(Self { parameters: bytes(copies * number(parameters)), activations: bytes(values), pixels: bytes(pixels) })
    }

    /// Numbers of a student as `config` describes it, counted without making it; a float because a file may ask for
    /// any.
    pub fn parameters_of(config: &Config) -> Result<f64, Error> {
        let (vit, head) = (config.vit()?, &config.head);
        let number = |n: usize| n as f64;
        let (dim, patch, depth) = (number(vit.embed_dim), number(vit.patch_size), number(vit.depth));
        let linear = |from: f64, to: f64| (from + 1.) * to;
        let norm = 2. * dim;
        let mlp = |ratio: usize| linear(dim, number(ratio) * dim) + linear(number(ratio) * dim, dim);
        let embedding = linear(patch * patch * number(vit.in_channels), dim) + number(vit.table_side()).powi(2) * dim;
        // Query, key, value, projection.
        let block = |ratio: usize| 4. * linear(dim, dim) + mlp(ratio) + 2. * norm;
        let class_block = block(config.aggregator()?.mlp_ratio);
        let class_blocks = number(config.patch_loss.aggregation_depth) * class_block + dim + norm;
        let head_of = |prototypes: f64| {
            let (hidden, bottleneck) = (number(head.hidden_dim), number(head.bottleneck_dim));
            let norms = if head.use_bn_in_head { 2. * hidden * number(head.layers.saturating_sub(1)) } else { 0. };
            let layers = match head.layers {
                0 | 1 => linear(dim, bottleneck),
                n => linear(dim, hidden) + number(n - 2) * linear(hidden, hidden) + linear(hidden, bottleneck),
            };
            layers + norms + prototypes * (bottleneck + 1.)
        };
        let patch_head = if config.patch_loss.lambda > 0. { head_of(number(head.out_dim_selfpatch)) } else { 0. };
        Ok(embedding + depth * block(vit.mlp_ratio) + class_blocks + head_of(number(head.out_dim)) + patch_head)
    }

    /// Refuses a run that the memory of this machine is too small for, before any of it is taken. `prefetch`: bytes of
    /// the batches in preparation.
    ///
    /// # Errors
    /// The error says how much is needed, how much there is, and what needs less.
    pub fn admit(config: &Config, prefetch: u64) -> Result<(), Error> {
        let parameters = Self::parameters_of(config)?.min(1e15) as usize;
        let needed = Self::of(config, parameters)?.total() as f64 * BESIDE;
        let less = "a smaller optim.batch_size, head.out_dim, model.embed_dim, crops or data.prefetch, or a larger \
                    optim.accumulate, or optim.recompute,";
        let bytes = (needed as u64).saturating_add(prefetch); // the greatest of all for what is beyond
        selfpatch_nn::room::admit(bytes, less)
            .map_err(|reason| Error::Config { field: "memory".into(), reason: format!("a step {reason}") })
    }

    /// Bytes of all parts together.
    pub fn total(&self) -> u64 {
        self.parameters.saturating_add(self.activations).saturating_add(self.pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    fn config() -> Config {
        let mut config = Preset::Folder.config();
        config.optim.batch_size = 4;
        config
    }

    #[test]
    fn activations_grow_with_the_images_of_a_part_alone() -> Result<(), Error> {
        let of = |batch: usize, accumulate: usize| {
            let mut config = config();
            (config.optim.batch_size, config.optim.accumulate) = (batch, accumulate);
            Memory::of(&config, 1000).map(|m| m.activations)
        };
        assert_eq!(of(8, 1)?, 2 * of(4, 1)?);
        assert_eq!(of(32, 8)?, of(4, 1)?);
        assert_eq!(of(5, 2)?, of(3, 1)?);
        Ok(())
    }

    #[test]
    fn recomputing_and_leaving_out_patches_take_less() -> Result<(), Error> {
        let all = Memory::of(&config(), 0)?.activations;
        let mut c = config();
        c.optim.recompute = true;
        let recomputed = Memory::of(&c, 0)?.activations;
        let mut c = config();
        c.patch_loss.lambda = 0.;
        let image_only = Memory::of(&c, 0)?.activations;
        let (whole, mut parts) = (Memory::of(&config(), 7)?, config());
        parts.optim.accumulate = 2;
        let parts = Memory::of(&parts, 7)?;
        assert!(recomputed < all && image_only < all);
        assert_eq!((whole.parameters, parts.parameters, whole.pixels), (140, 168, parts.pixels));
        Ok(())
    }

    #[test]
    fn parameters_are_counted_without_making_them() -> Result<(), Error> {
        use candle_core::{DType, Device};
        let mut small = Preset::Default.config();
        (small.model.embed_dim, small.head.hidden_dim, small.head.out_dim) = (12, 16, 40);
        let mut other = small.clone();
        (other.head.layers, other.head.use_bn_in_head, other.patch_loss.aggregation_depth) = (1, true, 1);
        other.model.mlp_ratio = 2;
        let mut alone = small.clone();
        (alone.patch_loss.lambda, alone.head.layers, alone.head.use_bn_in_head) = (0., 4, true);
        for config in [small, other, alone] {
            let trainer = crate::Trainer::new(crate::Settings::of(&config)?, DType::F32, &Device::Cpu)?;
            let made: usize = trainer.student_params.iter().map(|(_, v)| v.elem_count()).sum();
            let counted = Memory::parameters_of(&config)?;
            assert!((counted / made as f64 - 1.).abs() < 0.02, "{counted} for {made}");
        }
        Ok(())
    }

    #[test]
    fn a_run_beyond_all_memory_is_refused_before_it_takes_any() -> Result<(), Error> {
        Memory::admit(&Preset::Default.config(), 0)?;
        let mut c = config();
        (c.head.out_dim, c.head.bottleneck_dim, c.optim.batch_size) = (1 << 22, 1 << 16, 1 << 16);
        if cfg!(target_os = "linux") {
            let error = Memory::admit(&c, 0).map_or_else(|e| e.to_string(), |()| String::new());
            assert!(error.starts_with("memory: a step needs about") && error.contains("optim.batch_size"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn what_no_machine_has_does_not_overflow() -> Result<(), Error> {
        let mut c = config();
        (c.model.patch_size, c.optim.batch_size) = (1, 1 << 16);
        (c.crops.locals.size, c.crops.local_count) = (4096, 256);
        assert_eq!(Memory::of(&c, usize::MAX)?.total(), u64::MAX);
        Ok(())
    }
}
