//! A textured shape that moves, turns, breathes and changes its outline.

use std::f32::consts::TAU;
use std::ops::Range;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::texture::{PALETTE, Texture, Turn};
use crate::random::uniform;

/// Largest amplitude of each harmonic of the outline, the second harmonic first.
const HARMONICS: [f32; 4] = [0.22, 0.14, 0.08, 0.06];
/// No outline reaches further than this many radii: 1 + the sum of the amplitudes + some room.
const REACH: f32 = 1.55;

/// One object of a scene, at any time.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub texture: Texture,
    radius: f32,
    start: [f32; 2],
    velocity: [f32; 2],
    angle: f32,
    spin: f32,
    harmonics: [Harmonic; 4],
    breath: Breath,
}

/// One term of the outline, amplitude * cos(h theta + phase + drift t).
#[derive(Clone, Copy, Debug)]
struct Harmonic {
    amplitude: f32,
    phase: f32,
    drift: f32,
}

/// The scale 1 + depth sin(rate t + phase).
#[derive(Clone, Copy, Debug)]
struct Breath {
    depth: f32,
    rate: f32,
    phase: f32,
}

impl Object {
    /// An object of a scene of `size` pixels.
    pub fn draw(rng: &mut ChaCha8Rng, palette: &[[f32; 3]; PALETTE], size: usize) -> Self {
        let speed = uniform(rng, 1.0, 4.0);
        let (sin, cos) = uniform(rng, 0.0, TAU).sin_cos();
        let radius = uniform(rng, 11.0, 24.0);
        let texture = Texture::draw(rng, palette);
        let size = size as f32;
        Self {
            texture,
            radius,
            start: [0, 1].map(|_| uniform(rng, 0.15 * size, 0.85 * size)),
            velocity: [speed * cos, speed * sin],
            angle: uniform(rng, 0.0, TAU),
            spin: uniform(rng, -0.09, 0.09),
            harmonics: HARMONICS.map(|most| Harmonic {
                amplitude: uniform(rng, 0.0, most),
                phase: uniform(rng, 0.0, TAU),
                drift: 0.06 * rng.sample::<f32, _>(StandardNormal),
            }),
            breath: Breath {
                depth: uniform(rng, 0.0, 0.2),
                rate: TAU / uniform(rng, 12.0, 40.0),
                phase: uniform(rng, 0.0, TAU),
            },
        }
    }

    /// Where the object is at time `t` in a scene of `size` pixels.
    pub fn at(&self, t: f32, size: usize) -> Placed {
        let span = size as f32;
        let place = |axis: usize| bounce(self.start[axis] + self.velocity[axis] * t, 0.1 * span, 0.9 * span);
        let centre = [place(0), place(1)];
        let scale = 1.0 + self.breath.depth * (self.breath.rate * t + self.breath.phase).sin();
        let (sin, cos) = (self.angle + self.spin * t).sin_cos();
        let (sin, cos) = (sin / scale, cos / scale);
        let reach = REACH * self.radius * scale;
        let range = |c: f32| {
            let from = (c - reach).max(0.0) as usize;
            from.min(size)..((c + reach) as usize + 2).min(size)
        };
        Placed {
            columns: range(centre[0]),
            rows: range(centre[1]),
            turn: Turn { cos, sin, u0: -cos * centre[0] - sin * centre[1], v0: sin * centre[0] - cos * centre[1] },
            scale,
            radius: self.radius,
            outline: self.harmonics.map(|h| {
                let (sin, cos) = (h.phase + h.drift * t).sin_cos();
                [h.amplitude * cos, h.amplitude * sin]
            }),
        }
    }
}

/// An object at one moment.
pub(super) struct Placed {
    /// Columns that the object may cover.
    pub columns: Range<usize>,
    /// Rows that the object may cover.
    pub rows: Range<usize>,
    /// Pixels to object coordinates.
    pub turn: Turn,
    scale: f32,
    radius: f32,
    /// Amplitude times (cos, sin) of the phase of each harmonic.
    outline: [[f32; 2]; 4],
}

impl Placed {
    /// How much of each pixel of row `y` the object covers, `out` being as long as `columns`.
    /// Returns the part of `out` outside of which everything is 0.
    pub fn coverage(&self, y: usize, out: &mut [f32]) -> Range<usize> {
        let Turn { cos, sin, u0, v0 } = self.turn;
        let (row_u, row_v) = (sin * y as f32 + u0, cos * y as f32 + v0);
        for (alpha, x) in out.iter_mut().zip(self.columns.start..) {
            let x = x as f32;
            *alpha = self.alpha(cos * x + row_u, row_v - sin * x);
        }
        let first = out.iter().position(|&a| a > 0.0).unwrap_or(out.len());
        let last = out.iter().rposition(|&a| a > 0.0).map_or(first, |k| k + 1);
        first..last
    }

    /// Coverage of the point (u, v): one inside, zero outside, a ramp of one pixel between.
    #[inline(always)]
    fn alpha(&self, u: f32, v: f32) -> f32 {
        let distance = (u * u + v * v).sqrt();
        let inverse = 1.0 / distance.max(1e-6);
        // Powers of the unit direction are the cosine and sine of multiples of its angle.
        let one = [u * inverse, v * inverse];
        let times = |a: [f32; 2], b: [f32; 2]| [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]];
        let two = times(one, one);
        let three = times(two, one);
        let angles = [two, three, times(two, two), times(three, two)];
        let mut reach = 1.0;
        for (direction, h) in angles.iter().zip(&self.outline) {
            reach += h[0] * direction[0] - h[1] * direction[1];
        }
        ((self.radius * reach - distance) * self.scale + 0.5).clamp(0.0, 1.0)
    }
}

/// `position` reflected back and forth between `low` and `high`.
fn bounce(position: f32, low: f32, high: f32) -> f32 {
    let width = high - low;
    if width <= 0.0 {
        return low;
    }
    let folded = (position - low).rem_euclid(2.0 * width);
    low + if folded > width { 2.0 * width - folded } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn bounces_between_the_walls() {
        for (position, expected) in [(3.0, 3.0), (11.0, 9.0), (0.0, 4.0), (19.0, 3.0), (-7.0, 9.0)] {
            assert_eq!(bounce(position, 2.0, 10.0), expected);
        }
        assert_eq!(bounce(5.0, 0.0, 0.0), 0.0);
    }

    #[test]
    fn coverage_agrees_with_the_outline_in_polar_coordinates() {
        let palette = [[0.5; 3]; PALETTE];
        for id in 0..10 {
            let object = Object::draw(&mut stream(2, Purpose::Scene, 0, id), &palette, 96);
            let placed = object.at(7.5, 96);
            let y = (placed.rows.start + placed.rows.end) / 2;
            let mut row = vec![0.0; placed.columns.len()];
            placed.coverage(y, &mut row);
            for (&got, x) in row.iter().zip(placed.columns.clone()) {
                let Turn { cos, sin, u0, v0 } = placed.turn;
                let (x, y) = (x as f32, y as f32);
                let (u, v) = (cos * x + sin * y + u0, cos * y - sin * x + v0);
                let theta = v.atan2(u);
                let mut reach = 1.0;
                for (k, h) in object.harmonics.iter().enumerate() {
                    reach += h.amplitude * ((k + 2) as f32 * theta + h.phase + h.drift * 7.5).cos();
                }
                let edge = (object.radius * reach - u.hypot(v)) * placed.scale + 0.5;
                assert!((got - edge.clamp(0.0, 1.0)).abs() < 1e-3);
            }
        }
    }
}
