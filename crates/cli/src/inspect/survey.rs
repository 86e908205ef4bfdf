//! What a set of images is like: every image read and decoded once.

use indicatif::ProgressBar;
use selfpatch_datasets::{Content, Decoding, Format, Header, Image, ImageSource, Notes, Range, Raw, Samples, Tally};
use serde::Serialize;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A set of images in numbers.
#[derive(Debug, Default, Serialize)]
pub struct Survey {
    /// Images of the source.
    pub images: usize,
    /// Of these, the ones that were read.
    pub read: usize,
    /// Images per kind: format, channels, bits.
    pub formats: BTreeMap<String, usize>,
    /// Columns of the images that can be used.
    pub width: Spread,
    /// Rows likewise.
    pub height: Spread,
    /// Bytes of the files that were read; of pixels where a source has no files.
    pub bytes: u64,
    /// Images per class, among all.
    pub classes: Vec<(String, usize)>,
    /// Images that cannot be used.
    pub bad: Vec<Named>,
    /// Images whose name promises another format.
    pub mislabelled: Vec<Named>,
    /// Mean of each channel, between 0 and 1; every image counts the same.
    pub mean: Vec<f64>,
    /// Standard deviation likewise.
    pub std: Vec<f64>,
    /// The smallest and the largest value met, as the files hold them.
    pub values: [f64; 2],
    /// What a user should know about the settings.
    pub advice: Vec<String>,
}

/// A sample and what is wrong with it.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    pub name: String,
    pub reason: String,
}

/// The range of a number.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    pub least: usize,
    pub median: usize,
    pub most: usize,
}

impl Spread {
    fn of(mut values: Vec<usize>) -> Self {
        values.sort_unstable();
        match (values.first(), values.last()) {
            (Some(&least), Some(&most)) => Self { least, median: values[values.len() / 2], most },
            _ => Self::default(),
        }
    }
}

/// One image.
struct Seen {
    index: usize,
    bytes: usize,
    header: Option<Header>,
    mislabelled: Option<String>,
    result: Result<Facts, String>,
}

/// One image that can be used.
struct Facts {
    width: usize,
    height: usize,
    /// What of it was left out.
    notes: Notes,
    /// Mean, mean square, least and greatest value of each channel, between 0 and 1.
    channels: Vec<[f64; 4]>,
}

/// Reads `count` images, evenly spread, with `threads` threads.
pub fn survey(
    source: &dyn ImageSource,
    decoding: &Decoding,
    count: usize,
    threads: usize,
    bar: &ProgressBar,
) -> Survey {
    let count = count.clamp(1, source.len().max(1)).min(source.len());
    bar.set_length(count as u64);
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(count)));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let seen = see(source, decoding, number * source.len() / count);
            all.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|seen| seen.index); // whoever came first
    summary(source, decoding, &all)
}

fn see(source: &dyn ImageSource, decoding: &Decoding, index: usize) -> Seen {
    let mut seen = Seen { index, bytes: 0, header: None, mislabelled: None, result: Err(String::new()) };
    let image = match source.read(index) {
        Err(e) => Err(e.to_string()),
        Ok(Content::File(bytes)) => {
            seen.bytes = bytes.len();
            seen.header = decoding.header(&bytes).ok();
            seen.mislabelled = Format::mislabelled(&source.name(index), &bytes);
            // One hostile file is not the end of the survey.
            catch_unwind(|| decoding.noted(&bytes)).unwrap_or_else(|_| Err("its decoder panicked".into()))
        }
        Ok(Content::Image(image)) => {
            seen.bytes = image.samples.len();
            decoding.content(Content::Image(image))
        }
    };
    seen.result = image.map(|(image, notes)| Facts {
        width: image.width,
        height: image.height,
        notes,
        channels: (0..image.channels).map(|c| moments(&image, c)).collect(),
    });
    seen
}

/// Mean, mean square, least and greatest value of a channel.
fn moments(image: &Image, channel: usize) -> [f64; 4] {
    fn of(values: impl Iterator<Item = f64>) -> [f64; 4] {
        let (mut count, mut sum, mut squares, mut least, mut most) = (0u64, 0., 0., f64::INFINITY, f64::NEG_INFINITY);
        for v in values {
            count += 1;
            (sum, squares) = (sum + v, squares + v * v);
            (least, most) = (least.min(v), most.max(v));
        }
        [sum / count as f64, squares / count as f64, least, most]
    }
    match &image.samples {
        Samples::Bytes(v) => of(v.iter().skip(channel).step_by(image.channels).map(|&v| f64::from(v) / 255.)),
        Samples::Floats(v) => of(v.iter().skip(channel).step_by(image.channels).map(|&v| f64::from(v))),
    }
}

fn summary(source: &dyn ImageSource, decoding: &Decoding, all: &[Seen]) -> Survey {
    let mut s = Survey { images: source.len(), read: all.len(), ..Survey::default() };
    let mut counts = vec![0; source.classes().len()];
    (0..source.len()).filter_map(|i| source.label(i)).for_each(|l| counts[l as usize] += 1);
    s.classes = source.classes().iter().cloned().zip(counts).collect();
    let (mut widths, mut heights) = (Vec::new(), Vec::new());
    let (mut mean, mut square) = (vec![0.; decoding.channels], vec![0.; decoding.channels]);
    s.values = [f64::INFINITY, f64::NEG_INFINITY];
    let mut tally = Tally::default();
    for seen in all {
        let named = |reason: &String| Named { name: source.name(seen.index), reason: reason.clone() };
        s.bytes += seen.bytes as u64;
        s.mislabelled.extend(seen.mislabelled.iter().map(named));
        match &seen.result {
            Err(reason) => s.bad.push(named(reason)),
            Ok(facts) => {
                *s.formats.entry(kind(seen.header, facts)).or_default() += 1;
                widths.push(facts.width);
                heights.push(facts.height);
                tally.add(seen.index, &facts.notes);
                for (c, [m, q, least, most]) in facts.channels.iter().enumerate().take(decoding.channels) {
                    mean[c] += m;
                    square[c] += q;
                    // As the files hold them.
                    let [low, high] = decoding.range.as_ref().map_or([0., 255.], |r| r.of(c).map(f64::from));
                    let of = |v: &f64| low + v * (high - low);
                    s.values = [s.values[0].min(of(least)), s.values[1].max(of(most))];
                }
            }
        }
    }
    let good = widths.len().max(1) as f64;
    s.mean = mean.iter().map(|m| m / good).collect();
    s.std = square.iter().zip(&s.mean).map(|(q, m)| (q / good - m * m).max(0.).sqrt()).collect();
    if widths.is_empty() {
        s.values = [0.; 2];
    }
    (s.width, s.height) = (Spread::of(widths), Spread::of(heights));
    s.advice = tally.lines().into_iter().map(|(_, line)| line).collect();
    s.advice.extend(of_depth(source, decoding, all));
    s.advice.extend(advice(&s, decoding));
    s
}

fn kind(header: Option<Header>, facts: &Facts) -> String {
    let plural = |n: usize| if n == 1 { "1 channel".to_string() } else { format!("{n} channels") };
    match header {
        Some(h) => format!("{}, {}, {} bits", h.format.name(), plural(h.channels), h.bits),
        None => format!("pixels, {}", plural(facts.channels.len())),
    }
}

/// Settings that take images as they are of which RGB bytes leave something out, or which cannot be RGB. They are those
/// of the first such image; one that cannot be read at all has none.
fn of_depth(source: &dyn ImageSource, decoding: &Decoding, all: &[Seen]) -> Option<String> {
    if !decoding.is_rgb() {
        return None;
    }
    let is_deep = |seen: &Seen| seen.result.as_ref().is_ok_and(|facts| facts.notes.bits > 0);
    let deep = all.iter().filter(|seen| is_deep(seen)).count();
    let is_other = |seen: &&Seen| is_deep(seen) || (seen.result.is_err() && seen.header.is_some());
    let mut raw = all.iter().filter(is_other).take(MOST_TRIED).filter_map(|seen| {
        let Ok(Content::File(bytes)) = source.read(seen.index) else { return None };
        let raw = catch_unwind(|| decoding.raw(&bytes)).ok()?.ok()?;
        (!raw.bytes || raw.channels != 3).then_some((source.name(seen.index), raw))
    });
    let (name, raw) = raw.next()?;
    let range = match raw.bytes {
        true => String::new(),
        false => format!(" --set data.range=[{}]", whole_range(&raw)?.map(number).join(",")),
    };
    let what = match deep {
        0 => format!("there are images of {} channels", raw.channels),
        deep => format!("{deep} images have more than 8 bits"),
    };
    Some(format!(
        "{what}; --set data.channels={}{range} takes images like {name} as they are; `inspect-data --write-config \
         FILE` finds a range for each channel",
        raw.channels
    ))
}

/// As many images are tried for settings that suit them.
const MOST_TRIED: usize = 20;

/// Ends between which all values of an image lie, those of its kind of number where that has usual ones; none for
/// values that are not finite.
fn whole_range(raw: &Raw) -> Option<[f32; 2]> {
    let ends = |[l, m]: [f32; 2], v: &f32| [l.min(*v), m.max(*v)];
    let [least, most] = raw.values.iter().fold([f32::INFINITY, f32::NEG_INFINITY], ends);
    let has_fractions = raw.values.iter().any(|v| v.fract() != 0.);
    if !least.is_finite() || raw.values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    Some(match (least >= 0., has_fractions) {
        (true, true) if most <= 1. => [0., 1.],
        (true, false) if raw.bits == 16 => [0., 65535.],
        _ => [least.floor(), most.ceil().max(least.floor() + 1.)],
    })
}

/// A whole number as TOML has it.
fn number(value: f32) -> String {
    if value.abs() < 1e15 { value.to_string() } else { format!("{value:e}") }
}

fn advice(s: &Survey, decoding: &Decoding) -> Vec<String> {
    let mut advice = Vec::new();
    if let Some(Range::All(range)) = &decoding.range
        && let [low, high] = range.map(f64::from)
        && s.read > s.bad.len()
        && s.values[1] - s.values[0] < 0.25 * (high - low)
    {
        advice.push(format!(
            "the values met, {} to {}, fill a small part of data.range [{low}, {high}]",
            s.values[0], s.values[1]
        ));
    }
    if s.read > s.bad.len() && !decoding.is_rgb() {
        let list = |v: &[f64]| v.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(", ");
        advice.push(format!("in the configuration: mean = [{}], std = [{}]", list(&s.mean), list(&s.std)));
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_a_channel() {
        let image = Image { width: 2, height: 1, channels: 2, samples: Samples::Bytes(vec![0, 51, 255, 102]) };
        assert_eq!(moments(&image, 0), [0.5, 0.5, 0., 1.]);
        let [mean, square, least, most] = moments(&image, 1);
        assert!((mean - 0.3).abs() < 1e-12 && (square - 0.1).abs() < 1e-12, "{mean} {square}");
        assert_eq!((least, most), (0.2, 0.4));
    }

    #[test]
    fn a_suggested_range_holds_all_values() {
        let range = |bits: usize, values: &[f32]| {
            let (values, width) = (values.to_vec(), values.len());
            whole_range(&Raw { width, height: 1, channels: 1, bits, bytes: false, values })
        };
        assert_eq!(range(16, &[3., 900.]), Some([0., 65535.]));
        assert_eq!(range(16, &[-3., 900.]), Some([-3., 900.]));
        assert_eq!(range(32, &[0., 0.25, 1.]), Some([0., 1.]));
        assert_eq!(range(32, &[-0.5, 7.25]), Some([-1., 8.]));
        assert_eq!(range(32, &[5., 5.]), Some([5., 6.]));
        assert_eq!(range(32, &[f32::NAN, 5.]), None);
        assert_eq!([number(65535.), number(-1.), number(1e30)], ["65535", "-1", "1e30"]);
    }

    #[test]
    fn a_spread_has_its_median() {
        let s = Spread::of(vec![5, 1, 9]);
        assert_eq!((s.least, s.median, s.most), (1, 5, 9));
        assert_eq!(Spread::of(Vec::new()).most, 0);
    }
}
