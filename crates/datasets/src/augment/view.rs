//! How one kind of view is drawn from an image.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::crop;
use super::drawn::{Drawn, Op};
use super::resize::Filter;
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

    /// Settings that mix the channels of a colour, and are not 0.
    pub(super) fn needs_rgb(&self) -> Vec<&'static str> {
        let of = |name, on: bool| on.then_some(name);
        let jitter = self.jitter > 0.0;
        [
            of("saturation", jitter && self.saturation > 0.0),
            of("hue", jitter && self.hue > 0.0),
            of("grayscale", self.grayscale > 0.0),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Draws a view of an image of (columns, rows, channels).
    pub fn draw(&self, (width, height, channels): (usize, usize, usize), rng: &mut ChaCha8Rng) -> Drawn {
        let window = crop::draw((width, height), self.scale, self.ratio, rng);
        let flip = coin(rng, self.flip);
        let mut ops = Vec::new();
        if coin(rng, self.jitter) {
            self.draw_colours(channels, &mut ops, rng);
        }
        if coin(rng, self.grayscale) {
            ops.push(Op::Grey);
        }
        if coin(rng, self.blur) {
            ops.push(Op::Blur(uniform(rng, self.blur_radius[0], self.blur_radius[1])));
        }
        if coin(rng, self.solarize) {
            ops.push(Op::Solarize);
        }
        Drawn { window, size: self.size, filter: Filter::Bicubic, flip, ops }
    }

    fn draw_colours(&self, channels: usize, ops: &mut Vec<Op>, rng: &mut ChaCha8Rng) {
        let mut order = [0, 1, 2, 3];
        shuffle(rng, &mut order);
        let mut factor = |width: f32| uniform(rng, (1.0 - width).max(0.0), 1.0 + width);
        let brightness = factor(self.brightness);
        let contrast = factor(self.contrast);
        let saturation = factor(self.saturation);
        let gains = (0..channels).map(|_| factor(self.channel_gain)).collect();
        let hue = uniform(rng, -self.hue, self.hue);
        ops.extend(order.into_iter().filter_map(|op| match op {
            0 if self.brightness > 0.0 => Some(Op::Brightness(brightness)),
            1 if self.contrast > 0.0 => Some(Op::Contrast(contrast)),
            2 if self.saturation > 0.0 => Some(Op::Saturation(saturation)),
            3 if self.hue > 0.0 => Some(Op::Hue(f64::from(hue))),
            _ => None,
        }));
        if self.channel_gain > 0.0 {
            ops.push(Op::Gain(gains));
        }
    }
}
