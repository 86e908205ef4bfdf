//! Random numbers that are a function of what they are for, not of what was drawn before.
//!
//! A stream is named by (seed, purpose, epoch, id), so any worker can draw the numbers of any
//! sample, and resuming in the middle of an epoch needs no saved generator state.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers decides. Streams of different purposes never coincide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The order of the samples of an epoch.
    Order = 1,
    /// Crops and colours of one sample.
    Crop = 2,
    /// A procedural training image.
    Scene = 3,
    /// A procedural video.
    Video = 4,
    /// Sensor noise of one frame of a procedural video.
    FrameNoise = 5,
}

/// The random stream of `id` in `epoch` for `purpose`.
///
/// The four numbers, little-endian, are the 32-byte ChaCha key: distinct names give
/// independent streams, whatever the order in which they are opened.
pub fn stream(seed: u64, purpose: Purpose, epoch: u64, id: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, id]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A number in `[low, high)`; `low` itself where both are equal.
pub(crate) fn uniform(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// A number whose logarithm is uniform between those of `low` and `high`.
pub(crate) fn log_uniform(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    uniform(rng, low.ln(), high.ln()).exp()
}

/// An index in `0..count`, or 0 for an empty range.
pub(crate) fn below(rng: &mut ChaCha8Rng, count: usize) -> usize {
    // The high word of a 64 x 64 bit product: smaller than `count`, biased by < count / 2^64.
    ((u128::from(rng.random::<u64>()) * count as u128) >> 64) as usize
}

/// Whether an event of probability `p` happens. Draws one number in every case.
pub(crate) fn coin(rng: &mut ChaCha8Rng, p: f32) -> bool {
    rng.random::<f32>() < p
}

/// Puts `items` in random order.
pub fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_name() {
        let mut key = [0u8; 32];
        key[0] = 7;
        key[8] = Purpose::Crop as u8;
        key[16] = 3;
        key[25] = 1;
        let mut expected = ChaCha8Rng::from_seed(key);
        let mut got = stream(7, Purpose::Crop, 3, 256);
        assert_eq!(got.random::<[u64; 4]>(), expected.random::<[u64; 4]>());
    }

    #[test]
    fn below_covers_its_range_and_nothing_else() {
        let mut rng = stream(0, Purpose::Order, 0, 0);
        let mut seen = [0; 5];
        for _ in 0..500 {
            seen[below(&mut rng, 5)] += 1;
        }
        // 500 / 5 = 100 expected, standard deviation 9.
        assert!(seen.iter().all(|&n| (55..145).contains(&n)), "{seen:?}");
        assert_eq!(below(&mut rng, 0), 0);
    }

    #[test]
    fn certain_coins() {
        let mut rng = stream(0, Purpose::Order, 0, 1);
        assert!((0..100).all(|_| coin(&mut rng, 1.0) && !coin(&mut rng, 0.0)));
    }
}
