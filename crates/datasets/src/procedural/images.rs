//! Procedural images for pre-training.

use super::scene::Scene;
use crate::random::{Purpose, below, stream, uniform};
use crate::source::{Content, no_image};
use crate::{Error, ImageSource};

/// Square pictures of random scenes with three to five objects, rendered when asked for.
///
/// No scene is shared with [`ProceduralVideos`](crate::ProceduralVideos), whatever the seeds.
#[derive(Clone, Debug)]
pub struct ProceduralImages {
    seed: u64,
    count: usize,
    size: usize,
}

impl ProceduralImages {
    /// `count` images of `size` x `size` pixels; objects are 22 to 48 pixels wide on any size.
    pub fn new(seed: u64, count: usize, size: usize) -> Self {
        Self { seed, count, size }
    }
}

impl ImageSource for ProceduralImages {
    fn len(&self) -> usize {
        self.count
    }

    fn name(&self, index: usize) -> String {
        format!("procedural-{index:06}")
    }

    fn id(&self, index: usize) -> u64 {
        index as u64
    }

    fn read(&self, index: usize) -> Result<Content, Error> {
        if index >= self.count {
            return Err(no_image(index, self.count));
        }
        let mut rng = stream(self.seed, Purpose::Scene, 0, index as u64);
        let objects = 3 + below(&mut rng, 3);
        let scene = Scene::draw(&mut rng, self.size, objects);
        let t = uniform(&mut rng, 0.0, 30.0);
        Ok(Content::Image(scene.render(t, &mut rng).into()))
    }
}
