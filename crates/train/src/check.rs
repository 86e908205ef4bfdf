//! The rules that join several fields of a configuration.

use crate::Error;
use crate::config::{ARCHITECTURES, Aggregation, Config, ImageObjective};
use selfpatch_aggregation::AggregatorConfig;
use selfpatch_losses::{HeadConfig, Temperature};
use selfpatch_matching::Neighbours;
use selfpatch_optim::{Clip, Rules};
use selfpatch_vit::VitConfig;

impl Config {
    /// The backbone.
    pub fn vit(&self) -> Result<VitConfig, Error> {
        let m = &self.model;
        let mut vit = match m.arch.as_str() {
            "custom" => {
                let vit = VitConfig::new(m.embed_dim, m.depth, m.num_heads, m.patch_size);
                VitConfig { mlp_ratio: m.mlp_ratio, ..vit }
            }
            "vit_tiny" | "vit_small" | "vit_base" => VitConfig::arch(&m.arch, m.patch_size)?,
            other => {
                let hint = crate::near::did_you_mean(other, ARCHITECTURES.into_iter());
                return Err(field("model.arch", format!("there is no {other:?}{hint}")));
            }
        }
        .with_image_size(m.image_size);
        vit.in_channels = self.data.channels;
        vit.validate().map_err(|e| field("model", one_line(&e)))?;
        Ok(vit)
    }

    /// The aggregation module.
    pub fn aggregator(&self) -> Result<AggregatorConfig, Error> {
        let vit = self.vit()?;
        Ok(AggregatorConfig {
            depth: self.patch_loss.aggregation_depth,
            ..AggregatorConfig::new(vit.embed_dim, vit.num_heads)
        })
    }

    /// The class head.
    pub fn class_head(&self) -> Result<HeadConfig, Error> {
        let h = &self.head;
        Ok(HeadConfig {
            in_dim: self.vit()?.embed_dim,
            hidden_dim: h.hidden_dim,
            bottleneck_dim: h.bottleneck_dim,
            out_dim: h.out_dim,
            layers: h.layers,
            batch_norm: h.use_bn_in_head,
            norm_last_layer: h.norm_last_layer,
        })
    }

    /// The patch head, or `None` where the patch objective has no weight.
    pub fn patch_head(&self) -> Result<Option<HeadConfig>, Error> {
        if self.patch_loss.lambda == 0. {
            return Ok(None);
        }
        Ok(Some(HeadConfig { out_dim: self.head.out_dim_selfpatch, ..self.class_head()? }))
    }

    /// Neighbourhoods on the grid of a square crop, and the number of positives; `None` where
    /// targets need no neighbours.
    pub fn neighbours(&self, crop: usize) -> Result<Option<(Neighbours, usize)>, Error> {
        let p = &self.patch_loss;
        if p.lambda == 0. || p.aggregation == Aggregation::None {
            return Ok(None);
        }
        let (rows, cols) = self.vit()?.grid(crop, crop)?;
        let neighbours =
            Neighbours::new(rows, cols, p.window, p.border).map_err(|e| field("patch_loss.window", one_line(&e)))?;
        let k = if p.matching { p.k_num } else { neighbours.width() };
        if k == 0 || k > neighbours.width() {
            return Err(field(
                "patch_loss.k_num",
                format!(
                    "{k} positives cannot be chosen from the {} neighbours of a patch in a {} x {} window on the \
                     {rows} x {cols} grid of a {crop}-pixel crop",
                    neighbours.width(),
                    p.window,
                    p.window
                ),
            ));
        }
        Ok(Some((neighbours, k)))
    }

    /// Temperature of the image teacher.
    pub fn teacher_temp(&self) -> Temperature {
        let ImageObjective::Dino(dino) = &self.objective;
        Temperature {
            warmup: dino.warmup_teacher_temp,
            last: dino.teacher_temp,
            warmup_epochs: dino.warmup_teacher_temp_epochs,
        }
    }

    /// Decay, clipping and learning rates of single parameters.
    pub fn rules(&self) -> Rules {
        let clip = if self.optim.clip_grad > 0. { Clip::Each(self.optim.clip_grad) } else { Clip::None };
        Rules { clip, ..Rules::default() }
    }

    /// Sides of the square crops: global, and local if there are any.
    pub fn crop_sizes(&self) -> Vec<usize> {
        let mut sizes: Vec<usize> = self.crops.globals.first().map(|g| g.size).into_iter().collect();
        if self.crops.local_count > 0 {
            sizes.push(self.crops.locals.size);
        }
        sizes
    }

    /// Checks the rules of how images are read and views drawn, whatever the network.
    pub fn check_data(&self) -> Result<(), Error> {
        self.check_limits()?;
        self.crops.validate()?;
        let data = &self.data;
        if !data.decoding().is_rgb() {
            self.crops.validate_without_rgb()?;
        }
        if let Some(problem) = data.range.as_ref().and_then(|range| range.problem(data.channels)) {
            return Err(field("data.range", problem));
        }
        if ![12, 13].contains(&data.pillow) {
            return Err(field(
                "data.pillow",
                format!("must be 12 (up to 12.3) or 13 (from 13.0 on), is {}", data.pillow),
            ));
        }
        if data.path == "procedural" && !data.decoding().is_rgb() {
            return Err(field("data.channels", "the synthetic images are 8-bit RGB".into()));
        }
        if !(0.0..=1.0).contains(&data.max_bad) {
            return Err(field("data.max_bad", format!("must be between 0 and 1, is {}", data.max_bad)));
        }
        if let Some(fps) = data.video_fps.per_second().filter(|fps| !(0.0..=1000.).contains(fps)) {
            return Err(field("data.video_fps", format!("must be \"auto\" or between 0 and 1000, is {fps}")));
        }
        if !(0.0..=255.).contains(&data.video_dedup) {
            return Err(field("data.video_dedup", format!("must be between 0 and 255, is {}", data.video_dedup)));
        }
        if data.path == "procedural" && (data.procedural_images == 0 || data.procedural_size < 32) {
            return Err(field(
                "data.procedural_images",
                format!(
                    "{} images of {} pixels cannot be made; use at least 1 of at least 32",
                    data.procedural_images, data.procedural_size
                ),
            ));
        }
        Ok(())
    }

    /// Checks every rule; the error names the field.
    pub fn check(&self) -> Result<(), Error> {
        self.check_data()?;
        self.check_numbers()?;
        let vit = self.vit()?;
        for (name, size) in ["crops.globals.size", "crops.locals.size"].into_iter().zip(self.crop_sizes()) {
            if !size.is_multiple_of(vit.patch_size) {
                return Err(field(
                    name,
                    format!("crops of {size} pixels cannot be cut into patches of {}", vit.patch_size),
                ));
            }
            self.neighbours(size)?;
        }
        if self.crops.globals.len() != 2 {
            return Err(field("crops.globals", format!("DINO needs 2 global views, not {}", self.crops.globals.len())));
        }
        if self.data.path.is_empty() {
            return Err(field("data.path", "this recipe needs images: --data FOLDER (or another source)".into()));
        }
        let data = &self.data;
        for (name, list) in [("data.mean", &data.mean), ("data.std", &data.std)] {
            if list.len() != data.channels {
                let reason = format!(
                    "has {} numbers, but data.channels is {}; `inspect-data` measures them",
                    list.len(),
                    data.channels
                );
                return Err(field(name, reason));
            }
        }
        if data.std.iter().any(|s| !(*s > 0. && s.is_finite())) || data.mean.iter().any(|m| !m.is_finite()) {
            return Err(field("data.std", "must be positive numbers, and data.mean numbers".into()));
        }
        if self.eval.knn.every > 0 && self.eval.knn.train.is_empty() {
            let reason = "eval.knn.every asks for labelled images: a folder per class, or another source with classes";
            return Err(field("eval.knn.train", reason.into()));
        }
        if self.name.is_empty() || self.name.contains(['/', '\\']) || self.name.starts_with('.') {
            return Err(field("name", format!("{:?} cannot be the name of a run", self.name)));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), Error> {
        let (p, o) = (&self.patch_loss, &self.optim);
        let ImageObjective::Dino(dino) = &self.objective;
        if self.model.drop_path_rate == 1. {
            return Err(field("model.drop_path_rate", "must lie below 1: no block would be left".into()));
        }
        if o.accumulate > o.batch_size {
            let reason = format!("{} parts cannot be made of {} images", o.accumulate, o.batch_size);
            return Err(field("optim.accumulate", reason));
        }
        if o.accumulate > 1 && !self.data.drop_last {
            let reason = "a smaller last batch (data.drop_last = false) cannot be taken in parts; use 1".into();
            return Err(field("optim.accumulate", reason));
        }
        if o.accumulate > 1 && self.head.use_bn_in_head {
            let reason = "batch norm in the heads (head.use_bn_in_head) would see parts of a batch; use 1".into();
            return Err(field("optim.accumulate", reason));
        }
        if p.window.is_multiple_of(2) || p.window < 3 {
            return Err(field("patch_loss.window", format!("{} is not an odd number of at least 3", p.window)));
        }
        if o.warmup_epochs > o.epochs as f64 {
            return Err(field(
                "optim.warmup_epochs",
                format!("{} epochs of warm-up do not fit into {} epochs", o.warmup_epochs, o.epochs),
            ));
        }
        if dino.warmup_teacher_temp_epochs > o.epochs {
            return Err(field("objective.warmup_teacher_temp_epochs", format!("is above optim.epochs {}", o.epochs)));
        }
        Ok(())
    }
}

fn field(name: &str, reason: String) -> Error {
    Error::Config { field: name.into(), reason }
}

/// The first line of a tensor error: without a backtrace.
fn one_line(e: &candle_core::Error) -> String {
    e.to_string().lines().next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;
    use crate::config::DinoObjective;

    fn dino(config: &mut Config) -> &mut DinoObjective {
        let ImageObjective::Dino(dino) = &mut config.objective;
        dino
    }

    #[test]
    fn presets_pass() -> Result<(), Error> {
        for (_, preset) in Preset::ALL {
            let mut config = preset.config();
            if config.data.path.is_empty() {
                assert!(config.check().unwrap_err().to_string().contains("--data"));
                config.data.path = "photos".into();
            }
            config.check()?;
        }
        Ok(())
    }

    #[test]
    fn impossible_combinations_name_their_field() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 15] = [
            ("patch_loss.k_num", |c| c.patch_loss.k_num = 9),
            ("patch_loss.window", |c| c.patch_loss.window = 4),
            ("crops.locals.size", |c| c.crops.locals.size = 25),
            ("num_heads", |c| c.model.num_heads = 5),
            ("model.arch", |c| c.model.arch = "vit_tinny".into()),
            ("optim.batch_size", |c| c.optim.batch_size = 0),
            ("optim.warmup_epochs", |c| c.optim.warmup_epochs = 2.),
            ("objective.teacher_temp", |c| dino(c).teacher_temp = 0.),
            ("optim.lr", |c| c.optim.lr = f64::NAN),
            ("head.out_dim", |c| c.head.out_dim = 4_000_000_000),
            ("model.image_size", |c| c.model.image_size = 8_000_000_000),
            ("data.procedural_images", |c| c.data.procedural_images = 0),
            ("eval.knn.train", |c| c.eval.knn.every = 1),
            ("eval.knn.k", |c| c.eval.knn.k = 0),
            ("eval.knn.temperature", |c| c.eval.knn.temperature = 0.),
        ];
        for (name, spoil) in cases {
            let mut config = Preset::Default.config();
            spoil(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}
