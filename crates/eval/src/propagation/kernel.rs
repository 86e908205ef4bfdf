//! Dot products of neighbouring targets with neighbouring keys of a row of the grid. These are plain loops over keys
//! that are adjacent in memory, so that the compiler vectorises them; the sums stay in registers.

/// Number of keys per tile.
pub(super) const KEYS: usize = 32;
/// Number of neighbouring targets per tile. With 32 keys their sums fill 16 of the 32 registers of AVX-512, and
/// windows of radius 12 are covered exactly.
pub(super) const TARGETS: usize = 8;

/// Dot products `[TARGETS][KEYS]` of the columns from `target` on in `targets` with those from `key` on in `keys`.
/// Both are rows of the grid, `[D, stride]`, padded to enough columns. `FUSED` uses fused multiply-adds, for CPUs
/// that have them.
///
/// Each product is summed in the order of the dimensions, whatever its position in the tile, so equal vectors give
/// bit-equal products: ties stay ties.
#[inline(always)]
pub(super) fn tile<const FUSED: bool>(
    stride: usize,
    (targets, target): (&[f32], usize),
    (keys, key): (&[f32], usize),
) -> [[f32; KEYS]; TARGETS] {
    let none = || [0.; KEYS];
    // By name, because the compiler keeps sums in registers only if no index chooses among them.
    let (mut s0, mut s1, mut s2, mut s3) = (none(), none(), none(), none());
    let (mut s4, mut s5, mut s6, mut s7) = (none(), none(), none(), none());
    for (targets, keys) in targets.chunks_exact(stride).zip(keys.chunks_exact(stride)) {
        let (Some(t), Some(k)) = (targets[target..].first_chunk(), keys[key..].first_chunk()) else { continue };
        let t: &[f32; TARGETS] = t;
        s0 = add::<FUSED>(s0, t[0], k);
        s1 = add::<FUSED>(s1, t[1], k);
        s2 = add::<FUSED>(s2, t[2], k);
        s3 = add::<FUSED>(s3, t[3], k);
        s4 = add::<FUSED>(s4, t[4], k);
        s5 = add::<FUSED>(s5, t[5], k);
        s6 = add::<FUSED>(s6, t[6], k);
        s7 = add::<FUSED>(s7, t[7], k);
    }
    [s0, s1, s2, s3, s4, s5, s6, s7]
}

/// Computes `sums + target * keys`.
#[inline(always)]
fn add<const FUSED: bool>(mut sums: [f32; KEYS], target: f32, keys: &[f32; KEYS]) -> [f32; KEYS] {
    for (sum, key) in sums.iter_mut().zip(keys) {
        *sum = if FUSED { key.mul_add(target, *sum) } else { key * target + *sum };
    }
    sums
}
