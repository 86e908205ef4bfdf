//! A tiny run, and ways to make it go.
#![allow(dead_code)] // each test program uses some of it

use selfpatch_losses::At;
use selfpatch_nn::random::normal;
use selfpatch_run::{Event, Resume, Session};
use selfpatch_train::candle_core::{Device, Tensor};
use selfpatch_train::config::{Config, DinoObjective, ImageObjective};
use selfpatch_train::{Error, Hyper, Measure, Network, Preset, run};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// 8 steps of 4 images, both networks of a few thousand parameters.
pub fn tiny(folder: &Path) -> Config {
    let mut c = Preset::Default.config();
    c.output_dir = folder.join("run");
    c.data.procedural_images = 16;
    c.data.procedural_size = 64;
    c.data.workers = 1;
    c.model.embed_dim = 12;
    c.model.depth = 2;
    c.model.drop_path_rate = 0.2;
    c.objective = ImageObjective::Dino(DinoObjective::default());
    c.head.out_dim = 32;
    c.head.out_dim_selfpatch = 24;
    c.head.hidden_dim = 16;
    c.head.bottleneck_dim = 8;
    c.optim.batch_size = 4;
    c.optim.epochs = 2;
    c
}

/// Random crops of the sizes of [`tiny`], 2 global and 4 local views of each image.
pub fn crops(images: usize) -> Vec<Tensor> {
    [(2, 48), (4, 24)]
        .map(|(views, size)| normal(size as u64, (views * images, 3, size, size)).expect("random"))
        .to_vec()
}

pub const HYPER: Hyper =
    Hyper { lr: 1e-3, weight_decay: 0.04, momentum: 0.9, patch_teacher_temp: 0.04, at: At { step: 0, epoch: 9 } };

/// A judge that is not called.
pub fn unasked(_: Measure, _: &Network) -> Result<f64, String> {
    panic!("every is 0")
}

/// Never set.
static ON: AtomicBool = AtomicBool::new(false);

/// A session that nobody stops.
pub fn session(overwrite: bool) -> Session<'static> {
    Session { overwrite, resume: Resume::Auto, overrides: &[], asked: &[], stop: &ON }
}

pub fn go(config: &Config, overwrite: bool) -> Result<Vec<f64>, Error> {
    go_on(config, &session(overwrite))
}

pub fn go_on(config: &Config, session: &Session) -> Result<Vec<f64>, Error> {
    let mut losses = Vec::new();
    run(config, session, &Device::Cpu, &mut unasked, |event| {
        if let Event::Step(record) = event {
            losses.push(record.number("train_loss"));
        }
    })?;
    Ok(losses)
}
