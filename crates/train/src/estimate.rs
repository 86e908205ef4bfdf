//! How long a run takes, known before its first step; and what would shorten it.

use crate::config::Config;
use crate::{Error, Trainer, work};
use candle_core::{DType, Device, Tensor};
use selfpatch_nn::Backbone;
use selfpatch_nn::autocast;
use selfpatch_run::{Estimate, Shorter};
use selfpatch_vit::Vit;
use std::time::{Duration, Instant};

/// FLOPs of the images that are timed on a CPU.
const SAMPLE: f64 = 4e9;
/// FLOPs of the images that are timed on a GPU.
const SAMPLE_ON_GPU: f64 = 5e11;
/// Time after which no further pass is timed, if two were.
const ENOUGH: Duration = Duration::from_millis(250);
/// Time of a first pass that is long enough to count by itself.
const AMPLE: Duration = Duration::from_secs(1);
/// Most passes that are timed, of which the fastest counts: other programs come between some of them.
const PASSES: usize = 20;
/// Time of a run for which there is advice how to shorten it, in seconds.
const LONG: f64 = 2. * 3600.;
/// Time of a run that advice with fewer epochs aims at: a night, in seconds.
const NIGHT: f64 = 8. * 3600.;
/// Class prototypes, patch prototypes and hidden width of the heads that the advice calls small.
const SMALL_HEADS: [usize; 3] = [4096, 1024, 512];

/// How fast the network runs and the images come, as measured before the first step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// FLOPs per second of the teacher's forward pass. The rest of a step is about as fast.
    pub rate: f64,
    /// Seconds until the first batch was there, while nothing else ran.
    pub first_batch: f64,
    /// Whether the processor that computes also loads images.
    pub on_cpu: bool,
}

/// Times a forward pass of the teacher on a few images without content: FLOPs per second. Changes nothing that training
/// depends on.
pub(crate) fn rate(config: &Config, trainer: &Trainer, device: &Device) -> Result<f64, Error> {
    let most = if device.is_cpu() { SAMPLE } else { SAMPLE_ON_GPU };
    let vit = config.vit()?;
    let of = |images: usize| Config {
        optim: crate::config::Optim { batch_size: images, ..config.optim.clone() },
        ..config.clone()
    };
    let one = work::teacher(&of(1), &vit).max(1.);
    // Batch norm would move its running statistics, and of a large network one image is too much.
    if config.head.use_bn_in_head || one > 10. * most {
        return rate_of_backbone(config, &trainer.teacher().backbone, most, device);
    }
    let part = config.optim.batch_size.div_ceil(config.optim.accumulate.max(1));
    let images = ((most / one) as usize).clamp(1, part.max(1));
    let sizes = work::crops(&of(images));
    let crops =
        sizes.into_iter().map(|(count, size)| zeros(count, size, config, device)).collect::<Result<Vec<_>, _>>()?;
    let patches = trainer.teacher().backbone.patches(&crops)?;
    let pass = || trainer.teacher_rows(&patches).map(drop);
    Ok(one * images as f64 / fastest(pass, config, device)?.as_secs_f64().max(1e-9))
}

/// Times a forward pass of the backbone alone on a few crops: FLOPs per second.
fn rate_of_backbone(config: &Config, backbone: &Vit, most: f64, device: &Device) -> Result<f64, Error> {
    let Some(&(count, size)) = work::crops(config).last() else { return Ok(f64::INFINITY) };
    let vit = backbone.config();
    let one = work::backbone(config, vit, size).max(1.);
    let count = ((most / one) as usize).clamp(1, count.max(1));
    let crops = zeros(count, size, config, device)?;
    let pass = || backbone.forward(&crops).map(drop);
    Ok(one * count as f64 / fastest(pass, config, device)?.as_secs_f64().max(1e-9))
}

fn zeros(count: usize, size: usize, config: &Config, device: &Device) -> candle_core::Result<Tensor> {
    Tensor::zeros((count, config.data.channels, size, size), DType::F32, device)
}

/// The time of the fastest of a few passes.
fn fastest(pass: impl Fn() -> candle_core::Result<()>, config: &Config, device: &Device) -> Result<Duration, Error> {
    let timed = || -> Result<Duration, Error> {
        let start = Instant::now();
        autocast(config.optim.precision, &pass)?;
        device.synchronize()?;
        Ok(start.elapsed())
    };
    // The first pass makes buffers and starts threads.
    let mut best = timed()?;
    let start = Instant::now();
    for number in 0..if best > AMPLE { 0 } else { PASSES } {
        if number >= 2 && start.elapsed() > ENOUGH {
            break;
        }
        best = best.min(timed()?);
    }
    Ok(best)
}

impl Pace {
    /// The estimate for a run of `steps` steps of which `left` are to be done.
    pub(crate) fn estimate(&self, config: &Config, steps: usize, left: usize) -> Result<Estimate, Error> {
        let step = self.step(config)?;
        let mut estimate = Estimate { step, left: step * left as f64, shorter: Vec::new() };
        if estimate.left > LONG {
            estimate.shorter = shorter(config, self, steps, step * steps as f64);
        }
        Ok(estimate)
    }

    /// Seconds of a step of `config`, whose network may be another one than that which was measured.
    fn step(&self, config: &Config) -> Result<f64, Error> {
        let vit = config.vit()?;
        let mut flops = work::flops(config, &vit);
        if config.optim.recompute {
            let of = |(count, size): (usize, usize)| count as f64 * work::backbone(config, &vit, size);
            flops += work::crops(config).into_iter().map(of).sum::<f64>();
        }
        let computing = flops / self.rate.max(1e-9);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if config.data.workers == 0 { cores } else { config.data.workers };
        let busy = threads.min(config.optim.batch_size).min(cores);
        Ok(match self.on_cpu {
            // The threads that load take cores away from those that compute.
            true => computing + self.first_batch * busy as f64 / cores as f64,
            false => computing.max(self.first_batch),
        })
    }
}

/// Ways to shorten a run of `steps` steps and `total` seconds.
fn shorter(config: &Config, pace: &Pace, steps: usize, total: f64) -> Vec<Shorter> {
    let mut ways = Vec::new();
    let epochs = config.optim.epochs;
    if epochs > 1 && config.optim.max_steps.is_none() {
        let fewer = ((epochs as f64 * NIGHT / total) as usize).clamp(1, epochs / 2);
        let seconds = total * fewer as f64 / epochs as f64;
        ways.push(Shorter { flags: format!("--epochs {fewer}"), seconds, then: None });
    }
    let mut with = |flags: String, other: Config, then| {
        let seconds = other.check().and_then(|()| pace.step(&other)).map(|step| step * steps as f64);
        ways.extend(seconds.ok().filter(|s| *s < 0.95 * total).map(|seconds| Shorter { flags, seconds, then }));
    };
    let (mut heads, mut flags) = (config.clone(), Vec::new());
    let head = &mut heads.head;
    let fields = [&mut head.out_dim, &mut head.out_dim_selfpatch, &mut head.hidden_dim];
    let names = ["--out-dim ", "--out-dim-selfpatch ", "--set head.hidden_dim="];
    for ((field, small), name) in fields.into_iter().zip(SMALL_HEADS).zip(names) {
        if *field > small {
            *field = small;
            flags.push(format!("{name}{small}"));
        }
    }
    with(flags.join(" "), heads, None);
    // Half the side, in whole patches.
    let patch = config.model.patch_size.max(1);
    let half = |size: usize| (size / 2).div_ceil(patch) * patch;
    let mut small = config.clone();
    small.crops.globals.iter_mut().for_each(|view| view.size = half(view.size));
    small.crops.locals.size = half(small.crops.locals.size);
    let mut flags = small.crops.globals.first().map_or(String::new(), |v| format!("--global-crops-size {}", v.size));
    if small.crops.local_count > 0 {
        flags += &format!(" --local-crops-size {}", small.crops.locals.size);
    }
    with(flags, small, Some("smaller images first; then few epochs of the full size with --init-from"));
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Preset, Settings, Trainer};

    const PACE: Pace = Pace { rate: 1e11, first_batch: 0.2, on_cpu: false };

    #[test]
    fn a_long_run_is_told_what_shortens_it() -> Result<(), Error> {
        let mut config = Preset::Folder.config();
        config.data.path = "photos".into();
        let steps = 100 * 1000;
        let of = |left| PACE.estimate(&config, steps, left);
        let all = of(steps)?;
        assert!(all.left > LONG && (all.left - 2. * of(steps / 2)?.left).abs() < 1.);
        let [epochs, heads, images] = &all.shorter[..] else { panic!("{all:?}") };
        assert!(epochs.flags.starts_with("--epochs ") && epochs.seconds <= NIGHT, "{epochs:?}");
        assert_eq!(heads.flags, "--out-dim 4096 --out-dim-selfpatch 1024 --set head.hidden_dim=512");
        assert_eq!(images.flags, "--global-crops-size 112 --local-crops-size 48");
        assert!(images.seconds < 0.4 * all.left && heads.seconds < all.left, "{all:?}");
        assert_eq!(of(10)?.shorter, []);
        Ok(())
    }

    #[test]
    fn loading_is_added_where_it_takes_cores_and_hidden_elsewhere() -> Result<(), Error> {
        let mut config = Preset::Folder.config();
        config.data.workers = 1;
        let step = |config: &Config, first_batch, on_cpu| Pace { rate: 1e12, first_batch, on_cpu }.step(config);
        let computing = step(&config, 0., true)?;
        assert_eq!(step(&config, 0.5 * computing, false)?, computing);
        assert_eq!(step(&config, 3. * computing, false)?, 3. * computing);
        assert!(step(&config, 0.5, true)? > computing);
        let one = step(&config, 0.5, true)?;
        config.data.workers = 0;
        let all = step(&config, 0.5, true)?;
        assert!(one <= all && all <= computing + 0.5, "{one}, {all}");
        config.optim.recompute = true;
        assert!(step(&config, 0., true)? > 1.1 * computing);
        Ok(())
    }

    #[test]
    fn every_network_has_a_rate() -> Result<(), Error> {
        for (locals, accumulate, batch_norm) in [(4, 1, false), (0, 3, false), (4, 1, true)] {
            let mut config = Preset::Default.config();
            config.head.use_bn_in_head = batch_norm;
            (config.crops.local_count, config.optim.accumulate) = (locals, accumulate);
            let trainer = Trainer::new(Settings::of(&config)?, DType::F32, &Device::Cpu)?;
            let values = || -> Result<Vec<Vec<f32>>, Error> {
                let all = trainer.teacher_params.iter().chain(trainer.student_params.iter());
                Ok(all.map(|(_, v)| v.flatten_all()?.to_vec1()).collect::<candle_core::Result<_>>()?)
            };
            let before = values()?;
            let rate = rate(&config, &trainer, &Device::Cpu)?;
            assert!(rate > 1e7 && rate.is_finite(), "{rate}");
            assert_eq!(values()?, before, "measuring changes nothing");
        }
        Ok(())
    }
}
