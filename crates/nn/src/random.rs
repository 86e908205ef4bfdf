//! Counter-based randomness: every random number is a pure function of (seed, purpose, step, id),
//! so nothing about a generator ever has to be saved to resume a run.

use candle_core::{Device, Result, Shape, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

/// What a stream of random numbers is for; streams of different purposes never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial value of a parameter; the id is [`name_id`] of its name.
    Init = 101,
    /// Stochastic depth; `step` is the training step, the id 0.
    DropPath = 102,
    /// Standard normal numbers of [`normal`].
    Sample = 103,
}

/// The stream for one purpose at one step and id. The four numbers are the ChaCha key.
pub fn stream(seed: u64, purpose: Purpose, step: u64, id: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, purpose as u64, step, id]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Standard normal f32 values on the CPU, the same for the same seed and shape. (candle's own CPU
/// generator cannot be seeded.)
pub fn normal(seed: u64, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    let rng = stream(seed, Purpose::Sample, 0, 0);
    let values: Vec<f32> = StandardNormal.sample_iter(rng).take(shape.elem_count()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// A stable number for a name (64-bit FNV-1a).
pub fn name_id(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::RngCore;

    #[test]
    fn streams_depend_on_every_number() {
        let first = |a, b, c, d| stream(a, b, c, d).next_u64();
        let base = first(1, Purpose::Init, 3, 4);
        assert_eq!(base, first(1, Purpose::Init, 3, 4));
        for other in [
            first(2, Purpose::Init, 3, 4),
            first(1, Purpose::DropPath, 3, 4),
            first(1, Purpose::Init, 4, 4),
            first(1, Purpose::Init, 3, 5),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn names_hash_as_published() {
        assert_eq!(name_id("a"), 0xaf63_dc4c_8601_ec8c); // FNV-1a test vector
    }
}
