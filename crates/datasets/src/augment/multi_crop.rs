//! The set of views that one image yields.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::drawn::{Drawn, Picture};
use super::view::ViewConfig;
use crate::random::{Purpose, stream};
use crate::recipe::{Key, Recipe, place, samples};
use crate::{Decoding, Error, Samples};

/// Global views, each with settings of its own, followed by local views that share theirs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiCrop {
    /// The large views, all of one size.
    pub globals: Vec<ViewConfig>,
    /// Every small view.
    pub locals: ViewConfig,
    /// Number of small views, 0 for none.
    pub local_count: usize,
}

impl MultiCrop {
    /// The published settings of DINO and SelfPatch: two global views, the first always blurred,
    /// the second sometimes solarized.
    pub fn dino(
        global_size: usize,
        local_size: usize,
        local_count: usize,
        global_scale: [f32; 2],
        local_scale: [f32; 2],
    ) -> Self {
        let first = ViewConfig {
            size: global_size,
            scale: global_scale,
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            flip: 0.5,
            jitter: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.2,
            hue: 0.1,
            channel_gain: 0.0,
            grayscale: 0.2,
            blur: 1.0,
            blur_radius: [0.1, 2.0],
            solarize: 0.0,
        };
        let second = ViewConfig { blur: 0.1, solarize: 0.2, ..first.clone() };
        let locals = ViewConfig { size: local_size, scale: local_scale, blur: 0.5, ..first.clone() };
        Self { globals: vec![first, second], locals, local_count }
    }

    /// Settings for [`ProceduralImages`](crate::ProceduralImages) of 96 pixels: two views of 48
    /// and four of 24, so that one pixel of the image stays about one pixel of a view.
    pub fn procedural() -> Self {
        let global = ViewConfig {
            size: 48,
            scale: [0.2, 0.6],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            flip: 0.5,
            jitter: 1.0,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.2,
            hue: 0.0,
            channel_gain: 0.2,
            grayscale: 0.0,
            blur: 0.3,
            blur_radius: [0.3, 1.0],
            solarize: 0.0,
        };
        let locals = ViewConfig { size: 24, scale: [0.08, 0.3], ..global.clone() };
        Self { globals: vec![global.clone(), global], locals, local_count: 4 }
    }

    /// Number of views of an image.
    pub fn views(&self) -> usize {
        self.globals.len() + self.local_count
    }

    /// Refuses probabilities outside of 0 to 1, ranges out of order, empty views and global
    /// views of different sizes. The local settings must be valid even if there are no locals.
    pub fn validate(&self) -> Result<(), Error> {
        let Some(first) = self.globals.first() else {
            return Err(Error::Config { field: "globals", reason: "at least one global view is needed".into() });
        };
        for (number, view) in self.globals.iter().enumerate() {
            if let Some(problem) = view.problem() {
                let reason = format!("of global view {}: {}", number + 1, problem.reason);
                return Err(Error::Config { field: problem.field, reason });
            }
            if view.size != first.size {
                let reason = format!("global views must have one size, not {} and {}", first.size, view.size);
                return Err(Error::Config { field: "size", reason });
            }
        }
        if let Some(problem) = self.locals.problem() {
            let reason = format!("of the local views: {}", problem.reason);
            return Err(Error::Config { field: problem.field, reason });
        }
        Ok(())
    }

    /// Refuses settings that need red, green and blue bytes, for data that has other channels or depths.
    pub fn validate_without_rgb(&self) -> Result<(), Error> {
        let kinds = (1..).map(|n| format!("global view {n}")).zip(&self.globals);
        let locals = (self.local_count > 0).then_some(("the local views".to_string(), &self.locals));
        for (kind, view) in kinds.chain(locals) {
            if let Some(field) = view.needs_rgb().first() {
                let reason = format!("of {kind}: needs images of 8-bit RGB; set it to 0 (preset multichannel does)");
                return Err(Error::Config { field, reason });
            }
        }
        Ok(())
    }

    /// Draws view number `view`, the globals first, of an image of (columns, rows, channels).
    pub fn draw(&self, shape: (usize, usize, usize), view: usize, rng: &mut ChaCha8Rng) -> Drawn {
        self.globals.get(view).unwrap_or(&self.locals).draw(shape, rng)
    }

    /// Draws all views that image `id` ([`ImageSource::id`](crate::ImageSource::id)) yields in `epoch`, each
    /// from a random stream of its own.
    pub fn draw_all(&self, shape: (usize, usize, usize), seed: u64, epoch: u64, id: u64) -> Vec<Drawn> {
        let mut rng = stream(seed, Purpose::Crop, epoch, id);
        let draw = |view: usize| {
            rng.set_stream(view as u64);
            rng.set_word_pos(0);
            self.draw(shape, view, &mut rng)
        };
        (0..self.views()).map(draw).collect()
    }
}

/// The views of several images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Crops {
    /// `[G * B, C, S, S]`: the first global view of every image, then the second of every image.
    pub globals: Samples,
    /// `[L * B, C, s, s]` likewise, empty without local views.
    pub locals: Samples,
}

impl Recipe for MultiCrop {
    /// The globals first.
    type Views = Vec<Samples>;
    type Batch = Crops;

    fn check(&self, decoding: &Decoding) -> Result<(), Error> {
        self.validate()?;
        if decoding.is_rgb() { Ok(()) } else { self.validate_without_rgb() }
    }

    fn values(&self) -> f64 {
        let square = |view: &ViewConfig| (view.size as f64).powi(2);
        let global = self.globals.first().map_or(0., square) * self.globals.len() as f64;
        global + self.local_count as f64 * square(&self.locals)
    }

    fn views(&self, picture: &Picture, key: &Key) -> Vec<Samples> {
        let drawn = self.draw_all(picture.shape(), key.seed, key.epoch, key.id);
        drawn.iter().map(|view| picture.view(view)).collect()
    }

    fn empty(&self, images: usize, decoding: &Decoding) -> Crops {
        let of = |views: usize, size: usize| samples(decoding, views * images * decoding.channels * size * size);
        let global = self.globals.first().map_or(0, |view| view.size);
        Crops { globals: of(self.globals.len(), global), locals: of(self.local_count, self.locals.size) }
    }

    fn put(&self, batch: &mut Crops, slot: usize, images: usize, views: Vec<Samples>) {
        let globals = self.globals.len();
        for (number, view) in views.iter().enumerate() {
            let (target, number) = match number.checked_sub(globals) {
                None => (&mut batch.globals, number),
                Some(local) => (&mut batch.locals, local),
            };
            place(target, (number * images + slot) * view.len(), view);
        }
    }
}
