//! The range of every number of a configuration.

use crate::overlay::numbers;
use crate::{Config, Error};
use selfpatch_run::fields::stripped;

/// Each field with its least and greatest value. Values within may still be too much for a machine, which
/// [`Memory`](crate::Memory) tells, or for each other, which [`Config::check`] tells.
const LIMITS: [(&str, f64, f64); 64] = [
    ("checkpoint.every_epochs", 1., 1e6),
    ("checkpoint.every_minutes", 0., 1e6),
    ("checkpoint.keep", 1., 1e6),
    ("checkpoint.milestone_epochs", 0., 1e6),
    ("data.channels", 1., 1024.),
    ("data.max_bad", 0., 1.),
    ("data.max_bytes", 1., (1u64 << 40) as f64),
    ("data.max_pixels", 1., (1u64 << 32) as f64),
    ("data.mean", -1e6, 1e6),
    ("data.pillow", 12., 13.),
    ("data.prefetch", 1., 1024.),
    ("data.procedural_images", 0., (1u64 << 30) as f64),
    ("data.procedural_size", 0., 4096.),
    ("data.range", -1e30, 1e30),
    ("data.std", 0., 1e6),
    ("data.video_dedup", 0., 255.),
    ("data.video_fps", 0., 1000.),
    ("data.workers", 0., 256.),
    ("crops.local_count", 0., 256.),
    ("eval.davis.every", 0., 1e6),
    ("eval.davis.grid", 8., 64.),
    ("eval.davis.n_last_frames", 0., 1000.),
    ("eval.davis.size_mask_neighborhood", 0., 1000.),
    ("eval.davis.topk", 1., 10_000.),
    ("eval.knn.every", 0., 1e6),
    ("eval.knn.k", 1., 10_000.),
    ("eval.knn.most", 1., 1e9),
    ("eval.knn.temperature", 1e-4, 1e4),
    ("head.bottleneck_dim", 1., 65536.),
    ("head.hidden_dim", 1., 65536.),
    ("head.layers", 1., 64.),
    ("head.out_dim", 1., 4_194_304.),
    ("head.out_dim_selfpatch", 1., 4_194_304.),
    ("health.most_skipped", 0., 1e9),
    ("model.depth", 1., 256.),
    ("model.drop_path_rate", 0., 1.),
    ("model.embed_dim", 1., 16384.),
    ("model.image_size", 1., 16384.),
    ("model.mlp_ratio", 1., 64.),
    ("model.num_heads", 1., 1024.),
    ("model.patch_size", 1., 1024.),
    ("objective.center_momentum", 0., 1.),
    ("objective.student_temp", 1e-4, 1e4),
    ("objective.teacher_temp", 1e-4, 1e4),
    ("objective.warmup_teacher_temp", 1e-4, 1e4),
    ("objective.warmup_teacher_temp_epochs", 0., 1_048_576.),
    ("optim.accumulate", 1., 65536.),
    ("optim.batch_size", 1., 65536.),
    ("optim.clip_grad", 0., 1e30),
    ("optim.epochs", 1., 1_048_576.),
    ("optim.freeze_last_layer", 0., 1_048_576.),
    ("optim.lr", 0., 1000.),
    ("optim.max_steps", 1., 1e12),
    ("optim.min_lr", 0., 1000.),
    ("optim.momentum_teacher", 0., 1.),
    ("optim.warmup_epochs", 0., 1_048_576.),
    ("optim.weight_decay", 0., 1000.),
    ("optim.weight_decay_end", 0., 1000.),
    ("patch_loss.aggregation_depth", 1., 64.),
    ("patch_loss.k_num", 1., 65536.),
    ("patch_loss.lambda", 0., 1000.),
    ("patch_loss.teacher_temp", 1e-4, 1e4),
    ("patch_loss.window", 3., 8191.),
    ("seed", 0., i64::MAX as f64),
];

/// The least and the greatest value of the number at `place`; `None` where there is no such number or another rule has
/// its bounds.
pub(crate) fn of(place: &str) -> Option<(f64, f64)> {
    LIMITS.iter().find(|(name, ..)| *name == place).map(|(_, least, most)| (*least, *most))
}

impl Config {
    /// Refuses numbers beyond their limits; the error names the field.
    pub(crate) fn check_limits(&self) -> Result<(), Error> {
        for (place, value) in numbers(self)? {
            let Some((least, most)) = of(&stripped(&place)) else { continue };
            let reason = if value < least {
                format!("must be at least {least}, is {value}")
            } else if value > most {
                format!("{value} is beyond the limit of {most}")
            } else if value.is_nan() {
                "is no number".into()
            } else {
                continue;
            };
            return Err(Error::Config { field: place, reason });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;
    use crate::config::{ImageObjective, VideoRate};
    use selfpatch_datasets::Range;

    #[test]
    fn every_number_has_a_limit() -> Result<(), Error> {
        let mut config = Preset::Default.config();
        (config.data.range, config.optim.max_steps) = (Some(Range::All([0., 1.])), Some(1));
        config.data.video_fps = VideoRate::PerSecond(2.);
        let numbers = numbers(&config)?;
        // What concerns a view is checked by `MultiCrop::validate`.
        let is_view = |place: &str| place.starts_with("crops.globals") || place.starts_with("crops.locals");
        for (place, value) in numbers.iter().filter(|(place, _)| !is_view(place)) {
            let limit = LIMITS.iter().find(|(name, ..)| name == place);
            let (_, least, most) = limit.unwrap_or_else(|| panic!("{place} has no limit"));
            assert!((least..=most).contains(&value), "{place}");
        }
        for (name, ..) in LIMITS {
            assert!(numbers.iter().any(|(place, _)| place == name), "there is no {name}");
        }
        Ok(())
    }

    #[test]
    fn what_is_beyond_is_refused_by_name() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 14] = [
            ("optim.lr", |c| c.optim.lr = 1e18),
            ("optim.min_lr", |c| c.optim.min_lr = 1e4),
            ("optim.weight_decay_end", |c| c.optim.weight_decay_end = 1e4),
            ("patch_loss.lambda", |c| c.patch_loss.lambda = 1e4),
            ("optim.max_steps", |c| c.optim.max_steps = Some(1 << 50)),
            ("optim.weight_decay", |c| c.optim.weight_decay = f64::INFINITY),
            ("patch_loss.lambda", |c| c.patch_loss.lambda = f64::NAN),
            ("model.num_heads", |c| c.model.num_heads = 1 << 31),
            ("model.patch_size", |c| c.model.patch_size = 0),
            ("eval.davis.n_last_frames", |c| c.eval.davis.n_last_frames = 1 << 40),
            ("data.mean", |c| c.data.mean[1] = f32::NAN),
            ("data.range", |c| c.data.range = Some(Range::Each(vec![[0., f32::INFINITY]]))),
            ("checkpoint.keep", |c| c.checkpoint.keep = 0),
            ("objective.teacher_temp", |c| {
                let ImageObjective::Dino(dino) = &mut c.objective;
                dino.teacher_temp = -1.;
            }),
        ];
        for (place, spoil) in cases {
            let mut config = Preset::Default.config();
            spoil(&mut config);
            let error = config.check_limits().map_or_else(|e| e.to_string(), |()| String::new());
            assert!(error.starts_with(&format!("{place}: ")), "{place}: {error}");
        }
    }
}
