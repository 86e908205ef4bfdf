//! The vote of the context on one row of target tokens.

use super::Propagation;
use super::context::Context;
use super::kernel::{KEYS, tile};
use std::ops::Range;

/// Neighbouring targets that go through the context together, while its rows are in the cache.
const STRIP: usize = 16;

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    /// Cosines of each target of a strip with its window: context by context, row by row.
    cosines: [Vec<f32>; STRIP],
    ranked: Vec<f32>,
}

/// Fills `votes` `[width, C]` with the soft labels of row `row` of `target`.
pub(super) fn row(
    scratch: &mut Scratch,
    settings: &Propagation,
    width: usize,
    contexts: &[&Context],
    target: &Context,
    row: usize,
    votes: &mut [f32],
) {
    let classes = votes.len() / width;
    let rows = reach(row, settings.neighbourhood, target.area() / width);
    for (strip, votes) in votes.chunks_mut(STRIP * classes).enumerate() {
        let columns = strip * STRIP..(strip * STRIP + STRIP).min(width);
        let radius = settings.neighbourhood;
        compare(&mut scratch.cosines, contexts, target, row, &rows, columns.clone(), radius, width);
        for ((column, cosines), votes) in
            columns.zip(&scratch.cosines).zip(votes.chunks_exact_mut(classes))
        {
            let window = Window { rows: rows.clone(), columns: reach(column, radius, width), width };
            decide(settings, &mut scratch.ranked, cosines, contexts, &window, votes);
        }
    }
}

/// Positions within `radius` of `centre` on a side of `len`; a radius of 0 reaches everywhere.
fn reach(centre: usize, radius: usize, len: usize) -> Range<usize> {
    if radius == 0 {
        return 0..len;
    }
    centre.saturating_sub(radius)..(centre + radius + 1).min(len)
}

/// Cosines of the targets in `columns` with their windows, one list per target.
#[allow(clippy::too_many_arguments)] // the loop bounds of one loop nest
fn compare(
    cosines: &mut [Vec<f32>; STRIP],
    contexts: &[&Context],
    target: &Context,
    row: usize,
    rows: &Range<usize>,
    columns: Range<usize>,
    radius: usize,
    width: usize,
) {
    #[cfg(target_arch = "x86_64")]
    {
        /// [`compare_tiled`] compiled for vectors of eight floats.
        #[allow(clippy::too_many_arguments)]
        #[target_feature(enable = "avx2")]
        fn wide(
            cosines: &mut [Vec<f32>; STRIP],
            contexts: &[&Context],
            target: &Context,
            row: usize,
            rows: &Range<usize>,
            columns: Range<usize>,
            radius: usize,
            width: usize,
        ) {
            compare_tiled::<4>(cosines, contexts, target, row, rows, columns, radius, width);
        }
        if std::env::var_os("NOAVX").is_none() && is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the one feature that the function asks for.
            unsafe { wide(cosines, contexts, target, row, rows, columns, radius, width) };
            return;
        }
    }
    compare_tiled::<2>(cosines, contexts, target, row, rows, columns, radius, width);
}

#[allow(clippy::too_many_arguments)] // the loop bounds of one loop nest
#[inline(always)]
fn compare_tiled<const TARGETS: usize>(
    cosines: &mut [Vec<f32>; STRIP],
    contexts: &[&Context],
    target: &Context,
    row: usize,
    rows: &Range<usize>,
    columns: Range<usize>,
    radius: usize,
    width: usize,
) {
    cosines.iter_mut().for_each(Vec::clear);
    for context in contexts {
        for y in rows.clone() {
            for (group, cosines) in cosines.chunks_mut(TARGETS).enumerate() {
                let start = columns.start + group * TARGETS;
                if start >= columns.end {
                    break;
                }
                // A group cut short by the end of the strip repeats its last target.
                let last = columns.end - 1;
                let places: [usize; TARGETS] = std::array::from_fn(|t| (start + t).min(last));
                let targets = places.map(|x| target.unit(row * width + x));
                let windows = places.map(|x| reach(x, radius, width));
                let (from, to) = (windows[0].start, windows[TARGETS - 1].end);
                for x in (from..to).step_by(KEYS) {
                    let keys = std::array::from_fn::<usize, KEYS, _>(|k| x + k);
                    let units = keys.map(|key| context.unit(y * width + key.min(to - 1)));
                    let products = tile(targets, units);
                    for ((list, window), products) in
                        cosines.iter_mut().zip(&windows).zip(products)
                    {
                        for (key, product) in keys.iter().zip(products) {
                            if window.contains(key) {
                                list.push(product);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The tokens of each context frame that one target may look at.
struct Window {
    rows: Range<usize>,
    columns: Range<usize>,
    width: usize,
}

impl Window {
    fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Token of the `index`-th place of the window.
    fn token(&self, index: usize) -> usize {
        let columns = self.columns.len();
        (self.rows.start + index / columns) * self.width + self.columns.start + index % columns
    }
}

/// The largest `top_k` of all contexts, and what equals the last of them, share the vote.
fn decide(
    settings: &Propagation,
    ranked: &mut Vec<f32>,
    cosines: &[f32],
    contexts: &[&Context],
    window: &Window,
    votes: &mut [f32],
) {
    let affinity = |cosine: f32| (cosine / settings.temperature).exp();
    let kth = kth_largest(ranked, cosines, settings.top_k);
    // Cosines a hair below the k-th may round to the same affinity, and then they tie.
    let hair = 1e-5 * (1.0 + settings.temperature);
    let lowest = affinity(kth);
    let area = window.area();

    let mut survivors = Vec::with_capacity(settings.top_k.min(cosines.len()));
    for (index, &cosine) in cosines.iter().enumerate() {
        if cosine >= kth - hair && affinity(cosine) >= lowest {
            survivors.push((index, affinity(cosine)));
        }
    }
    let sum: f32 = survivors.iter().map(|&(_, affinity)| affinity).sum();
    for (index, affinity) in survivors {
        // `cosines` holds `area` entries per context, in the contexts' order.
        let labels = contexts[index / area].votes(window.token(index % area));
        for (vote, label) in votes.iter_mut().zip(labels) {
            *vote += affinity / sum * label;
        }
    }
}

/// The `k`-th largest value, or the smallest if there are fewer; `k` is at least 1.
fn kth_largest(ranked: &mut Vec<f32>, values: &[f32], k: usize) -> f32 {
    ranked.clear();
    ranked.extend_from_slice(values);
    let place = k.min(ranked.len()).saturating_sub(1);
    if ranked.is_empty() {
        return f32::NEG_INFINITY;
    }
    *ranked.select_nth_unstable_by(place, |a, b| b.total_cmp(a)).1
}
