//! Settings that fit a set of images, as a configuration file.

use anyhow::{Context, bail};
use selfpatch_datasets::{Suggestion, Survey};
use selfpatch_train::{Config, Setting};
use std::fmt::Write;
use std::path::Path;
use toml::Value;

/// First line of a file that may be written again.
const FIRST_LINE: &str = "# Written by `selfpatch inspect-data --write-config`";

/// Settings to lay over the settings so far.
pub fn settings(found: &Suggestion) -> Vec<Setting> {
    let mut settings = vec![("data.channels".to_string(), Value::Integer(found.channels as i64))];
    settings.extend(range(found).map(|range| ("data.range".to_string(), range)));
    settings
}

fn range(found: &Suggestion) -> Option<Value> {
    let pair = |p: &[f32; 2]| Value::Array(p.iter().map(|&v| Value::Float(short(v))).collect());
    found.range.as_ref().map(|ranges| match ranges.as_slice() {
        [one] => pair(one),
        ranges => Value::Array(ranges.iter().map(pair).collect()),
    })
}

/// Writes the file for `train --config`, whose images are `s`.
pub fn write(found: &Suggestion, file: &Path, config: &Config, s: &Survey) -> anyhow::Result<()> {
    if let Ok(old) = std::fs::read_to_string(file)
        && !old.starts_with(FIRST_LINE)
    {
        bail!("--write-config: {} exists and was not written by inspect-data; choose another name", file.display());
    }
    std::fs::write(file, text(found, config, s)?).with_context(|| file.display().to_string())
}

fn text(found: &Suggestion, config: &Config, s: &Survey) -> anyhow::Result<String> {
    let list = |v: &[f64]| v.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(", ");
    let mut text = format!("{FIRST_LINE} from {} images.\n", found.images);
    text += "# `selfpatch train --config FILE` uses it; flags and --set overrule it.\n\n[data]\n";
    writeln!(text, "path = {}", Value::String(config.data.path.clone()))?;
    if found.others > 0 {
        writeln!(text, "# {} images have another number of channels and cannot be used with it.", found.others)?;
    }
    writeln!(text, "channels = {}", found.channels)?;
    match range(found) {
        Some(range) => {
            let met: Vec<String> = found.met.iter().map(|[l, m]| format!("{l} to {m}")).collect();
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

/// A number with as many digits as tell it from its neighbours in single precision.
fn short(v: f32) -> f64 {
    v.to_string().parse().unwrap_or_else(|_| f64::from(v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_for_each_channel_is_written() {
        let range = Some(vec![[10., 9990.], [7., 8.]]);
        let found = Suggestion { channels: 2, range, met: vec![], images: 2, others: 1 };
        assert_eq!(settings(&found)[1].1.to_string(), "[[10.0, 9990.0], [7.0, 8.0]]");
    }
}
