//! Patterns: a few plane waves, squashed to a weight that mixes two colours.

use std::f32::consts::TAU;

use rand_chacha::ChaCha8Rng;

use crate::random::{below, log_uniform, uniform};

/// Colours shared by everything in a scene.
pub(super) const PALETTE: usize = 4;

/// One plane wave, amplitude * sin(kx u + ky v + phase).
#[derive(Clone, Debug)]
struct Wave {
    kx: f32,
    ky: f32,
    phase: f32,
    amplitude: f32,
}

/// A pattern in its own coordinates (u, v).
#[derive(Clone, Debug)]
pub(super) struct Texture {
    waves: Vec<Wave>,
    sharpness: f32,
    colours: [[f32; 3]; 2],
}

/// Pixels to pattern coordinates: u = cos x + sin y + u0, v = cos y - sin x + v0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub cos: f32,
    pub sin: f32,
    pub u0: f32,
    pub v0: f32,
}

impl Texture {
    /// Stripes, plaid, spots, noise of one scale or noise of many, equally likely.
    pub fn draw(rng: &mut ChaCha8Rng, palette: &[[f32; 3]; PALETTE]) -> Self {
        let kind = below(rng, 5);
        let base = log_uniform(rng, 5.0, 16.0);
        let angle = uniform(rng, 0.0, TAU);
        // (direction, period) of each wave.
        let shape: Vec<(f32, f32)> = match kind {
            0 => vec![(angle, base)],
            1 => vec![(angle, base), (angle + TAU / 4.0, base)],
            2 => (0..3).map(|k| (angle + TAU / 6.0 * k as f32, base)).collect(),
            3 => (0..6).map(|_| (uniform(rng, 0.0, TAU), base * uniform(rng, -0.5, 0.5).exp())).collect(),
            _ => (0..6).map(|_| (uniform(rng, 0.0, TAU), log_uniform(rng, 4.0, 40.0))).collect(),
        };
        // The squared amplitudes sum to one; long waves dominate noise of many scales.
        let weight = |period: f32| if kind == 4 { period } else { 1.0 };
        let norm = shape.iter().map(|&(_, p)| weight(p).powi(2)).sum::<f32>().sqrt();
        let waves = shape
            .iter()
            .map(|&(direction, period)| Wave {
                kx: TAU * direction.cos() / period,
                ky: TAU * direction.sin() / period,
                phase: uniform(rng, 0.0, TAU),
                amplitude: weight(period) / norm,
            })
            .collect();
        let first = below(rng, PALETTE);
        let second = (first + 1 + below(rng, PALETTE - 1)) % PALETTE;
        let sharpness = 1.4 * log_uniform(rng, 0.8, 4.0);
        Self { waves, sharpness, colours: [palette[first], palette[second]] }
    }

    /// The colour where the mixing weight is 0, and the difference to where it is 1.
    pub fn ramp(&self) -> ([f32; 3], [f32; 3]) {
        let [a, b] = self.colours;
        (a, [b[0] - a[0], b[1] - a[1], b[2] - a[2]])
    }

    /// Prepares painting the columns `left..left + width`.
    pub fn brush(&self, turn: Turn, left: usize, width: usize) -> Brush {
        let waves = self
            .waves
            .iter()
            .map(|w| {
                let per_x = w.kx * turn.cos - w.ky * turn.sin;
                let angle = |x: usize| per_x * (left + x) as f32;
                RunningWave {
                    cos: (0..width).map(|x| angle(x).cos()).collect(),
                    sin: (0..width).map(|x| angle(x).sin()).collect(),
                    per_y: w.kx * turn.sin + w.ky * turn.cos,
                    start: w.kx * turn.u0 + w.ky * turn.v0 + w.phase,
                    amplitude: self.sharpness * w.amplitude,
                }
            })
            .collect();
        Brush { waves }
    }
}

/// A texture seen by a rectangle of pixels. A plane wave splits into functions of the row and of
/// the column, sin(a + b) = sin a cos b + cos a sin b, so a row costs two products per pixel.
pub(super) struct Brush {
    waves: Vec<RunningWave>,
}

struct RunningWave {
    cos: Vec<f32>,
    sin: Vec<f32>,
    per_y: f32,
    start: f32,
    amplitude: f32,
}

impl Brush {
    /// Mixing weights in 0..=1 of row `y`, columns `from..from + out.len()` of the brush.
    pub fn row(&self, y: usize, from: usize, out: &mut [f32]) {
        out.fill(0.0);
        for wave in &self.waves {
            let (sin, cos) = (wave.start + wave.per_y * y as f32).sin_cos();
            let (with_cos, with_sin) = (wave.amplitude * sin, wave.amplitude * cos);
            let columns = wave.cos.iter().zip(&wave.sin).skip(from);
            for (sum, (c, s)) in out.iter_mut().zip(columns) {
                *sum += with_cos * c + with_sin * s;
            }
        }
        for weight in out {
            *weight = 0.5 + 0.5 * tanh(*weight);
        }
    }
}

/// Hyperbolic tangent by the seventh convergent of its continued fraction, within 1e-4.
fn tanh(x: f32) -> f32 {
    let x = x.clamp(-4.97, 4.97); // where the fraction reaches one
    let s = x * x;
    let over = x * (135_135.0 + s * (17_325.0 + s * (378.0 + s)));
    over / (135_135.0 + s * (62_370.0 + s * (3_150.0 + s * 28.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn the_fast_tangent_is_within_a_ten_thousandth() {
        for k in -1000..=1000 {
            let x = k as f32 / 100.0;
            assert!((tanh(x) - x.tanh()).abs() < 1e-4, "{x}");
        }
    }

    #[test]
    fn rows_agree_with_the_plain_formula() {
        let palette = [[0.1, 0.2, 0.3]; PALETTE];
        for id in 0..20 {
            let texture = Texture::draw(&mut stream(1, Purpose::Scene, 0, id), &palette);
            let turn = Turn { cos: 0.8, sin: 0.6, u0: 3.5, v0: -40.0 };
            let brush = texture.brush(turn, 10, 60);
            let mut row = [0.0; 50];
            brush.row(33, 5, &mut row);
            for (k, &got) in row.iter().enumerate() {
                let (x, y) = ((10 + 5 + k) as f32, 33.0);
                let (u, v) = (0.8 * x + 0.6 * y + 3.5, 0.8 * y - 0.6 * x - 40.0);
                let wave = |w: &Wave| w.amplitude * (w.kx * u + w.ky * v + w.phase).sin();
                let sum: f32 = texture.waves.iter().map(wave).sum();
                let want = 0.5 + 0.5 * (texture.sharpness * sum).tanh();
                // f32 angles of some hundred radians, times a slope of up to 7.
                assert!((got - want).abs() < 2e-3, "{got} {want}");
            }
        }
    }
}
