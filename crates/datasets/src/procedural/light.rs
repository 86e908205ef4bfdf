//! Light that flickers, changes colour and falls off across the picture.

use std::f32::consts::TAU;

use rand_chacha::ChaCha8Rng;

use crate::random::uniform;

/// Brightness and colour of the light over time and space.
#[derive(Clone, Debug)]
pub(super) struct Light {
    gain: Swing,
    colour: [Swing; 3],
    direction: f32,
    turning: f32,
    slope: f32,
}

/// 1 + depth sin(rate t + phase).
#[derive(Clone, Copy, Debug)]
struct Swing {
    depth: f32,
    rate: f32,
    phase: f32,
}

impl Swing {
    fn draw(rng: &mut ChaCha8Rng, depth: f32, periods: [f32; 2]) -> Self {
        let phase = uniform(rng, 0.0, TAU);
        let rate = TAU / uniform(rng, periods[0], periods[1]);
        Self { depth, rate, phase }
    }

    fn at(self, t: f32) -> f32 {
        1.0 + self.depth * (self.rate * t + self.phase).sin()
    }
}

impl Light {
    /// Light of a scene.
    pub fn draw(rng: &mut ChaCha8Rng) -> Self {
        let direction = uniform(rng, 0.0, TAU);
        let turning = uniform(rng, -0.05, 0.05);
        let slope = uniform(rng, 0.0, 0.25);
        let depth = uniform(rng, 0.05, 0.2);
        let colour = [0, 1, 2].map(|_| Swing::draw(rng, depth, [16.0, 40.0]));
        let depth = uniform(rng, 0.1, 0.3);
        let gain = Swing::draw(rng, depth, [12.0, 32.0]);
        Self { gain, colour, direction, turning, slope }
    }

    /// Factor of each channel at time `t`.
    pub fn gains(&self, t: f32) -> [f32; 3] {
        self.colour.map(|c| self.gain.at(t) * c.at(t))
    }

    /// The gradient at time `t` in a scene of `size` pixels: the factor at the pixel (0, 0), and
    /// what a step to the right and a step down add to it.
    pub fn gradient(&self, t: f32, size: usize) -> [f32; 3] {
        let (sin, cos) = (self.direction + self.turning * t).sin_cos();
        let half = size as f32 / 2.0;
        let (right, down) = (self.slope * cos / half, self.slope * sin / half);
        [1.0 - half * (right + down), right, down]
    }
}
