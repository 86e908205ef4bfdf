//! Procedural videos with exact masks, for evaluation.

use std::sync::OnceLock;

use super::scene::Scene;
use crate::random::{Purpose, stream};
use crate::{Error, Mask, Rgb, VideoSource};

/// Objects in every video.
const OBJECTS: usize = 4;
/// Pixels that every object shows in the first frame.
const VISIBLE: usize = 200;
/// Scenes to try before giving up on a size that cannot show four objects.
const ATTEMPTS: u64 = 1000;

/// Square videos of four moving objects, all of them well visible in the first frame.
///
/// Frames and masks are rendered when asked for. No scene is shared with
/// [`ProceduralImages`](crate::ProceduralImages), whatever the seeds.
#[derive(Debug)]
pub struct ProceduralVideos {
    seed: u64,
    frames: usize,
    size: usize,
    /// The first acceptable scene of each sequence, `None` where all attempts failed.
    scenes: Vec<OnceLock<Option<Scene>>>,
}

impl ProceduralVideos {
    /// `sequences` videos of `frames` frames of `size` x `size` pixels.
    pub fn new(seed: u64, sequences: usize, frames: usize, size: usize) -> Self {
        let scenes = (0..sequences).map(|_| OnceLock::new()).collect();
        Self { seed, frames, size, scenes }
    }

    fn name(&self, index: usize) -> String {
        format!("scene-{index:02}")
    }

    /// The number and scene of `sequence`, once `frame` is known to exist.
    fn scene(&self, sequence: &str, frame: usize) -> Result<(usize, &Scene), Error> {
        let index = self.index(sequence)?;
        if frame >= self.frames {
            return Err(Error::Missing {
                what: format!("frame {frame} in {sequence}"),
                valid: format!("it has {}, counted from 0", self.frames),
            });
        }
        let scene = self.scenes[index].get_or_init(|| self.find(index)).as_ref();
        let scene = scene.ok_or_else(|| Error::Config {
            field: "size",
            reason: format!(
                "{OBJECTS} objects do not fit into {} x {} pixels; 96 and more work well",
                self.size, self.size
            ),
        })?;
        Ok((index, scene))
    }

    fn index(&self, sequence: &str) -> Result<usize, Error> {
        sequence
            .strip_prefix("scene-")
            .and_then(|number| number.parse().ok())
            .filter(|&i| i < self.scenes.len() && self.name(i) == sequence)
            .ok_or_else(|| Error::Missing {
                what: format!("sequence {sequence:?}"),
                valid: format!("names are scene-00, scene-01 and so on, {} in all", self.scenes.len()),
            })
    }

    /// The first scene in which every object is visible enough.
    fn find(&self, index: usize) -> Option<Scene> {
        (0..ATTEMPTS).find_map(|attempt| {
            let mut rng = stream(self.seed, Purpose::Video, attempt, index as u64);
            let scene = Scene::draw(&mut rng, self.size, OBJECTS);
            let mut visible = [0; OBJECTS + 1];
            for id in scene.labels(0.0).ids {
                visible[usize::from(id)] += 1;
            }
            visible[1..].iter().all(|&pixels| pixels >= VISIBLE).then_some(scene)
        })
    }
}

impl VideoSource for ProceduralVideos {
    fn sequences(&self) -> Vec<String> {
        (0..self.scenes.len()).map(|i| self.name(i)).collect()
    }

    fn frames(&self, sequence: &str) -> Result<usize, Error> {
        self.index(sequence).map(|_| self.frames)
    }

    fn frame(&self, sequence: &str, index: usize) -> Result<Rgb, Error> {
        let (number, scene) = self.scene(sequence, index)?;
        let mut rng = stream(self.seed, Purpose::FrameNoise, index as u64, number as u64);
        Ok(scene.render(index as f32, &mut rng))
    }

    fn mask(&self, sequence: &str, index: usize) -> Result<Option<Mask>, Error> {
        let (_, scene) = self.scene(sequence, index)?;
        Ok(Some(scene.labels(index as f32)))
    }
}
