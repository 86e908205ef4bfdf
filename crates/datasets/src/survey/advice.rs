//! What a user should know about the settings.

use super::found::Survey;
use super::seen::Seen;
use crate::decode::{Decoding, Range, Raw};
use crate::source::{Content, ImageSource};
use std::panic::catch_unwind;

/// Settings that take images as they are of which RGB bytes leave something out, or which cannot be RGB. They are those
/// of the first such image; one that cannot be read at all has none.
pub fn of_depth(source: &dyn ImageSource, decoding: &Decoding, all: &[Seen]) -> Option<String> {
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
/// non-finite values.
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

/// What the values say about the settings.
pub fn advice(s: &Survey, decoding: &Decoding) -> Vec<String> {
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
}
