//! Labelled images whose features overlap, and a probe of them.
#![allow(dead_code)] // each test program uses some of it

use candle_core::{Device, Result, Tensor};
use selfpatch_datasets::{Content, Decoding, Error, Image, ImageSource, Samples};
use selfpatch_eval::images::{Centre, labelled};
use selfpatch_finetune::linear::{Config, Data, Model, Optim, Sets, TASK};
use selfpatch_nn::random::normal;
use selfpatch_run::{Checkpointing, HealthWatch};
use std::path::Path;
use std::sync::Arc;

/// Number of classes.
pub const CLASSES: usize = 8;
/// Side of an image and of what the model sees, in pixels.
const SIDE: usize = 7;
/// Width of a feature.
pub const WIDTH: usize = 24;

/// Noise over a level per channel that each class has for itself.
struct Noise {
    seed: u64,
    count: usize,
    classes: Vec<String>,
}

impl ImageSource for Noise {
    fn len(&self) -> usize {
        self.count
    }
    fn name(&self, index: usize) -> String {
        format!("noise {index}")
    }
    fn label(&self, index: usize) -> Option<u32> {
        Some((index % CLASSES) as u32)
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn read(&self, index: usize) -> std::result::Result<Content, Error> {
        let class = index % CLASSES;
        let noise = normal(self.seed + index as u64, SIDE * SIDE * 3).and_then(|t| t.to_vec1::<f32>());
        let noise = noise.expect("random numbers").into_iter().enumerate();
        let bytes = noise.map(|(i, n)| (128. + 40. * n + if class >> (i % 3) & 1 == 1 { 16. } else { -16. }) as u8);
        let samples = Samples::Bytes(bytes.collect());
        Ok(Content::Image(Image { width: SIDE, height: SIDE, channels: 3, samples }))
    }
}

/// So many images to learn from and to be judged by.
pub fn sets(train: usize, val: usize) -> Sets {
    let set = |seed: u64, count: usize| {
        let classes = (0..CLASSES).map(|c| format!("class {c}")).collect();
        labelled(Arc::new(Noise { seed, count, classes }), usize::MAX).expect("labelled")
    };
    let centre = Centre { short: SIDE, ..Centre::new(Decoding::default(), SIDE) };
    Sets { train: set(0, train), val: set(1 << 32, val), centre }
}

/// Random projections `[B, WIDTH]` of squares.
pub fn encode(squares: &[Samples]) -> Result<Tensor> {
    let values = |square: &Samples| match square {
        Samples::Bytes(bytes) => bytes.iter().map(|b| f32::from(*b) / 128. - 1.).collect::<Vec<_>>(),
        _ => panic!("bytes were given"),
    };
    let pixels: Vec<f32> = squares.iter().flat_map(values).collect();
    let pixels = Tensor::from_vec(pixels, (squares.len(), SIDE * SIDE * 3), &Device::Cpu)?;
    pixels.matmul(&(normal(7, (SIDE * SIDE * 3, WIDTH))? * 0.2)?)
}

/// A probe with cached features.
pub fn config(folder: &Path, epochs: usize) -> Config {
    let model = Model { weights: String::new(), digest: String::new(), feature: String::new(), image_size: SIDE };
    let (path, val) = ("train".into(), "val".into());
    Config {
        task: TASK.into(),
        name: "probe".into(),
        output_dir: folder.join("probe"),
        seed: 0,
        model,
        data: Data { path, val, most: None, augment: false, workers: 1, max_bad: 0. },
        optim: Optim { epochs, batch_size: 64, rates: vec![0.01, 0.1], max_steps: None },
        checkpoint: Checkpointing::default(),
        health: HealthWatch::default(),
    }
}
