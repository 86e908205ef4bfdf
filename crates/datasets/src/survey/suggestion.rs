//! Channels and ranges of values that fit a set of images.

use crate::decode::{Decoding, Format, Raw};
use crate::frame::Samples;
use crate::source::{Content, ImageSource};
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The parts of all values that lie below the low and the high end of the range.
const PERCENTILES: [f64; 2] = [0.001, 0.999];
/// Most values of a channel that are kept of all images together, and of one.
const KEPT: [usize; 2] = [1 << 22, 1 << 12];
/// Channels and ranges that fit the images.
#[derive(Clone, Debug)]
pub struct Suggestion {
    /// Channels of the images that most are like.
    pub channels: usize,
    /// The values that become 0 and 1, one pair per channel; `None` for values that are bytes.
    pub range: Option<Vec<[f32; 2]>>,
    /// Least and greatest value met in each channel.
    pub met: Vec<[f32; 2]>,
    /// Images that were measured.
    pub images: usize,
    /// Images with another number of channels.
    pub others: usize,
}

/// What one image tells.
struct Measured {
    index: usize,
    /// Bytes that are RGB with or without alpha, or grey that may be repeated.
    colours: bool,
    bytes: bool,
    /// Some values of each channel, and its least and greatest.
    channels: Vec<(Vec<f32>, [f32; 2])>,
}

/// Measures `count` images, evenly spread, with `threads` threads. Channels and range that `decoding` has already stay.
/// After each image, `done` gets the number of all that are measured.
///
/// # Errors
/// What is wrong with an image, where none can be read.
pub fn suggest(
    source: &dyn ImageSource,
    decoding: &Decoding,
    count: usize,
    threads: usize,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Suggestion, String> {
    let count = count.clamp(1, source.len().max(1)).min(source.len());
    let most = (KEPT[0] / count.max(1)).clamp(64, KEPT[1]);
    let (next, all, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let index = number * source.len() / count;
            // What cannot be read is named by the survey that follows.
            let seen = catch_unwind(std::panic::AssertUnwindSafe(|| measure(source, decoding, index, most)));
            match seen.unwrap_or_else(|_| Err("its decoder panicked".into())) {
                Ok(seen) => all.lock().unwrap_or_else(PoisonError::into_inner).push(seen),
                Err(reason) => {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert_with(|| format!("{}: {reason}", source.name(index)));
                }
            }
            done(count);
        }
    };
    std::thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut all: Vec<Measured> = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|m| m.index); // whoever came first
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or_default();
    if all.is_empty() {
        return Err(format!("not one of {count} images can be read; {failed}"));
    }
    Ok(chosen(&all, decoding))
}

fn measure(source: &dyn ImageSource, decoding: &Decoding, index: usize, most: usize) -> Result<Measured, String> {
    let (raw, colours) = match source.read(index).map_err(|e| e.to_string())? {
        Content::File(bytes) => {
            let raw = decoding.raw(&bytes)?;
            let bands = Format::of(&bytes) == Some(Format::Tiff) && raw.channels != 3;
            let colours = raw.bytes && !bands;
            (raw, colours)
        }
        Content::Image(image) => {
            let (values, bytes) = match image.samples {
                Samples::Bytes(v) => (v.into_iter().map(f32::from).collect(), true),
                Samples::Floats(v) => (v, false),
            };
            let (width, height, channels) = (image.width, image.height, image.channels);
            let raw = Raw { width, height, channels, bits: if bytes { 8 } else { 32 }, bytes, values };
            (raw, bytes && [1, 3].contains(&channels))
        }
    };
    let step = (raw.width * raw.height).div_ceil(most).max(1);
    let of = |c: usize| {
        let values = || raw.values.iter().skip(c).step_by(raw.channels).copied().filter(|v| v.is_finite());
        let ends = values().fold([f32::INFINITY, f32::NEG_INFINITY], |[l, m], v| [l.min(v), m.max(v)]);
        (values().step_by(step).collect(), ends)
    };
    Ok(Measured { index, colours, bytes: raw.bytes, channels: (0..raw.channels).map(of).collect() })
}

/// Settings for the images that most are like.
fn chosen(all: &[Measured], data: &Decoding) -> Suggestion {
    let rgb = data.channels == 3 && data.range.is_none() && all.iter().all(|m| m.colours);
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    all.iter().for_each(|m| *counts.entry(m.channels.len()).or_default() += 1);
    let usual = counts.iter().max_by_key(|(_, n)| **n).map_or(3, |(channels, _)| *channels);
    let channels = if rgb || data.channels != 3 { data.channels } else { usual };
    let alike: Vec<&Measured> = all.iter().filter(|m| m.channels.len() == channels).collect();
    let met = (0..channels).map(|c| {
        let ends = |[l, m]: [f32; 2], of: &&Measured| [l.min(of.channels[c].1[0]), m.max(of.channels[c].1[1])];
        alike.iter().fold([f32::INFINITY, f32::NEG_INFINITY], ends)
    });
    let met: Vec<[f32; 2]> = met.collect();
    let deep = data.range.is_some() || alike.iter().any(|m| !m.bytes);
    let range = (!rgb && deep).then(|| match &data.range {
        Some(range) => (0..channels).map(|c| range.of(c)).collect(),
        None => (0..channels).map(|c| percentiles(&alike, c, met[c])).collect(),
    });
    let others = if rgb { 0 } else { all.len() - alike.len() };
    Suggestion { channels, range, met, images: all.len(), others }
}

fn percentiles(alike: &[&Measured], channel: usize, [least, most]: [f32; 2]) -> [f32; 2] {
    let mut values: Vec<f32> = alike.iter().flat_map(|m| m.channels[channel].0.iter().copied()).collect();
    values.sort_unstable_by(f32::total_cmp);
    let at = |part: f64| values.get((part * values.len().saturating_sub(1) as f64).round() as usize).copied();
    let ends = PERCENTILES.map(at);
    match (ends[0], ends[1]) {
        (Some(low), Some(high)) if low < high => [low, high],
        // Nearly all values are one value.
        _ if least < most => [least, most],
        _ if least.is_finite() => [least, least + 1.],
        _ => [0., 1.],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(index: usize, colours: bool, bytes: bool, values: &[&[f32]]) -> Measured {
        let ends = |v: &[f32]| [v.iter().copied().fold(f32::MAX, f32::min), v.iter().copied().fold(f32::MIN, f32::max)];
        Measured { index, colours, bytes, channels: values.iter().map(|v| (v.to_vec(), ends(v))).collect() }
    }

    #[test]
    fn percentiles_leave_out_the_ends() {
        let values: Vec<f32> = (0..=10_000).map(|v| v as f32).collect();
        let all = [measured(0, false, false, &[&values, &[7.; 50]]), measured(1, false, false, &[&[3.]])];
        let s = chosen(&all, &Decoding::default());
        // As many images of one channel as of two: the larger number.
        assert_eq!((s.channels, s.others), (2, 1));
        assert_eq!(s.range, Some(vec![[10., 9990.], [7., 8.]]));
    }

    #[test]
    fn colours_of_bytes_stay_rgb() {
        let all = [measured(0, true, true, &[&[1., 2.]]), measured(1, true, true, &[&[1.], &[2.], &[3.], &[255.]])];
        let s = chosen(&all, &Decoding::default());
        assert_eq!((s.channels, s.range.is_none(), s.others), (3, true, 0));
    }
}
