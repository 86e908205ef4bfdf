//! How one kind of view is drawn from an image.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::planes::Planes;
use super::{blur, colour, crop, resize};
use crate::Rgb;
use crate::random::{coin, shuffle, uniform};

/// The distribution of one kind of view. Every random choice is independent.
///
/// A view is cropped and resized, flipped, jittered, turned grey, blurred and solarized, in this
/// order. The jitter applies brightness, contrast, saturation and hue in random order and then
/// the gain of each channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// Rows and columns of the view.
    pub size: usize,
    /// Least and greatest area of the crop, as a part of the image's area.
    pub scale: [f32; 2],
    /// Least and greatest width / height of the crop.
    pub ratio: [f32; 2],
    /// Probability of mirroring left and right.
    pub flip: f32,
    /// Probability of changing the colours.
    pub jitter: f32,
    /// Brightness factor within 1 - this and 1 + this.
    pub brightness: f32,
    /// Contrast factor, likewise.
    pub contrast: f32,
    /// Saturation factor, likewise.
    pub saturation: f32,
    /// Turn of the hue within - this and + this, in full turns.
    pub hue: f32,
    /// Factor of each channel on its own, within 1 - this and 1 + this: a colour cast.
    pub channel_gain: f32,
    /// Probability of dropping all colour.
    pub grayscale: f32,
    /// Probability of a Gaussian blur.
    pub blur: f32,
    /// Least and greatest standard deviation of the blur, in pixels of the view.
    pub blur_radius: [f32; 2],
    /// Probability of inverting all values from 128 on.
    pub solarize: f32,
}

/// What is wrong with a [`ViewConfig`]: the field, and which values are valid.
pub(super) struct Problem {
    pub field: &'static str,
    pub reason: String,
}

impl ViewConfig {
    /// The first field outside its range.
    pub(super) fn problem(&self) -> Option<Problem> {
        let fail = |field, reason| Some(Problem { field, reason });
        if !(1..=4096).contains(&self.size) {
            return fail("size", format!("must be 1 to 4096 pixels, is {}", self.size));
        }
        let parts = [
            ("flip", self.flip, 1.0),
            ("jitter", self.jitter, 1.0),
            ("grayscale", self.grayscale, 1.0),
            ("blur", self.blur, 1.0),
            ("solarize", self.solarize, 1.0),
            ("brightness", self.brightness, f32::MAX),
            ("contrast", self.contrast, f32::MAX),
            ("saturation", self.saturation, f32::MAX),
            ("hue", self.hue, 0.5),
            ("channel_gain", self.channel_gain, 1.0),
        ];
        for (field, value, most) in parts {
            if !(0.0..=most).contains(&value) {
                let most = if most == f32::MAX { "any positive number".into() } else { most.to_string() };
                return fail(field, format!("must be between 0 and {most}, is {value}"));
            }
        }
        // (field, range, whether 0 is allowed, greatest value)
        let ranges = [
            ("scale", self.scale, false, 1.0),
            ("ratio", self.ratio, false, 1000.0),
            ("blur_radius", self.blur_radius, true, 64.0),
        ];
        for (field, [low, high], zero, most) in ranges {
            let positive = if zero { low >= 0.0 } else { low > 0.0 };
            if !(positive && low <= high && high <= most) {
                let least = if zero { "at least 0" } else { "above 0" };
                let reason = format!("must be [least, greatest], {least} and at most {most}, is [{low}, {high}]");
                return fail(field, reason);
            }
        }
        None
    }

    /// Draws a view of `image`, which has pixels: `[3, size, size]`.
    pub(super) fn draw(&self, image: &Rgb, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let window = crop::draw(image, self.scale, self.ratio, rng);
        let pixels = resize::bicubic(image, window, self.size);
        let mut planes = Planes::split(&pixels, self.size, coin(rng, self.flip));
        if coin(rng, self.jitter) {
            self.change_colours(&mut planes, rng);
        }
        if coin(rng, self.grayscale) {
            colour::grey(&mut planes);
        }
        if coin(rng, self.blur) {
            let radius = uniform(rng, self.blur_radius[0], self.blur_radius[1]);
            blur::gaussian(&mut planes, radius);
        }
        if coin(rng, self.solarize) {
            colour::solarize(&mut planes);
        }
        planes.into_bytes()
    }

    fn change_colours(&self, planes: &mut Planes, rng: &mut ChaCha8Rng) {
        let mut order = [0, 1, 2, 3];
        shuffle(rng, &mut order);
        let mut factor = |width: f32| uniform(rng, (1.0 - width).max(0.0), 1.0 + width);
        let brightness = factor(self.brightness);
        let contrast = factor(self.contrast);
        let saturation = factor(self.saturation);
        let gains = [(); 3].map(|()| factor(self.channel_gain));
        let hue = uniform(rng, -self.hue, self.hue);
        for op in order {
            match op {
                0 if self.brightness > 0.0 => colour::brightness(planes, brightness),
                1 if self.contrast > 0.0 => colour::contrast(planes, contrast),
                2 if self.saturation > 0.0 => colour::saturation(planes, saturation),
                3 if self.hue > 0.0 => super::hue::turn(planes, hue),
                _ => {}
            }
        }
        if self.channel_gain > 0.0 {
            colour::gain(planes, gains);
        }
    }
}
