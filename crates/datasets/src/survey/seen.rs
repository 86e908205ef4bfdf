//! One image of a survey.

use crate::decode::{Decoding, Format, Header, Notes};
use crate::frame::{Image, Samples};
use crate::source::{Content, ImageSource};
use std::panic::catch_unwind;

/// One image.
pub struct Seen {
    pub index: usize,
    pub bytes: usize,
    pub header: Option<Header>,
    pub mislabelled: Option<String>,
    pub result: Result<Facts, String>,
}

/// One image that can be used.
pub struct Facts {
    pub width: usize,
    pub height: usize,
    /// What of it was left out.
    pub notes: Notes,
    /// Mean, mean square, least and greatest value of each channel, between 0 and 1.
    pub channels: Vec<[f64; 4]>,
}

/// Reads and decodes image `index`.
pub fn see(source: &dyn ImageSource, decoding: &Decoding, index: usize) -> Seen {
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

/// Format, channels and bits in words.
pub fn kind(header: Option<Header>, facts: &Facts) -> String {
    let plural = |n: usize| if n == 1 { "1 channel".to_string() } else { format!("{n} channels") };
    match header {
        Some(h) => format!("{}, {}, {} bits", h.format.name(), plural(h.channels), h.bits),
        None => format!("pixels, {}", plural(facts.channels.len())),
    }
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
}
