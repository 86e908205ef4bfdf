//! The vote of the context on one row of target tokens.

use super::context::Context;
use super::kernel::{KEYS, TARGETS, tile};
use super::settings::Propagation;
use std::ops::Range;

/// Number of target rows that are processed together, so that a row of keys is fetched into the cache once for all of
/// them.
pub(super) const ROWS: usize = 3;

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    /// Cosines of each target of the current rows with its window: context by context, row by row.
    cosines: Vec<Vec<f32>>,
    /// A partly sorted copy of one target's cosines.
    ranked: Vec<f32>,
}

/// A target frame and the context frames that vote on it, all on the same grid.
pub(super) struct Vote<'a> {
    pub settings: Propagation,
    /// Columns of the grid.
    pub width: usize,
    pub contexts: Vec<&'a Context>,
    pub target: &'a Context,
}

impl Vote<'_> {
    /// Fills `votes` `[rows, width, C]`, which must be zero, with the soft labels of the rows from `first` on.
    pub(super) fn rows(&self, scratch: &mut Scratch, first: usize, votes: &mut [f32]) {
        let classes = self.classes();
        let rows = first..first + votes.len() / (self.width * classes);
        scratch.cosines.resize_with(rows.len() * self.width, Vec::new);
        if selfpatch_simd::has_fused() {
            selfpatch_simd::fused(
                #[inline(always)]
                || self.compare::<true>(&mut scratch.cosines, &rows),
            );
        } else {
            self.compare::<false>(&mut scratch.cosines, &rows);
        }
        let targets = rows.flat_map(|row| (0..self.width).map(move |column| (row, column)));
        for (((row, column), cosines), votes) in targets.zip(&scratch.cosines).zip(votes.chunks_exact_mut(classes)) {
            let window = Window {
                rows: self.reach(row, self.height()),
                columns: self.reach(column, self.width),
                width: self.width,
            };
            self.decide(&mut scratch.ranked, cosines, &window, votes);
        }
    }

    fn height(&self) -> usize {
        self.target.area() / self.width
    }

    /// Number of channels of the labels, at least 1.
    fn classes(&self) -> usize {
        self.contexts.first().map_or(1, |context| context.classes())
    }

    /// Positions within the radius of `centre` along a side of `len`; radius 0 means all positions.
    fn reach(&self, centre: usize, len: usize) -> Range<usize> {
        match self.settings.neighbourhood {
            0 => 0..len,
            radius => centre.saturating_sub(radius)..centre.saturating_add(radius).saturating_add(1).min(len),
        }
    }

    /// Cosines of the targets in `rows` with their windows, one list per target.
    #[inline(always)]
    fn compare<const FUSED: bool>(&self, cosines: &mut [Vec<f32>], rows: &Range<usize>) {
        cosines.iter_mut().for_each(Vec::clear);
        let height = self.height();
        for context in &self.contexts {
            for y in self.reach(rows.start, height).start..self.reach(rows.end - 1, height).end {
                for (row, lists) in rows.clone().zip(cosines.chunks_mut(self.width)) {
                    if self.reach(row, height).contains(&y) {
                        self.compare_rows::<FUSED>(lists, self.target.row(row), context.row(y));
                    }
                }
            }
        }
    }

    /// Appends the cosines of a row of targets with a row of keys to the lists of the targets.
    #[inline(always)]
    fn compare_rows<const FUSED: bool>(&self, cosines: &mut [Vec<f32>], targets: &[f32], keys: &[f32]) {
        let stride = self.target.stride();
        for (strip, lists) in cosines.chunks_mut(TARGETS).enumerate() {
            let start = strip * TARGETS;
            let all = self.reach(start, self.width).start..self.reach(start + lists.len() - 1, self.width).end;
            for key in all.step_by(KEYS) {
                let products = tile::<FUSED>(stride, (targets, start), (keys, key));
                for ((column, list), products) in (start..).zip(lists.iter_mut()).zip(&products) {
                    let window = self.reach(column, self.width);
                    let from = window.start.saturating_sub(key).min(KEYS);
                    let to = window.end.saturating_sub(key).min(KEYS);
                    list.extend_from_slice(&products[from..to.max(from)]);
                }
            }
        }
    }

    /// Shares the vote between the `top_k` largest cosines over all contexts, and those that tie with the last of
    /// them.
    fn decide(&self, ranked: &mut Vec<f32>, cosines: &[f32], window: &Window, votes: &mut [f32]) {
        let temperature = self.settings.temperature;
        let affinity = |cosine: f32| (cosine / temperature).exp();
        let kth = kth_largest(ranked, cosines, self.settings.top_k);
        // Cosines a hair below the k-th may round to the same affinity, and then they tie.
        let hair = 1e-5 * (1.0 + temperature);
        let lowest = affinity(kth);
        let survivors: Vec<(usize, f32)> = cosines
            .iter()
            .enumerate()
            .filter(|&(_, &cosine)| cosine >= kth - hair)
            .map(|(index, &cosine)| (index, affinity(cosine)))
            .filter(|&(_, affinity)| affinity >= lowest)
            .collect();
        let sum: f32 = survivors.iter().map(|&(_, affinity)| affinity).sum();
        let area = window.area();
        for (index, affinity) in survivors {
            // `cosines` holds `area` entries per context, in the order of the contexts.
            let labels = self.contexts[index / area].votes(window.token(index % area));
            for (vote, label) in votes.iter_mut().zip(labels) {
                *vote += affinity / sum * label;
            }
        }
    }
}

/// The tokens of each context frame that one target is compared with.
struct Window {
    rows: Range<usize>,
    columns: Range<usize>,
    /// Columns of the grid.
    width: usize,
}

impl Window {
    fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Token at the `index`-th position of the window.
    fn token(&self, index: usize) -> usize {
        let columns = self.columns.len();
        (self.rows.start + index / columns) * self.width + self.columns.start + index % columns
    }
}

/// The `k`-th largest value, or the smallest if there are fewer; `k` is at least 1.
fn kth_largest(ranked: &mut Vec<f32>, values: &[f32], k: usize) -> f32 {
    ranked.clear();
    ranked.extend_from_slice(values);
    if ranked.is_empty() {
        return f32::NEG_INFINITY;
    }
    let place = k.clamp(1, ranked.len()) - 1;
    *ranked.select_nth_unstable_by(place, |a, b| b.total_cmp(a)).1
}
