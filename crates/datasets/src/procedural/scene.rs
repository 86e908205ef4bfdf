//! A scene: background, objects in painter's order, light, blur and noise.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::blur::gaussian;
use super::light::Light;
use super::object::Object;
use super::texture::{PALETTE, Texture, Turn};
use crate::random::uniform;
use crate::{Mask, Rgb};

/// Everything that is drawn once; frames at any time follow from it, but for the noise.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    size: usize,
    background: Texture,
    pan: [f32; 2],
    light: Light,
    blur: f32,
    noise: f32,
    objects: Vec<Object>,
}

impl Scene {
    /// A square scene of `size` pixels with `objects` objects.
    pub fn draw(rng: &mut ChaCha8Rng, size: usize, objects: usize) -> Self {
        let palette = [(); PALETTE].map(|_| [(); 3].map(|_| uniform(rng, 0.1, 0.9)));
        Self {
            size,
            background: Texture::draw(rng, &palette),
            pan: [(); 2].map(|_| 0.8 * rng.sample::<f32, _>(StandardNormal)),
            light: Light::draw(rng),
            blur: uniform(rng, 0.0, 0.8),
            noise: uniform(rng, 0.005, 0.03),
            objects: (0..objects).map(|_| Object::draw(rng, &palette, size)).collect(),
        }
    }

    /// The picture at time `t`; `rng` draws the noise.
    pub fn render(&self, t: f32, rng: &mut ChaCha8Rng) -> Rgb {
        let mut planes = self.paint(t);
        if self.blur > 0.3 {
            let mut scratch = Vec::with_capacity(self.size * self.size);
            for plane in &mut planes {
                gaussian(plane, self.size, self.blur, &mut scratch);
            }
        }
        self.expose(&planes, t, rng)
    }

    /// Which object is seen at each pixel at time `t`: ids from 1, later objects in front.
    pub fn labels(&self, t: f32) -> Mask {
        let n = self.size;
        let mut ids = vec![0; n * n];
        let mut alpha = vec![0.0; n];
        for (object, id) in self.objects.iter().zip(1u8..) {
            let placed = object.at(t, n);
            let alpha = &mut alpha[..placed.columns.len()];
            for y in placed.rows.clone() {
                let covered = placed.coverage(y, alpha);
                let left = y * n + placed.columns.start;
                for k in covered {
                    if alpha[k] > 0.5 {
                        ids[left + k] = id;
                    }
                }
            }
        }
        Mask { width: n, height: n, ids }
    }

    /// Colours before blur and light: three planes.
    fn paint(&self, t: f32) -> [Vec<f32>; 3] {
        let n = self.size;
        let mut planes = [(); 3].map(|()| vec![0.0; n * n]);
        let mut weight = vec![0.0; n];
        let mut alpha = vec![0.0; n];

        let pan = Turn { cos: 1.0, sin: 0.0, u0: -self.pan[0] * t, v0: -self.pan[1] * t };
        let brush = self.background.brush(pan, 0, n);
        let (base, step) = self.background.ramp();
        for y in 0..n {
            brush.row(y, 0, &mut weight);
            for (plane, (base, step)) in planes.iter_mut().zip(base.iter().zip(step)) {
                for (out, w) in plane[y * n..].iter_mut().zip(&weight) {
                    *out = base + step * w;
                }
            }
        }

        for object in &self.objects {
            let placed = object.at(t, n);
            let brush = object.texture.brush(placed.turn, placed.columns.start, placed.columns.len());
            let (base, step) = object.texture.ramp();
            let alpha = &mut alpha[..placed.columns.len()];
            for y in placed.rows.clone() {
                let covered = placed.coverage(y, alpha);
                let weight = &mut weight[..covered.len()];
                brush.row(y, covered.start, weight);
                let left = y * n + placed.columns.start + covered.start;
                let alpha = &alpha[covered];
                for (plane, (base, step)) in planes.iter_mut().zip(base.iter().zip(step)) {
                    for (out, (w, a)) in plane[left..].iter_mut().zip(weight.iter().zip(alpha)) {
                        *out += (base + step * w - *out) * a;
                    }
                }
            }
        }
        planes
    }

    /// Light, noise and eight bits.
    fn expose(&self, planes: &[Vec<f32>; 3], t: f32, rng: &mut ChaCha8Rng) -> Rgb {
        let n = self.size;
        let gains = self.light.gains(t);
        let [corner, right, down] = self.light.gradient(t, n);
        let mut pixels = vec![0; n * n * 3];
        for (i, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            let light = corner + right * (i % n) as f32 + down * (i / n) as f32;
            let noise = self.noise * rng.sample::<f32, _>(StandardNormal);
            for (out, (plane, gain)) in pixel.iter_mut().zip(planes.iter().zip(gains)) {
                *out = ((plane[i] * light * gain + noise).clamp(0.0, 1.0) * 255.0) as u8;
            }
        }
        Rgb { width: n, height: n, pixels }
    }
}
