//! What looking after a run costs: health metrics, log, report, checkpoints.

use crate::bounds::whole;
use crate::machine;
use crate::step::{HYPER, Shape, crops};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use selfpatch_losses::{Dino, Projected, TeacherViews, signs};
use selfpatch_nn::Backbone;
use selfpatch_nn::ops::Activations;
use selfpatch_nn::transfer::to_host;
use selfpatch_run::checkpoint::{Moment, write};
use selfpatch_train::{Memory, Settings, Trainer};
use selfpatch_vit::Pass;
use std::time::Instant;

/// Global views of an image.
const GLOBALS: usize = 2;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pub shape: Shape,
    /// Repetitions; the median counts
    #[arg(long, default_value_t = 5, value_parser = whole(1, 100000))]
    pub repeats: usize,
}

pub fn run(args: &Args) -> Result<()> {
    let shape = &args.shape;
    let threads = shape.threads.unwrap_or_else(machine::cores);
    machine::set_threads(threads)?;
    let mut config = shape.config();
    let folder = std::env::temp_dir().join(format!("selfpatch-upkeep-{}", std::process::id()));
    config.output_dir = folder.clone();
    Memory::admit(&config, 0)?;
    let crops = crops(&config)?;
    let mut trainer =
        Trainer::new(Settings::of(&config).context("these sizes make no network")?, DType::F32, &Device::Cpu)?;
    trainer.step(&crops, shape.batch, 0, &HYPER)?;
    let repeats = args.repeats.max(1);
    let step = median(repeats, |i| trainer.step(&crops, shape.batch, i + 1, &HYPER).map(drop).map_err(Into::into))?;

    let patches = trainer.student().backbone.patches(&crops)?;
    let (teacher, pass) = (trainer.teacher_rows(&patches)?, Pass { survivals: None, activations: Activations::Keep });
    let student = trainer.student_rows(&patches, &pass, HYPER.at.epoch)?;
    let logits = |rows: &Projected| -> Result<Tensor> {
        let logits = rows.logits()?;
        Ok(logits.reshape((logits.dim(0)? / shape.batch, shape.batch, logits.dim(1)?))?)
    };
    let views = TeacherViews::of(&logits(&teacher.class)?, GLOBALS)?;
    let dino = Dino::new(config.head.out_dim, 0.9, DType::F32, &Device::Cpu)?;
    let term = dino.loss_of_logits(&logits(&student.class)?, &views, dino.temperature.at(0))?;
    let health = median(repeats, |_| {
        for sign in signs(&term, &views, &teacher.class.rows)? {
            (sign.read)(&to_host(&sign.values)?);
        }
        Ok(())
    })?;

    let copy = median(repeats, |_| trainer.state(Vec::new()).map(drop).map_err(Into::into))?;
    let state = trainer.state(Vec::new())?;
    let moment = Moment { step: 1, images: 1 };
    let written = median(repeats, |_| write(&config, moment, &state, None).map(drop).map_err(Into::into))?;
    std::fs::remove_dir_all(&folder)?;
    let interval = 60. * config.checkpoint.every_minutes;
    let percent = |seconds: f64, of: f64| 100. * seconds / of;
    say!("{}, {} images, {threads} threads: {:.0} ms per step", shape.arch, shape.batch, 1e3 * step);
    say!("health metrics: {:.2} ms, {:.2} % of a step", 1e3 * health, percent(health, step));
    say!(
        "checkpoint of {:.2} GB: {:.0} ms to copy (the training waits), {:.0} ms to write, sync and digest (beside it)",
        state.bytes() as f64 / 1e9,
        1e3 * copy,
        1e3 * written
    );
    say!(
        "every {:.0} minutes: {:.3} % of the time waiting, at most {:.2} % of it with one core fewer",
        config.checkpoint.every_minutes,
        percent(copy, interval),
        percent(written, interval)
    );
    Ok(())
}

fn median(repeats: usize, mut work: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let mut took = Vec::with_capacity(repeats);
    for i in 0..repeats {
        let start = Instant::now();
        work(i)?;
        took.push(start.elapsed().as_secs_f64());
    }
    Ok(machine::median(took))
}
