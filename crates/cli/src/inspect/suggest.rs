//! Settings that fit the values of a set of images, as a configuration file.

use super::survey::Survey;
use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;
use selfpatch_datasets::{Content, Decoding, Format, ImageSource, Raw, Samples};
use selfpatch_train::{Config, Setting};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use toml::Value;

/// The parts of all values that lie below the low and the high end of the range.
const PERCENTILES: [f64; 2] = [0.001, 0.999];
/// Most values of a channel that are kept of all images together, and of one.
const KEPT: [usize; 2] = [1 << 22, 1 << 12];
/// How a file begins that may be written again.
const FIRST_LINE: &str = "# Written by `selfpatch inspect-data --write-config`";

/// What suits the images.
pub struct Suggestion {
    channels: usize,
    /// One pair per channel; `None` for values that are bytes.
    range: Option<Vec<[f32; 2]>>,
    /// Least and greatest value met in each channel.
    met: Vec<[f32; 2]>,
    /// Images that were measured.
    images: usize,
    /// Images with another number of channels.
    others: usize,
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

/// Measures `count` images, evenly spread. What `config` says of channels and range stays.
pub fn suggest(
    source: &dyn ImageSource,
    config: &Config,
    (count, threads): (usize, usize),
    bar: &ProgressBar,
) -> anyhow::Result<Suggestion> {
    let decoding = config.data.decoding();
    let count = count.clamp(1, source.len().max(1)).min(source.len());
    let most = (KEPT[0] / count.max(1)).clamp(64, KEPT[1]);
    bar.set_length(count as u64);
    let (next, all, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let index = number * source.len() / count;
            // What cannot be read is named by the survey that follows.
            let seen = catch_unwind(std::panic::AssertUnwindSafe(|| measure(source, &decoding, index, most)));
            match seen.unwrap_or_else(|_| Err("its decoder panicked".into())) {
                Ok(seen) => all.lock().unwrap_or_else(PoisonError::into_inner).push(seen),
                Err(reason) => {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert_with(|| format!("{}: {reason}", source.name(index)));
                }
            }
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut all: Vec<Measured> = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|m| m.index); // whoever came first
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or_default();
    ensure!(!all.is_empty(), "--write-config: not one of {count} images can be read; {failed}");
    Ok(chosen(&all, config))
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
fn chosen(all: &[Measured], config: &Config) -> Suggestion {
    let data = &config.data;
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

impl Suggestion {
    /// What is to be laid over the settings so far.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = vec![("data.channels".to_string(), Value::Integer(self.channels as i64))];
        settings.extend(self.range_value().map(|range| ("data.range".to_string(), range)));
        settings
    }

    fn range_value(&self) -> Option<Value> {
        let pair = |p: &[f32; 2]| Value::Array(p.iter().map(|&v| Value::Float(short(v))).collect());
        self.range.as_ref().map(|ranges| match ranges.as_slice() {
            [one] => pair(one),
            ranges => Value::Array(ranges.iter().map(pair).collect()),
        })
    }

    /// Writes the file for `train --config`, whose images are `s`.
    pub fn write(&self, file: &Path, config: &Config, s: &Survey) -> anyhow::Result<()> {
        if let Ok(old) = std::fs::read_to_string(file)
            && !old.starts_with(FIRST_LINE)
        {
            bail!("--write-config: {} exists and was not written by inspect-data; choose another name", file.display());
        }
        std::fs::write(file, self.text(config, s)?).with_context(|| file.display().to_string())
    }

    fn text(&self, config: &Config, s: &Survey) -> anyhow::Result<String> {
        let list = |v: &[f64]| v.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(", ");
        let mut text = format!("{FIRST_LINE} from {} images.\n", self.images);
        text += "# `selfpatch train --config FILE` uses it; flags and --set overrule it.\n\n[data]\n";
        writeln!(text, "path = {}", Value::String(config.data.path.clone()))?;
        if self.others > 0 {
            writeln!(text, "# {} images have another number of channels and cannot be used with it.", self.others)?;
        }
        writeln!(text, "channels = {}", self.channels)?;
        match self.range_value() {
            Some(range) => {
                let met: Vec<String> = self.met.iter().map(|[l, m]| format!("{l} to {m}")).collect();
                writeln!(
                    text,
                    "# The values that become 0 and 1: in each channel one in a thousand lies below, one above"
                )?;
                writeln!(text, "# and is cut off. Met were {}.", met.join(", "))?;
                writeln!(text, "range = {range}")?;
            }
            None => text += "# Values are bytes: there is no range to choose.\n",
        }
        for (name, value) in [("exif", config.data.exif), ("exact_jpeg", config.data.exact_jpeg)] {
            if value {
                writeln!(text, "{name} = true")?;
            }
        }
        text += "# Of each channel between 0 and 1, every image counting the same.\n";
        writeln!(text, "mean = [{}]", list(&s.mean))?;
        // A channel that is the same everywhere has nothing to be scaled by.
        let std: Vec<f64> = s.std.iter().map(|&v| if v < 5e-5 { 1. } else { v }).collect();
        writeln!(text, "std = [{}]", list(&std))?;
        Ok(text)
    }
}

/// A number with as many digits as tell it from its neighbours in single precision.
fn short(v: f32) -> f64 {
    v.to_string().parse().unwrap_or_else(|_| f64::from(v))
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
        let s = chosen(&all, &selfpatch_train::Preset::Folder.config());
        // As many images of one channel as of two: the larger number.
        assert_eq!((s.channels, s.others), (2, 1));
        assert_eq!(s.range, Some(vec![[10., 9990.], [7., 8.]]));
        assert_eq!(s.settings()[1].1.to_string(), "[[10.0, 9990.0], [7.0, 8.0]]");
    }

    #[test]
    fn colours_of_bytes_stay_rgb() {
        let all = [measured(0, true, true, &[&[1., 2.]]), measured(1, true, true, &[&[1.], &[2.], &[3.], &[255.]])];
        let s = chosen(&all, &selfpatch_train::Preset::Folder.config());
        assert_eq!((s.channels, s.range.is_none(), s.others), (3, true, 0));
    }
}
