//! Dot products of a few targets with a few keys at once: every vector that is loaded is used
//! more than once, and the sums stay in registers. Plain loops that the compiler vectorises.

/// Floats that are added side by side; vectors are padded with zeros to a multiple of it.
pub(super) const LANES: usize = 8;
/// Targets per tile.
pub(super) const TARGETS: usize = 2;
/// Keys per tile. With 2 x 2 products of 8 lanes the sums fill eight of the sixteen registers that
/// every x86-64 processor has; 4 x 2 products of 4 lanes take 1.4 times as long.
pub(super) const KEYS: usize = 2;

/// Dot products `[TARGETS][KEYS]`. All vectors have the same length, a multiple of [`LANES`];
/// anything beyond the shortest would be ignored.
///
/// Each product is added up in the same order whatever its place in the tile, so equal vectors
/// give bit-equal products: ties stay ties.
#[inline]
pub(super) fn tile(targets: [&[f32]; TARGETS], keys: [&[f32]; KEYS]) -> [[f32; KEYS]; TARGETS] {
    let targets = targets.map(vectors);
    let keys = keys.map(vectors);
    let len = targets.iter().chain(&keys).map(|v| v.len()).min().unwrap_or(0);
    let [t0, t1] = targets.map(|v| &v[..len]);
    let [k0, k1] = keys.map(|v| &v[..len]);
    let mut sums = [[[0.0_f32; LANES]; KEYS]; TARGETS];
    for i in 0..len {
        for (sums, target) in sums.iter_mut().zip([&t0[i], &t1[i]]) {
            for (sum, key) in sums.iter_mut().zip([&k0[i], &k1[i]]) {
                for lane in 0..LANES {
                    sum[lane] += target[lane] * key[lane];
                }
            }
        }
    }
    sums.map(|keys| keys.map(total))
}

/// Squared length of a vector whose length is a multiple of [`LANES`].
pub(super) fn dot_self(vector: &[f32]) -> f32 {
    let mut sum = [0.0; LANES];
    for part in vectors(vector) {
        for lane in 0..LANES {
            sum[lane] += part[lane] * part[lane];
        }
    }
    total(sum)
}

#[inline]
fn vectors(slice: &[f32]) -> &[[f32; LANES]] {
    slice.as_chunks().0
}

#[inline]
fn total([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}
